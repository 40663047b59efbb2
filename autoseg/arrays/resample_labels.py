"""Resample label maps to another grid, as nnU-Net does, at a cost that does not grow with the number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.crop import bounding_box
from autoseg.arrays.resample import linear_taps, nearest_index, separate_axis
from autoseg.records import Shape, Spacing

ScalarT = TypeVar("ScalarT", bound=np.generic)

#: Voxels at label borders that are decided together, to bound memory.
_VOTERS = 1 << 17

#: Scores closer than this are equal: they differ by the rounding of the sums alone.
_TIE = 1e-12


def resample_labels(
    labels: NDArray[np.int16], shape: Shape, current_spacing: Spacing, new_spacing: Spacing, order: Literal[0, 1] = 1
) -> NDArray[np.int16]:
    """The label map (Z, Y, X) on a grid of `shape`, same type.

    Order 1: each label's indicator is interpolated linearly and the largest wins; of equal ones the nearest
    neighbour's label if it is among them, else the smallest (nnU-Net with batchgenerators 0.25.5). A voxel whose
    neighbours all agree has their label, so only those at a border are computed: the cost does not grow with the
    number of labels. Order 0 takes the nearest neighbour. The map itself is returned if the shape does not change.
    """
    if labels.shape == shape:
        return labels
    apart = separate_axis(current_spacing, new_spacing)
    if apart is not None:
        # slices are resized one by one and then chosen: choosing first is the same
        labels = labels.take(nearest_index(labels.shape[apart], shape[apart]), axis=apart)
    resampled = _take(labels, [nearest_index(n_in, n_out) for n_in, n_out in zip(labels.shape, shape, strict=True)])
    changing = [axis for axis in range(3) if labels.shape[axis] != shape[axis]]
    if order == 0 or not changing:
        return resampled
    taps = [linear_taps(n_in, n_out) for n_in, n_out in zip(labels.shape, shape, strict=True)]
    voxels = _voxels_in_cells(_disagreeing_cells(labels, changing), [low for low, _, _ in taps])
    for start in range(0, len(voxels[0]), _VOTERS):
        index = tuple(place[start : start + _VOTERS] for place in voxels)
        resampled[index] = _vote(labels, taps, index, resampled[index], changing)
    return resampled


def _take(array: NDArray[ScalarT], places: Sequence[NDArray[np.intp]]) -> NDArray[ScalarT]:
    """The array at these indices of each axis; taking axis by axis moves whole rows where numpy's ix_ moves voxels."""
    for axis in range(3):
        if not np.array_equal(places[axis], np.arange(array.shape[axis])):
            array = array.take(places[axis], axis=axis)
    return array


def _disagreeing_cells(labels: NDArray[np.int16], axes: Sequence[int]) -> NDArray[np.bool_]:
    """For each voxel as the lower corner of a cell: whether the corners of that cell, along these axes, differ."""
    smallest, largest = labels.copy(), labels.copy()
    for axis in axes:
        lower, upper = _but_last(axis), _but_first(axis)
        smallest[lower] = np.minimum(smallest[lower], smallest[upper])
        largest[lower] = np.maximum(largest[lower], largest[upper])
    return np.not_equal(smallest, largest)


def _but_last(axis: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(None, -1),)


def _but_first(axis: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(1, None),)


def _voxels_in_cells(
    cells: NDArray[np.bool_], lower_corners: Sequence[NDArray[np.intp]]
) -> tuple[NDArray[np.intp], ...]:
    """Output voxels (indices per axis) that lie in the chosen cells; `lower_corners` gives each voxel's cell."""
    if not cells.any():
        return tuple(np.zeros(0, dtype=np.intp) for _ in range(3))
    box = bounding_box(cells)
    # the lower corners ascend, so the voxels of a box of cells are a box too: the rest need not be looked at
    spans = [np.searchsorted(low, limits) for low, limits in zip(lower_corners, box, strict=True)]
    chosen = _take(cells, [low[first:last] for low, (first, last) in zip(lower_corners, spans, strict=True)])
    return tuple(place + first for place, (first, _) in zip(np.nonzero(chosen), spans, strict=True))


def _vote(
    labels: NDArray[np.int16],
    taps: Sequence[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]],
    index: tuple[NDArray[np.intp], ...],
    nearest: NDArray[np.int16],
    axes: Sequence[int],
) -> NDArray[np.int16]:
    """The winning label of some output voxels: their corners vote with their interpolation weights."""
    corners, weights = [], []
    for choice in product((False, True), repeat=len(axes)):
        place = list(index)
        weight = np.ones(len(nearest))
        for axis, upper in zip(axes, choice, strict=True):
            low, high, share = taps[axis]
            place[axis] = (high if upper else low)[index[axis]]
            weight *= (share if upper else 1.0 - share)[index[axis]]
        corners.append(labels[tuple(place)])
        weights.append(weight)
    votes, weight_of = np.stack(corners), np.stack(weights)
    scores = np.stack([np.where(votes == vote, weight_of, 0.0).sum(axis=0) for vote in votes])
    tied = scores >= scores.max(axis=0) - _TIE
    smallest: NDArray[np.int16] = np.where(tied, votes, np.iinfo(votes.dtype).max).min(axis=0)
    return np.where((tied & (votes == nearest)).any(axis=0), nearest, smallest)
