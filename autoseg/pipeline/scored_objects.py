"""Scores of objects that are counted one by one, beside those of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.instance_maps import instance_map_of, read_scene
from autoseg.dataset.layouts import LABEL_FOLDERS, TEST_LABEL_FOLDERS
from autoseg.dataset.readers import read_labels
from autoseg.errors import DatasetError
from autoseg.evaluation.instances import Scene, score_scene
from autoseg.records import Case, CaseScore, Labels


def counted_reference(reference: Case, known: Case | None, labels: Labels) -> Case:
    """The reference with its map of objects, or as it is where it has none.

    Of the dataset's own files the `known` case tells which is which. Beside any other label map the ids may lie in a
    folder below, as they do beside our masks; or the file is the map of ids, where there is one kind of objects and
    nothing else that a label map could tell.
    """
    if reference.labels is None:
        return reference
    if known is not None and _is_of(reference.labels, known):
        return reference.model_copy(update={"instances": known.instances, "labels": known.labels})
    alone, below = len(labels.classes) == 1, instance_map_of(reference.labels)
    if below is None and not alone:
        return reference
    kinds = None if alone and labels.ignore is None else reference.labels
    return reference.model_copy(update={"instances": below or reference.labels, "labels": kinds})


def _is_of(file: Path, known: Case) -> bool:
    """Whether a file lies among those of the dataset's case, be it a label map that the dataset has no need of."""
    if known.instances is None:
        return False
    folder, own = file.parent.resolve(), known.instances.parent.resolve()
    return folder == own or (folder.parent == own.parent and folder.name in (*LABEL_FOLDERS, *TEST_LABEL_FOLDERS))


def with_objects(
    score: CaseScore, mask_path: Path, mask: NDArray[np.generic], reference: Case, labels: Labels
) -> CaseScore:
    """The scores of a case with those of its objects, where they are counted and an instance map lies below the mask.

    Raises DatasetError where the instance map lies on another grid.
    """
    ids_path = instance_map_of(mask_path) if labels.things else None
    if ids_path is None or reference.instances is None:
        return score
    ids, values, _ = read_scene(reference, labels)
    found = read_labels(ids_path).labels
    if found.shape != ids.shape or found.dtype.kind not in "iu":
        raise DatasetError(
            f"the instance map has shape {found.shape} and type {found.dtype}, the reference {ids.shape}",
            where=ids_path,
            remedy="It must hold whole numbers on the grid of the reference.",
        )
    names = {name: members for name, members in labels.classes.items() if name in score.labels}
    ignored = None if labels.ignore is None else values == labels.ignore
    predicted = Scene(found, mask)  # type: ignore[arg-type]
    counted = score_scene(Scene(ids, values), predicted, names, labels.things, ignored)
    entries = {name: entry.model_copy(update={"instances": counted.get(name)}) for name, entry in score.labels.items()}
    return score.model_copy(update={"labels": entries})
