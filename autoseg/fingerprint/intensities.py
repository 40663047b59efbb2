"""Distributions of intensities: exact where small, compact where large, and joined with equal weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.records import IntensityStatistics

#: A case's distribution keeps at most so many values. Each then stands for a hundredth of a percent of the voxels, and
#: pooled over the cases quantiles move by far less than by drawing samples.
LARGEST_SIZE = 10_000

#: Whole numbers within a range of so many are counted, which is quicker than sorting.
_COUNTED_RANGE = 1 << 17


@dataclass(frozen=True, eq=False)
class WeightedValues:
    """The distribution of one channel in one case. Mean and variance are exact, whatever was compacted."""

    values: NDArray[np.float32]  # ascending
    counts: NDArray[np.int64]  # voxels that have (about) this value
    mean: float
    variance: float  # of the population
    lowest: float
    highest: float


def weighted_values(samples: NDArray[np.float32]) -> WeightedValues:
    """The distribution of at least one finite intensity."""
    values, counts = _distinct(samples)
    total = int(counts.sum())
    wide = values.astype(np.float64)
    mean = float(np.dot(wide, counts) / total)
    variance = float(np.dot((wide - mean) ** 2, counts) / total)
    lowest, highest = float(values[0]), float(values[-1])
    if len(values) > LARGEST_SIZE:
        values, counts = _compacted(values, counts)
    return WeightedValues(values, counts, mean, variance, lowest, highest)


def _distinct(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    lowest, highest = float(samples.min()), float(samples.max())
    if highest - lowest < _COUNTED_RANGE and samples.size > 4096 and np.array_equal(samples, np.rint(samples)):
        counts = np.bincount((samples - np.float32(lowest)).astype(np.int64))
        present = np.flatnonzero(counts)
        return (present + lowest).astype(np.float32), counts[present].astype(np.int64)
    values, found = np.unique(samples, return_counts=True)
    return values, found.astype(np.int64)


def _compacted(values: NDArray[np.float32], counts: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Neighbouring values joined into bins of about equal counts, each represented by its mean."""
    ends = np.cumsum(counts)
    # the bin of a value follows from the voxels before it, so that frequent values keep a bin of their own
    bins = (ends - counts) * LARGEST_SIZE // ends[-1]
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    joined = np.add.reduceat(counts, starts)
    sums = np.add.reduceat(values.astype(np.float64) * counts, starts)
    return (sums / joined).astype(np.float32), joined


def pooled_statistics(cases: Sequence[WeightedValues]) -> IntensityStatistics:
    """Statistics over cases of which each counts the same, however much foreground it has (nnU-Net).

    What nnU-Net estimates from random samples (the same number of each case) is computed here from the distributions
    themselves. In the last digits the result depends on the order of the cases. Raises ValueError if there are none.
    """
    if not cases:
        raise ValueError("statistics of no cases")
    mean = float(np.mean([case.mean for case in cases]))
    variance = float(np.mean([case.variance + (case.mean - mean) ** 2 for case in cases]))
    values = np.concatenate([case.values for case in cases])
    weights = np.concatenate([case.counts / case.counts.sum() for case in cases]) / len(cases)
    order = np.argsort(values, kind="stable")
    values, cumulative = values[order], np.cumsum(weights[order])
    low, median, high = (_quantile(values, cumulative, share) for share in (0.005, 0.5, 0.995))
    return IntensityStatistics(
        mean=mean,
        median=median,
        std=float(np.sqrt(variance)),
        min=min(case.lowest for case in cases),
        max=max(case.highest for case in cases),
        percentile_00_5=low,
        percentile_99_5=high,
    )


def _quantile(values: NDArray[np.float32], cumulative: NDArray[np.float64], share: float) -> float:
    """The value below which `share` of the weight lies; midway between two where the border falls between them."""
    wanted = share * float(cumulative[-1])
    slack = 1e-9  # far above the rounding of the sum, far below the weight of any value that matters
    below = int(np.searchsorted(cumulative, wanted - slack))
    above = int(np.searchsorted(cumulative, wanted + slack))
    last = len(values) - 1
    return (float(values[min(below, last)]) + float(values[min(above, last)])) / 2
