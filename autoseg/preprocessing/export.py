"""Scores on another grid, turned into labels or probabilities slab by slab."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.resample import apply_maps, axis_maps, separate_axis, slab_maps
from autoseg.errors import PlanError
from autoseg.records import Labels, Shape, Spacing

#: Voxels of the output that are worked on at a time.
_SLAB_VOXELS = 1 << 20


def labels_on_grid(
    scores: NDArray[np.float32],
    shape: Shape,
    current_spacing: Spacing,
    new_spacing: Spacing,
    labels: Labels,
    order: Literal[0, 1],
) -> NDArray[np.unsignedinteger]:
    """Training labels (Z, Y, X) on a grid of `shape` from scores (K, Z, Y, X) on another.

    Of equal scores the first label wins. Regions: a probability above 1/2 is a score above 0.
    """
    values = _region_values(labels)
    found = np.zeros(shape, dtype=np.min_scalar_type(len(labels.values)))
    for rows, slab in _slabs(scores, shape, current_spacing, new_spacing, order):
        winner = found[rows]
        best: NDArray[np.float32] | None = None
        for head, part in enumerate(slab):
            if values is not None:
                winner[part > 0] = values[head]
            elif best is None:
                best = part.copy()
            else:
                higher = part > best
                # heads ascend, so the maximum writes this one: several times faster than a masked assignment
                np.maximum(winner, np.multiply(higher, head, dtype=winner.dtype), out=winner)
                np.maximum(best, part, out=best)
    return found


def probabilities_on_grid(
    scores: NDArray[np.float32],
    shape: Shape,
    current_spacing: Spacing,
    new_spacing: Spacing,
    labels: Labels,
    order: Literal[0, 1],
) -> NDArray[np.float32]:
    """Probabilities (K, Z, Y, X) on a grid of `shape`: softmax of the interpolated scores, sigmoid with regions."""
    found = np.empty((scores.shape[0], *shape), dtype=np.float32)
    for rows, slab in _slabs(scores, shape, current_spacing, new_spacing, order):
        part = found[:, rows]
        for head, values in enumerate(slab):
            part[head] = values
        if labels.has_regions:
            # tanh never overflows, unlike the exponential of a large negative score
            part[...] = 0.5 * (1 + np.tanh(0.5 * part))
        else:
            part -= part.max(axis=0)
            np.exp(part, out=part)
            part /= part.sum(axis=0)
    return found


def _slabs(
    scores: NDArray[np.float32],
    shape: Shape,
    current_spacing: Spacing,
    new_spacing: Spacing,
    order: Literal[0, 1],
) -> Iterator[tuple[slice, Iterator[NDArray[np.float32]]]]:
    """Slabs of output slices: which, and the interpolated scores (z, Y, X) of one head after the other."""
    maps = axis_maps(scores.shape[1:], shape, order, separate_axis(current_spacing, new_spacing))
    thickness = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], thickness):
        stop = min(start + thickness, shape[0])
        columns, local = slab_maps(maps, start, stop)
        yield slice(start, stop), (apply_maps(head[columns], local) for head in scores)


def _region_values(labels: Labels) -> tuple[int, ...] | None:
    """For each region the training label that it writes; None without regions."""
    if not labels.has_regions or labels.regions_class_order is None:
        return None
    unknown = [value for value in labels.regions_class_order if value not in labels.values]
    if unknown:
        raise PlanError(
            f"regions_class_order names the values {unknown}, which no label has",
            remedy="Use values of the labels in dataset.json.",
        )
    return tuple(labels.values.index(value) for value in labels.regions_class_order)
