"""Whether probabilities mean what they say, and the temperature that makes them (Guo et al. 2017).

A softmax has one temperature: log-probabilities are divided by it and normalized again. A region's sigmoid has its own:
log-odds are divided by it. Neither changes which label is the most probable, nor on which side of a half a region is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from autoseg.arrays.crop import bounding_box
from autoseg.records import Calibration, Reliability, ReliabilityBin, Temperature

#: Voxels that are looked at lie within so many voxels of what is foreground in the reference or the mask: elsewhere
#: nearly all is background, and is known to be.
NEAR_VOXELS = 3.0

#: Bins of equal numbers of voxels, least confident first.
BINS = 15

#: Temperatures that are sought.
COLDEST, HOTTEST = 0.05, 20.0

#: Cases below which nothing is fitted: two to fit on and two to report on.
FEWEST_CASES = 4

#: Numbers that samples of all cases hold together at most: 128 MB.
MOST_NUMBERS = 1 << 25

#: Voxels of one case at most, and at least.
MOST_VOXELS, FEWEST_VOXELS = 20_000, 200

#: What the temperature of a softmax is called.
ALL_LABELS = "all labels"

#: Probabilities are taken no closer to 0, and log-odds no farther out.
_SMALLEST = 1e-37
_CLOSEST = 1e-7

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False)
class Sample:
    """Probabilities of one case at some of its voxels, and what the reference says there."""

    probabilities: NDArray[np.float32]  # (N, K)
    truth: NDArray[np.bool_]  # (N, K): one label each, or any number of regions


def near_foreground(reference: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where (Z, Y, X) the foreground of either lies within NEAR_VOXELS, counted in voxels whatever their size."""
    either = reference | mask
    where = np.zeros(either.shape, dtype=np.bool_)
    if not either.any():
        return where
    margin = math.ceil(NEAR_VOXELS)
    box = tuple(slice(max(0, start - margin), stop + margin) for start, stop in bounding_box(either))
    inside = np.ascontiguousarray(~either[box])
    where[box] = edt.edt(inside, black_border=False) <= NEAR_VOXELS
    return where


def sampled_places(where: NDArray[np.bool_], count: int, seed: int) -> NDArray[np.int64]:
    """At most so many voxels (N, 3) of those in `where` (Z, Y, X), drawn without repetition, ascending."""
    found = np.flatnonzero(where)
    if len(found) > count:
        found = np.sort(np.random.default_rng(seed).choice(found, count, replace=False))
    return np.stack(np.unravel_index(found, where.shape), axis=1).astype(np.int64)


