"""Scores on another grid, turned into labels or probabilities as they come: never the scores of the whole grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.resample import separate_axis
from autoseg.errors import PlanError
from autoseg.records import Labels, Shape, Spacing

if TYPE_CHECKING:  # only who predicts has to wait for torch
    from autoseg.arrays.resample_scores_torch import AxisTaps, Slab

#: Planes of scores that are handed on together where all are there at once.
SLAB_PLANES = 8


def in_slabs(scores: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Scores (K, Z, Y, X) in slabs along Z."""
    for start in range(0, scores.shape[1], SLAB_PLANES):
        yield scores[:, start : start + SLAB_PLANES]


def labels_on_grid(
    slabs: Iterable[Slab],
    source_shape: Shape,
    shape: Shape,
    current_spacing: Spacing,
    new_spacing: Spacing,
    labels: Labels,
    order: Literal[0, 1],
    slice_order: Literal[0, 1] = 0,
) -> NDArray[np.integer]:
    """Training labels (Z, Y, X) on a grid of `shape` from slabs of scores (K, planes, Y, X) on one of `source_shape`.

    `slice_order` is the order along an axis that is much coarser than the others (`arrays.resample.separate_axis`): 0
    takes its nearest planes. Of equal scores the first label wins. Regions with an order write their values one after
    the other where their probability is above 1/2, a score above 0; without an order the most likely value wins
    (`score_terms`).
    """
    from autoseg.arrays.resample_scores_torch import added
    from autoseg.arrays.resample_winners_torch import highest, last_positive, winners_on_grid

    taps = score_taps(source_shape, shape, current_spacing, new_spacing, order, slice_order)
    values = _region_values(labels)
    if values is not None:
        regions = winners_on_grid(slabs, taps, last_positive, labels.heads + 1)
        table: NDArray[np.integer] = np.asarray((0, *values), dtype=np.min_scalar_type(len(labels.values)))
        written: NDArray[np.integer] = table[regions]
        return written
    terms = score_terms(labels)
    return winners_on_grid(added(slabs, terms) if labels.has_regions else slabs, taps, highest, len(terms))


def probabilities_in_planes(
    slabs: Iterable[Slab],
    source_shape: Shape,
    shape: Shape,
    current_spacing: Spacing,
    new_spacing: Spacing,
    labels: Labels,
    order: Literal[0, 1],
    slice_order: Literal[0, 1] = 0,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Probabilities (K, planes, Y, X) on a grid of `shape` with their first plane; the same portions for all slabs.

    Softmax of the interpolated scores, sigmoid with regions.
    """
    from autoseg.arrays.resample_scores_torch import probabilities_on_grid

    taps = score_taps(source_shape, shape, current_spacing, new_spacing, order, slice_order)
    return probabilities_on_grid(slabs, taps, independent=labels.has_regions)


def whole_probabilities(
    slabs: Iterable[Slab],
    source_shape: Shape,
    shape: Shape,
    current_spacing: Spacing,
    new_spacing: Spacing,
    labels: Labels,
    order: Literal[0, 1],
    slice_order: Literal[0, 1] = 0,
) -> NDArray[np.float32]:
    """Probabilities (K, Z, Y, X) on a grid of `shape`, all at once."""
    found = np.empty((labels.heads, *shape), dtype=np.float32)
    for first, planes in probabilities_in_planes(
        slabs, source_shape, shape, current_spacing, new_spacing, labels, order, slice_order
    ):
        found[:, first : first + planes.shape[1]] = planes
    return found


def score_taps(
    source_shape: Shape,
    shape: Shape,
    current_spacing: Spacing,
    new_spacing: Spacing,
    order: Literal[0, 1],
    slice_order: Literal[0, 1],
) -> AxisTaps:
    """Which scores, in which shares, make those of a grid of `shape`."""
    from autoseg.arrays.resample_scores_torch import grid_taps

    return grid_taps(source_shape, shape, _orders(current_spacing, new_spacing, order, slice_order))


def _orders(
    current_spacing: Spacing, new_spacing: Spacing, order: Literal[0, 1], slice_order: Literal[0, 1]
) -> tuple[Literal[0, 1], ...]:
    """The order per axis: an axis that is much coarser than the others has its own."""
    apart = separate_axis(current_spacing, new_spacing)
    return tuple(min(order, slice_order) if axis == apart else order for axis in range(3))


def score_terms(labels: Labels) -> tuple[tuple[int, ...], ...]:
    """For each score that competes or writes, the network outputs that are added up to make it.

    Plain labels and ordered regions: the outputs themselves. Regions without an order: one score per value of the
    labels, the sum of the logits of its regions. That is the log-likelihood of the value, up to what all values have
    in common, where regions are independent given the image: sum of log p over its regions and of log(1 - p) over the
    others, less the sum of log(1 - p) over all.
    """
    if labels.has_regions and labels.regions_class_order is None:
        return tuple(tuple(int(region) for region in np.flatnonzero(row)) for row in labels.value_membership)
    return tuple((head,) for head in range(labels.heads))


def _region_values(labels: Labels) -> tuple[int, ...] | None:
    """For each region the training label that it writes; None without regions or without their order."""
    if not labels.has_regions or labels.regions_class_order is None:
        return None
    unknown = [value for value in labels.regions_class_order if value not in labels.values]
    if unknown:
        raise PlanError(
            f"regions_class_order names the values {unknown}, which no label has",
            remedy="Use values of the labels in dataset.json.",
        )
    return tuple(labels.values.index(value) for value in labels.regions_class_order)
