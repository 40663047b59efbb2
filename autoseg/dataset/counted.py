"""Datasets whose objects are counted one by one: which labels they are of, and how deep their cores begin.

A dataset has objects where dataset.json says so ("instances"), or where it has a folder of instance maps beside its
images. What kind each object is of, the label map tells; where there is one kind only, no label map is needed.

    "instances": true             each label is counted
    "instances": ["nucleus"]      these labels are counted, the others are regions without objects
    "instances": "nucleus"        all objects are of this one label, whatever the label maps hold
    "instances": false            instance maps are not read
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.components import pieces_of
from autoseg.arrays.cores import deepest, depths
from autoseg.dataset.instance_maps import ids_of
from autoseg.dataset.readers import read_labels
from autoseg.errors import DatasetError
from autoseg.records import Case, Labels

#: What dataset.json says of objects; None where it says nothing.
Counted = bool | str | tuple[str, ...] | None

#: The label of objects to which nobody gave a name.
OBJECT = "object"

#: Cases whose objects are measured to find out how deep cores begin.
MEASURED_CASES = 8

#: What is smaller than this share of the volume that all but so many per cent of the objects exceed, is no object. With
#: an IoU of a half or more an object and what is found of it differ by a factor of two at most.
SMALLEST_SHARE = 0.5
SMALLEST_PERCENTILE = 5

#: How deep cores begin, as a share of the depth of the median object. A disc keeps 56 % of its pixels as its core, a
#: ball 42 % of its voxels, and the cores of two that touch are half a radius apart.
MARGIN_SHARE = 0.25


@dataclass(frozen=True)
class CountedDataset:
    """Labels and cases of a dataset with objects, and notes for the user."""

    labels: Labels
    cases: tuple[Case, ...]
    test: tuple[Case, ...]
    notes: tuple[str, ...]


def has_objects(counted: Counted, cases: Sequence[Case]) -> bool:
    """Whether the objects of a dataset are counted: as it says, or by its instance maps."""
    return counted not in (None, False) or (counted is None and any(case.instances is not None for case in cases))


def without_objects(cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases without their instance maps."""
    return tuple(case if case.instances is None else case.model_copy(update={"instances": None}) for case in cases)


def counted_dataset(
    counted: Counted, declared: Labels | None, cases: Sequence[Case], test: Sequence[Case], root: Path
) -> CountedDataset:
    """What a dataset with objects is made of.

    Raises DatasetError where labels are named that there are not, or cannot be counted, and where ids and labels would
    have to be in one file.
    """
    if any(case.label_files for case in cases):
        raise DatasetError(
            "has one file per label, and its objects are to be counted",
            where=root,
            remedy='Put label maps into labelsTr and ids into instancesTr, or say "instances": false.',
        )
    in_folder = any(case.instances is not None for case in cases)
    plain, things = _things(counted, declared, in_folder, root)
    one_kind = len(plain.foreground) == 1 and plain.ignore is None  # then no label map has anything to tell
    kept = [tuple(_with_files(case, in_folder, one_kind) for case in part) for part in (cases, test)]
    margin, smallest, measured = _measured([case.instances for case in kept[0] if case.instances is not None])
    notes = [_told(things, plain, in_folder), *measured]
    if counted is None and in_folder and one_kind and any(case.labels is not None for case in cases):
        notes.append(
            "the label maps are not read, as dataset.json does not say which labels are counted: "
            'say "instances": true, or name them'
        )
    return CountedDataset(with_cores(plain, things, margin, smallest), kept[0], kept[1], tuple(notes))


def with_cores(plain: Labels, things: Sequence[str], margin_mm: float, smallest_mm3: float = 0.0) -> Labels:
    """The labels with a second value for the core of each thing, above all values of theirs.

    `plain` are labels of one value each; the names of the regions of cores end in "core".
    """
    above = max(*plain.values, plain.ignore or 0) + 1
    cores = {name: above + number for number, name in enumerate(things)}
    names: dict[str, int | tuple[int, ...]] = {}
    for name, value in plain.names.items():
        if name in cores and isinstance(value, int):
            names[name] = (value, cores[name])
        else:
            names[name] = value
    regions = {name: _core_name(name, plain) for name in things}
    names |= {regions[name]: cores[name] for name in things}
    return Labels(
        names=names,
        ignore=plain.ignore,
        things=regions,
        core_margin_mm=margin_mm,
        smallest_object_mm3=smallest_mm3,
    )