def voxels_per_case(cases: int, outputs: int) -> int:
    """Voxels to draw of each case, so that all of them fit into memory."""
    return max(FEWEST_VOXELS, min(MOST_VOXELS, MOST_NUMBERS // max(1, cases * outputs)))


def calibrate(samples: Sequence[Sample], names: Sequence[str] | None) -> Calibration | None:
    """Temperatures fitted on every other case, and what they do to the cases in between; None for too few cases.

    `names` are the regions; None is a softmax. A temperature that does not make the other cases more likely is left at
    1. Samples without voxels count for nothing.
    """
    usable = [sample for sample in samples if len(sample.probabilities)]
    if len(usable) < FEWEST_CASES:
        return None
    fitted, reported = _joined(usable[::2]), _joined(usable[1::2])
    if names is None:
        found = [_softmax_temperature(fitted, reported)]
    else:
        found = [_region_temperature(name, place, fitted, reported) for place, name in enumerate(names)]
    return Calibration(
        temperatures=tuple(found),
        fitted_on=len(usable[::2]),
        reported_on=len(usable[1::2]),
        voxels=len(fitted.probabilities),
    )


def _joined(samples: Sequence[Sample]) -> Sample:
    """All voxels, shuffled: of equally confident ones those of a case must not end in one bin."""
    probabilities = np.concatenate([sample.probabilities for sample in samples])
    truth = np.concatenate([sample.truth for sample in samples])
    order = np.random.default_rng(0).permutation(len(truth))
    return Sample(probabilities[order], truth[order])


def _softmax_temperature(fitted: Sample, reported: Sample) -> Temperature:
    logs = np.log(np.maximum(fitted.probabilities, _SMALLEST))
    value = best_temperature(lambda temperature: _softmax_nll(logs, fitted.truth, temperature))
    logs = np.log(np.maximum(reported.probabilities, _SMALLEST))
    return _kept(ALL_LABELS, value, lambda temperature: _softmax_reliability(logs, reported.truth, temperature))


def _region_temperature(name: str, place: int, fitted: Sample, reported: Sample) -> Temperature:
    odds, inside = _odds(fitted.probabilities[:, place]), fitted.truth[:, place]
    value = best_temperature(lambda temperature: _sigmoid_nll(odds, inside, temperature))
    others, truth = _odds(reported.probabilities[:, place]), reported.truth[:, place]
    return _kept(name, value, lambda temperature: _sigmoid_reliability(others, truth, temperature))


def _kept(name: str, value: float, reliability: Callable[[float], Reliability]) -> Temperature:
    before, after = reliability(1.0), reliability(value)
    if after.nll >= before.nll:
        return Temperature(name=name, value=1.0, before=before, after=before)
    return Temperature(name=name, value=value, before=before, after=after)


def best_temperature(loss: Callable[[float], float], tolerance: float = 1e-3) -> float:
    """The temperature of the lowest loss, by golden section over its logarithm.

    The likelihood is convex in 1 / temperature, so that there is one minimum.
    """
    low, high = math.log(COLDEST), math.log(HOTTEST)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(math.exp(left)), loss(math.exp(right))
    while high - low > tolerance:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(math.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(math.exp(right))
    return math.exp((low + high) / 2)


# ------------------------------------------------------------------------------------------------------- reliability


def _softmax_nll(logs: NDArray[np.float32], truth: NDArray[np.bool_], temperature: float) -> float:
    scaled = logs / np.float32(temperature)
    highest = scaled.max(axis=1)
    normalizer = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
    return float((normalizer - scaled[truth]).mean(dtype=np.float64))


def _softmax_reliability(logs: NDArray[np.float32], truth: NDArray[np.bool_], temperature: float) -> Reliability:
    scaled = logs / np.float32(temperature)
    highest = scaled.max(axis=1)
    confidence = 1 / np.exp(scaled - highest[:, None]).sum(axis=1)
    right = truth[np.arange(len(truth)), logs.argmax(axis=1)]
    return reliability(confidence, right, _softmax_nll(logs, truth, temperature))


def _odds(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    certain = np.clip(probabilities, _CLOSEST, 1 - _CLOSEST)
    odds: NDArray[np.float32] = np.log(certain) - np.log1p(-certain)
    return odds


def _sigmoid_nll(odds: NDArray[np.float32], inside: NDArray[np.bool_], temperature: float) -> float:
    scaled = odds / np.float32(temperature)
    return float(np.logaddexp(0, np.where(inside, -scaled, scaled)).mean(dtype=np.float64))


def _sigmoid_reliability(odds: NDArray[np.float32], inside: NDArray[np.bool_], temperature: float) -> Reliability:
    confidence = expit(odds / np.float32(temperature))
    return reliability(confidence, inside, _sigmoid_nll(odds, inside, temperature))


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_], nll: float) -> Reliability:
    """Confidence against accuracy in BINS bins of equal numbers of voxels (N,), and their mean distance (the ECE)."""
    order = np.argsort(confidence, kind="stable")
    bins = [
        ReliabilityBin(
            confidence=float(confidence[part].mean(dtype=np.float64)),
            accuracy=float(right[part].mean(dtype=np.float64)),
            voxels=len(part),
        )
        for part in np.array_split(order, BINS)
        if len(part)
    ]
    ece = sum(entry.voxels * abs(entry.confidence - entry.accuracy) for entry in bins) / max(1, len(order))
    return Reliability(ece=ece, nll=nll, bins=tuple(bins))
