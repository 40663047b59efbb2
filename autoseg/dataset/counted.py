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
from autoseg.dataset.instance_maps import read_scene
from autoseg.dataset.naming import data_files
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


def left_out(counted: Counted, folder: Path | None, cases: Sequence[Case], *, needed: bool) -> tuple[str, ...]:
    """A note where a folder of instance maps goes with no image, so that its objects are not counted.

    Raises DatasetError where they are asked for, or are all that there is (`needed`).
    """
    files = [] if folder is None or counted is False else data_files(folder)
    if folder is None or not files or not cases or any(case.instances is not None for case in cases):
        return ()
    what = f"none of its {len(files)} files is named like a case: {files[0].name}, where a case is {cases[0].id}"
    if needed or counted is not None:
        raise DatasetError(what, where=folder, remedy="Name each map of ids like the label map of its case.")
    return (f"objects are not counted by the folder {folder.name}: {what}",)


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
    with_ids = [case for case in kept[0] if case.instances is not None]
    margin, smallest, measured = _measured(with_ids, with_cores(plain, things, 0.0))
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
    """The case with its ids in `instances`, and with its label map where that tells something.

    Where one file holds ids and voxels to be ignored, it is both.
    """
    if not in_folder:
        return case.model_copy(update={"instances": case.labels, "labels": None if one_kind else case.labels})
    if one_kind or case.instances is None:  # a case without ids has no labels that could be learned from
        return case.model_copy(update={"labels": None})
    return case


@dataclass(frozen=True, eq=False)
class _Pieces:
    """The connected pieces of all objects of a case."""

    edge: float  # mm, the shortest of a voxel
    depths: NDArray[np.floating]  # mm; infinite for a piece whose surface is outside the image
    volumes: NDArray[np.floating]  # mm3
    values: NDArray[np.integer]  # of their labels
    objects: int
    in_parts: int  # objects of several pieces


def _measured(cases: Sequence[Case], labels: Labels) -> tuple[float, float, tuple[str, ...]]:
    """How deep in mm cores begin, how large in mm3 an object is at least, and why; from some of the cases."""
    step = max(1, len(cases) // MEASURED_CASES)
    found = [one for case in cases[::step][:MEASURED_CASES] if (one := _pieces_of_case(case, labels)) is not None]
    every = np.concatenate([np.zeros(0), *(one.depths for one in found)])
    every = every[np.isfinite(every)]
    finest = min((one.edge for one in found), default=1.0)
    if not every.size:
        return finest, 0.0, (f"cores of objects begin {finest:g} mm deep, one voxel: no object could be measured",)
    median = float(np.median(every))
    margin = max(finest, MARGIN_SHARE * median)
    why = f"a quarter of the depth of the median of {every.size} objects ({median:.3g} mm)"
    smallest, of_which = _smallest(found)
    return (
        margin,
        smallest,
        (
            f"cores of objects begin {margin:.3g} mm deep: {why if margin > finest else 'one voxel'}",
            f"what is smaller than {smallest:.3g} mm3 is no object: half of what 95 of 100 {of_which} exceed",
            *_told_parts(found),
        ),
    )


def _pieces_of_case(case: Case, labels: Labels) -> _Pieces | None:
    """The objects of a case, measured; None where its files cannot be read, which its check reports."""
    try:
        ids, values, label_map = read_scene(case, labels)
    except DatasetError:
        return None
    pieces, count = pieces_of(ids)
    inside, spacing = pieces > 0, label_map.geometry.spacing
    owners, kinds = np.zeros(count + 1, dtype=ids.dtype), np.zeros(count + 1, dtype=values.dtype)
    owners[pieces[inside]], kinds[pieces[inside]] = ids[inside], values[inside]
    parts = np.unique(owners[1:], return_counts=True)[1]
    return _Pieces(
        edge=min(spacing),
        depths=deepest(pieces, depths(pieces, spacing), count)[1:],
        volumes=np.bincount(pieces[inside], minlength=count + 1)[1:] * 1000 * label_map.geometry.voxel_ml,
        values=kinds[1:],
        objects=len(parts),
        in_parts=int(np.count_nonzero(parts > 1)),
    )


def _smallest(found: Sequence[_Pieces]) -> tuple[float, str]:
    """How large in mm3 an object is at least, and of which objects that was taken.

    It is that of the label with the smallest: small objects of one label must not be lost for the number of large ones
    of another.
    """
    volumes, values = (np.concatenate([getattr(one, name) for one in found]) for name in ("volumes", "values"))
    kinds = np.unique(values)
    least = min(float(np.percentile(volumes[values == kind], SMALLEST_PERCENTILE)) for kind in kinds)
    return SMALLEST_SHARE * least, "of them" if len(kinds) == 1 else "of the label with the smallest"


def _told_parts(found: Sequence[_Pieces]) -> tuple[str, ...]:
    """What becomes of objects in several pieces, if there are any."""
    objects, in_parts = sum(one.objects for one in found), sum(one.in_parts for one in found)
    if not in_parts:
        return ()
    mask = ": if one number stands for many objects, as in a mask, number them first" if 2 * in_parts > objects else ""
    return (f"{in_parts} of {objects} objects are in pieces, each of which comes back as an object of its own{mask}",)


def _told(things: Sequence[str], plain: Labels, in_folder: bool) -> str:
    where = "instancesTr" if in_folder else "the label maps"
    stuff = [name for name in plain.foreground if name not in things]
    rest = f"; {', '.join(stuff)} without objects" if stuff else ""
    return f"objects are counted one by one, by the ids in {where}: {', '.join(things)}{rest}"
