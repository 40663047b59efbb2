"""Where the labels of a case lie and how far they reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.orientation import Orientation
from autoseg.records import Labels, Shape

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class LabelPlaces:
    """Per label or region that a case has: centre and size, both in oriented axes (Z, Y, X)."""

    centres: dict[str, tuple[float, float, float]]  # centre of mass, 0..1 between the faces of the crop
    extents: dict[str, Shape]  # edges of the bounding box in voxels


def label_places(
    indices: NDArray[np.integer], places: NDArray[np.intp], shape: Shape, labels: Labels, orientation: Orientation
) -> LabelPlaces:
    """Centres and extents from the foreground voxels of a crop.

    Args:
        indices: training label (1 or more) of each foreground voxel, (N,).
        places: the voxels' places in the flattened crop, ascending, (N,).
        shape: of the crop, axes as stored.
        labels: the dataset's labels; regions are the union of their members.
        orientation: how stored axes become oriented ones.
    """
    if places.size == 0:
        return LabelPlaces({}, {})
    stored = _counts_along_axes(indices, places, shape, len(labels.values))
    oriented = [
        stored[axis][:, ::-1] if flip else stored[axis]
        for axis, flip in zip(orientation.axes, orientation.flips, strict=True)
    ]
    centres, extents = {}, {}
    for name, members in labels.foreground.items():
        z, y, x = (_together(counts, members) for counts in oriented)
        if x.any():
            centres[name] = (_centre(z), _centre(y), _centre(x))
            extents[name] = (_extent(z), _extent(y), _extent(x))
    return LabelPlaces(centres, extents)


def _counts_along_axes(
    indices: NDArray[np.integer], places: NDArray[np.intp], shape: Shape, rows: int
) -> tuple[Counts, Counts, Counts]:
    """Per axis (Z, Y, X) as stored the voxels of each training label in each plane: (labels, planes of the axis)."""
    depth, height, width = shape
    label, line, first, last = _runs(indices, places, width)
    z, y = np.divmod(line, height)

    def summed(cells: NDArray[np.intp], length: int, weights: NDArray[np.intp] | None = None) -> Counts:
        sums = np.bincount(cells, weights, minlength=rows * length)
        return sums.astype(np.int64).reshape(rows, length)

    # along the lines: one more from the beginning of a run on, one less after its end
    row = label * (width + 1)
    steps = summed(row + first, width + 1) - summed(row + last + 1, width + 1)
    lengths = last - first + 1
    return (
        summed(label * depth + z, depth, lengths),
        summed(label * height + y, height, lengths),
        np.cumsum(steps, axis=1)[:, :-1],
    )


def _runs(
    indices: NDArray[np.integer], places: NDArray[np.intp], width: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Runs of one label along the lines: label, number of the line, and X of the first and the last voxel.

    Labels come in runs, and there are far fewer of them than voxels.
    """
    breaks = np.flatnonzero((np.diff(places) != 1) | (np.diff(indices) != 0))
    starts, ends = np.append(0, breaks + 1), np.append(breaks, len(places) - 1)
    first_line, first = np.divmod(places[starts], width)
    last_line, last = np.divmod(places[ends], width)
    # what goes on from one line to the next is one run in each of them
    pieces = last_line - first_line + 1
    run = np.repeat(np.arange(len(starts)), pieces)
    line = first_line[run] + np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = np.where(line == first_line[run], first[run], 0)
    last = np.where(line == last_line[run], last[run], width - 1)
    return indices[starts][run].astype(np.intp), line, first, last


def _together(counts: Counts, members: tuple[int, ...]) -> Counts:
    together: Counts = counts[members[0]] if len(members) == 1 else counts[list(members)].sum(axis=0)
    return together


def _centre(counts: Counts) -> float:
    middles = (np.arange(len(counts)) + 0.5) / len(counts)
    return float(np.dot(counts, middles) / counts.sum())


def _extent(counts: Counts) -> int:
    present = np.flatnonzero(counts)
    return int(present[-1] - present[0] + 1)
