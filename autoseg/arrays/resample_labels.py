"""Resample label maps to another grid, as nnU-Net does, at a cost that does not grow with the number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.resample import linear_taps, nearest_index, separate_axis
from autoseg.records import Shape, Spacing

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
    resampled = labels[np.ix_(*(nearest_index(n_in, n_out) for n_in, n_out in zip(labels.shape, shape, strict=True)))]
    changing = [axis for axis in range(3) if labels.shape[axis] != shape[axis]]
    if order == 0 or not changing:
        return resampled
    taps = [linear_taps(n_in, n_out) for n_in, n_out in zip(labels.shape, shape, strict=True)]
    at_border = _disagreeing_cells(labels, changing)[np.ix_(*(low for low, _, _ in taps))]
    flat = np.flatnonzero(at_border)
    for start in range(0, len(flat), _VOTERS):
        voxels = flat[start : start + _VOTERS]
        index = np.unravel_index(voxels, shape)
        resampled.reshape(-1)[voxels] = _vote(labels, taps, index, resampled.reshape(-1)[voxels], changing)
    return resampled


def _disagreeing_cells(labels: NDArray[np.int16], axes: Sequence[int]) -> NDArray[np.bool_]:
    """For each voxel as the lower corner of a cell: whether the corners of that cell, along these axes, differ."""
    smallest, largest = labels, labels
    for axis in axes:
        upper = np.minimum(np.arange(labels.shape[axis]) + 1, labels.shape[axis] - 1)
        smallest = np.minimum(smallest, smallest.take(upper, axis=axis))
        largest = np.maximum(largest, largest.take(upper, axis=axis))
    differ: NDArray[np.bool_] = smallest != largest
    return differ


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
