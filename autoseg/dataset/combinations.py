"""Labels that share voxels: which combinations the files of a case hold, and a label value for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.geometry import DIFFERENT_GRID_VOXELS, corner_distance_mm, smallest_voxel_edge
from autoseg.dataset.readers import read_named_labels
from autoseg.errors import DatasetError
from autoseg.records import MOST_LABELS, Geometry, Labels

#: Names of the labels that a voxel belongs to.
Combination = frozenset[str]


def with_combinations(labels: Labels, names: Collection[str], found: Iterable[Combination]) -> Labels:
    """The labels with a value for each combination of file names that has none yet.

    `names` are those for which there are files. A region without a file gets the combinations that hold one of its
    parts. Equal sets of combinations give equal labels. An ignore label right above all values stays there.
    Raises DatasetError where there are more combinations than training labels can count.
    """
    new = sorted(sorted(one) for one in set(found) if one and value_of(one, names, labels) is None)
    if not new:
        return labels
    if len(labels.values) + len(new) > MOST_LABELS:
        raise _too_many(None)
    value = max(*labels.values, labels.ignore or 0) + 1
    if labels.ignore is not None and labels.ignore == max(labels.values) + 1:
        value = labels.ignore
    members = {name: _members(labels, name) for name in labels.foreground}
    grown = {name: list(values) for name, values in members.items()}
    for number, one in enumerate(new):
        for name in members:
            parts = any(set(members[part]) <= set(members[name]) for part in one)
            if name in one or (name not in names and parts):
                grown[name].append(value + number)
    entries: dict[str, int | tuple[int, ...]] = {"background": 0}
    for name, values in labels.names.items():
        if name in grown:
            entries[name] = tuple(grown[name]) if len(grown[name]) > len(members[name]) else values
    ignore = labels.ignore
    if ignore is not None and ignore == value:
        ignore = value + len(new)
    return Labels(names=entries, ignore=ignore, regions_class_order=None)


def _too_many(where: Path | None) -> DatasetError:
    return DatasetError(
        f"the label files share voxels in more than {MOST_LABELS} ways",
        where=where,
        remedy="Declare fewer labels in dataset.json, or merge those that overlap at random.",
    )


def _members(labels: Labels, name: str) -> tuple[int, ...]:
    return tuple(labels.values[position] for position in labels.foreground[name])


def value_of(one: Combination, names: Collection[str], labels: Labels) -> int | None:
    """The value whose voxels belong to these labels and, of those in `names`, to no other; None if there is none.

    Of several the one in the fewest labels is meant: no more than the files tell.
    """
    if not one:
        return 0
    membership = labels.value_membership
    order = list(labels.foreground)
    asked = [position for position, name in enumerate(order) if name in names]
    wanted = np.array([order[position] in one for position in asked])
    fitting = np.flatnonzero((membership[:, asked] == wanted).all(axis=1))
    if fitting.size == 0:
        return None
    return labels.values[int(min(fitting, key=lambda position: int(membership[position].sum())))]


@dataclass(frozen=True, eq=False)
class Combined:
    """The label files of a case, read: which combination each voxel has."""

    codes: NDArray[np.uint16]  # (Z, Y, X), axes as stored
    combinations: tuple[Combination, ...]  # of each code; some may occur no more
    geometry: Geometry
    notes: tuple[str, ...]

    def occurring(self) -> list[int]:
        """Codes of some voxel."""
        return [int(code) for code in np.flatnonzero(np.bincount(self.codes.ravel()))]


def read_combined(files: Sequence[tuple[str, Path]], image: Path | None = None) -> Combined:
    """Read the files one after the other; memory holds the codes and one file. `image` is what they were drawn on.

    Raises ReadError, or DatasetError naming the file that lies on another grid than the first.
    """
    combinations: list[Combination] = [frozenset()]
    place: dict[Combination, int] = {frozenset(): 0}
    codes: NDArray[np.uint16] | None = None
    first: tuple[Path, Geometry] | None = None
    notes: list[str] = []
    for name, path, label_map in read_named_labels(files, image):
        if codes is None or first is None:
            first, codes = (path, label_map.geometry), np.zeros(label_map.labels.shape, dtype=np.uint16)
        else:
            _check_grid(*first, path, label_map.geometry)
        notes.extend(f"{path.name}: {note}" for note in label_map.notes)
        # places instead of a mask: most labels are small
        inside = np.flatnonzero(np.asarray(label_map.labels) > 0)
        before = codes.reshape(-1)[inside]
        values = np.unique(label_map.labels.reshape(-1)[inside])
        if values.size > 1:
            notes.append(f"{path.name}: all its {values.size} values above 0 mean {name}")
        moved = np.zeros(len(combinations), dtype=np.uint16)
        for code in np.flatnonzero(np.bincount(before)):
            joined = combinations[int(code)] | {name}
            if joined not in place:
                if len(combinations) > MOST_LABELS:
                    raise _too_many(path.parent)
                place[joined] = len(combinations)
                combinations.append(joined)
            moved[code] = place[joined]
        codes.reshape(-1)[inside] = moved[before]
    if codes is None or first is None:
        raise DatasetError("a case without label files")
    return Combined(codes, tuple(combinations), first[1], tuple(notes))


def _check_grid(first_path: Path, first: Geometry, path: Path, geometry: Geometry) -> None:
    remedy = "Export the label files of a case on one grid."
    if geometry.shape != first.shape:
        what = f"this label file has shape {geometry.shape} (Z, Y, X), but {first_path.name} has {first.shape}"
        raise DatasetError(what, where=path, remedy=remedy)
    distance = corner_distance_mm(first, geometry)
    if distance > DIFFERENT_GRID_VOXELS * smallest_voxel_edge(first):
        what = f"this label file lies {distance:.1f} mm away from {first_path.name}"
        raise DatasetError(what, where=path, remedy=remedy)
