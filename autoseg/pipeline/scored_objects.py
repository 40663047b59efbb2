"""Scores of objects that are counted one by one, beside those of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.instance_maps import instance_map_of, read_scene
from autoseg.dataset.readers import read_labels
from autoseg.errors import DatasetError
from autoseg.evaluation.instances import Scene, score_scene
from autoseg.records import Case, CaseScore, Labels


def counted_reference(reference: Case, known: Case | None) -> Case:
    """The reference with its map of objects: the dataset's where the case is `known`, else its one file is the map."""
    if known is not None and known.instances is not None:
        return reference.model_copy(update={"instances": known.instances, "labels": known.labels})
    return reference.model_copy(update={"instances": reference.labels, "labels": None})


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