def _core_name(name: str, plain: Labels) -> str:
    wanted = f"{name} core"
    while wanted in plain.names:
        wanted += " of objects"
    return wanted


# ----------------------------------------------------------------------------------------------------- recognition


def _things(counted: Counted, declared: Labels | None, in_folder: bool, root: Path) -> tuple[Labels, tuple[str, ...]]:
    """The labels as a user names them, and those of them that are counted."""
    if isinstance(counted, str):
        return _only(counted), (counted,)
    alone = declared is None or len(declared.foreground) == 1
    if declared is None or (counted is None and not alone):
        if isinstance(counted, tuple):
            raise _bad(root, f"it names {', '.join(counted)}, but no labels are declared")
        return _only(OBJECT), (OBJECT,)
    things = counted if isinstance(counted, tuple) else tuple(declared.foreground)
    for name in things:
        if name not in declared.foreground:
            raise _bad(root, f"{name!r} is no label; labels are {', '.join(declared.foreground)}")
    if not things:
        raise _bad(root, "it names no label")
    if declared.has_regions:
        raise _bad(root, "labels that are lists of values cannot be counted")
    if not in_folder and not alone:
        raise DatasetError(
            f"field instances: {len(declared.foreground)} labels are declared, but the label maps hold ids of objects",
            where=root,
            remedy="Put the ids into instancesTr, and into labelsTr what each voxel is; or declare one label.",
        )
    return declared, things


def _only(name: str) -> Labels:
    return Labels(names={"background": 0, name: 1})


def _bad(root: Path, what: str) -> DatasetError:
    return DatasetError(f"field instances: {what}", where=root, remedy="Correct this field of dataset.json.")


def _with_files(case: Case, in_folder: bool, one_kind: bool) -> Case:
    """The case with its ids in `instances`, and with its label map where that tells something."""
    if not in_folder:
        return case.model_copy(update={"instances": case.labels, "labels": None})
    if one_kind or case.instances is None:  # a case without ids has no labels that could be learned from
        return case.model_copy(update={"labels": None})
    return case


def _measured(files: Sequence[Path]) -> tuple[float, float, tuple[str, ...]]:
    """How deep in mm cores begin, how large in mm3 an object is at least, and why; from some of the cases."""
    step = max(1, len(files) // MEASURED_CASES)
    depth_of: list[NDArray[np.floating]] = [np.zeros(0)]
    volume_of: list[NDArray[np.floating]] = [np.zeros(0)]
    edges = []
    for path in files[::step][:MEASURED_CASES]:
        try:
            label_map = read_labels(path)
            pieces, count = pieces_of(ids_of(label_map, path))
        except DatasetError:
            continue  # the check of the cases reports it
        spacing = label_map.geometry.spacing
        edges.append(min(spacing))
        depth_of.append(deepest(pieces, depths(pieces, spacing), count)[1:])
        volume_of.append(np.bincount(pieces[pieces > 0], minlength=count + 1)[1:] * 1000 * label_map.geometry.voxel_ml)
    every, volumes = np.concatenate(depth_of), np.concatenate(volume_of)
    every = every[np.isfinite(every)]
    finest = min(edges, default=1.0)
    if not every.size:
        return finest, 0.0, (f"cores of objects begin {finest:g} mm deep, one voxel: no object could be measured",)
    median = float(np.median(every))
    margin = max(finest, MARGIN_SHARE * median)
    why = f"a quarter of the depth of the median of {every.size} objects ({median:.3g} mm)"
    smallest = SMALLEST_SHARE * float(np.percentile(volumes, SMALLEST_PERCENTILE))
    return (
        margin,
        smallest,
        (
            f"cores of objects begin {margin:.3g} mm deep: {why if margin > finest else 'one voxel'}",
            f"what is smaller than {smallest:.3g} mm3 is no object: half of what 95 of 100 of them exceed",
        ),
    )


def _told(things: Sequence[str], plain: Labels, in_folder: bool) -> str:
    where = "instancesTr" if in_folder else "the label maps"
    stuff = [name for name in plain.foreground if name not in things]
    rest = f"; {', '.join(stuff)} without objects" if stuff else ""
    return f"objects are counted one by one, by the ids in {where}: {', '.join(things)}{rest}"
