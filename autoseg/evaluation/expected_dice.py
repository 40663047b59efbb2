"""The Dice that a mask would have, were there a reference: learned from cases that the networks had not seen.

A ridge regression of logit(Dice) on a few numbers that are known without a reference. What it misses when each case is
left out in turn gives the interval (the jackknife; Barber et al. 2021, "Predictive inference with the jackknife+"):
of n cases the ceil((n + 1) * share)-th smallest miss. The first number, the Dice that the probabilities lead one to
expect, is the soft Dice confidence of Borges et al. 2024; that volumes and components betray failures is the experience
of Valindria et al. 2017 and of quality control since.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.records import (
    CaseEvidence,
    CaseScore,
    DiceRegression,
    Expectation,
    ExpectedDice,
    LabelEvidence,
    LabelVolume,
)

#: Share of cases whose Dice the interval is to hold.
LEVEL = 0.9

#: Below so many cases nothing is said: of fewer than 19 no miss is rare enough for either end of the interval.
FEWEST_CASES = 20

FEATURES = ("confidence", "boundary", "volume", "components")

#: Dice and probabilities are taken no closer to 0 and 1, where their logit has no end.
_CLOSEST = 0.005

#: Strengths of the ridge penalty that are tried, per case.
_PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

#: A feature that hardly varies says nothing.
_SMALLEST_SCALE = 1e-6


def fit_expected_dice(scores: Sequence[CaseScore], seen: Mapping[str, CaseEvidence]) -> ExpectedDice | None:
    """Learn expected Dice from held-out cases with their scores and what was seen of them; None where they are too few.

    `seen` is by case. A case that has no mask of a label says nothing of that label: an empty mask is either right or
    wrong altogether, and nothing in it tells.
    """
    both = [(score, seen[score.case]) for score in scores if score.case in seen]
    names = list(dict.fromkeys(name for score, _ in both for name in score.labels))
    medians = {name: _median_ml(name, [case for _, case in both]) for name in names}
    rows: dict[str, list[tuple[tuple[float, ...], float]]] = {name: [] for name in names}
    means: list[tuple[tuple[float, ...], float]] = []
    for score, case in both:
        of_case = []
        for name, label in score.labels.items():
            found = features(case.evidence.get(name), case.volumes.get(name), medians[name])
            if found is not None and label.dice is not None:
                rows[name].append((found, label.dice))
                of_case.append((found, label.dice))
        if of_case:
            means.append(_mean_row(of_case))
    labels = {name: fitted for name, own in rows.items() if (fitted := _regression(own)) is not None}
    if not labels:
        return None
    return ExpectedDice(
        level=LEVEL,
        labels=labels,
        mean=_regression(means),
        volume_ml={name: medians[name] for name in labels},
    )


def expect(model: ExpectedDice | None, case: CaseEvidence) -> dict[str, Expectation]:
    """Expected Dice of each label of a case; those of which nothing can be told are left out."""
    if model is None:
        return {}
    found = {}
    for name, regression in model.labels.items():
        own = features(case.evidence.get(name), case.volumes.get(name), model.volume_ml[name])
        if own is not None:
            found[name] = _expected(regression, own)
    return found


def expect_mean(model: ExpectedDice | None, case: CaseEvidence) -> Expectation | None:
    """Expected mean Dice over the labels that were found; None where nothing can be told."""
    if model is None or model.mean is None:
        return None
    rows = [features(case.evidence.get(name), case.volumes.get(name), ml) for name, ml in model.volume_ml.items()]
    known = [(row, 0.0) for row in rows if row is not None]
    return _expected(model.mean, _mean_row(known)[0]) if known else None


def features(evidence: LabelEvidence | None, volume: LabelVolume | None, median_ml: float) -> tuple[float, ...] | None:
    """The numbers (FEATURES) from which the Dice of one label follows; None where the mask does not have the label."""
    if evidence is None or volume is None or volume.voxels == 0 or evidence.confidence is None:
        return None
    sure = _logit(evidence.confidence)
    edge = _logit(evidence.confidence if evidence.boundary is None else evidence.boundary)
    size = abs(math.log(volume.ml / median_ml)) if volume.ml > 0 and median_ml > 0 else 0.0
    return sure, edge, size, math.log(max(volume.components, 1))


def _median_ml(name: str, cases: Sequence[CaseEvidence]) -> float:
    sizes = [volume.ml for case in cases if (volume := case.volumes.get(name)) is not None and volume.voxels > 0]
    return float(np.median(sizes)) if sizes else 0.0


def _mean_row(rows: Sequence[tuple[tuple[float, ...], float]]) -> tuple[tuple[float, ...], float]:
    """Features and Dice averaged over the labels of a case."""
    mean = np.mean([row for row, _ in rows], axis=0)
    return tuple(float(value) for value in mean), float(np.mean([dice for _, dice in rows]))


def _logit(share: float) -> float:
    inside = min(max(share, _CLOSEST), 1 - _CLOSEST)
    return math.log(inside / (1 - inside))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-min(max(logit, -50.0), 50.0)))


def _regression(rows: Sequence[tuple[tuple[float, ...], float]]) -> DiceRegression | None:
    """The ridge regression of which leaving each case out in turn misses least; None of too few cases."""
    count = len(rows)
    if count < FEWEST_CASES:
        return None
    table = np.array([row for row, _ in rows])
    dice = np.array([_logit(value) for _, value in rows])
    centre, scale = table.mean(axis=0), table.std(axis=0)
    scale[scale < _SMALLEST_SCALE] = np.inf  # its weight then means nothing, and does nothing
    standard = (table - centre) / scale
    fits = [_ridge(standard, dice, penalty * count) for penalty in _PENALTIES]
    weights, misses = min(fits, key=lambda fit: float(np.abs(fit[1]).mean()))
    low, high = _error_quantiles(misses)
    left_out = np.array([_share(value) for value in dice - misses])
    truth = np.array([value for _, value in rows])
    of_others = (truth.sum() - truth) / (count - 1)
    return DiceRegression(
        cases=count,
        features=FEATURES,
        centre=tuple(centre.tolist()),
        scale=tuple(np.where(np.isfinite(scale), scale, 1.0).tolist()),
        low=tuple(table.min(axis=0).tolist()),
        high=tuple(table.max(axis=0).tolist()),
        weights=tuple(weights.tolist()),
        intercept=float(dice.mean()),
        error_low=low,
        error_high=high,
        mean_error=float(np.abs(truth - left_out).mean()),
        mean_error_of_the_mean=float(np.abs(truth - of_others).mean()),
    )


def _ridge(
    standard: NDArray[np.float64], target: NDArray[np.float64], penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights on standardized features, and by how much each left-out case is missed (target less prediction).

    The mean is not penalized. Leaving a case out divides its residual by one less its leverage.
    """
    inverse = np.linalg.inv(standard.T @ standard + penalty * np.eye(standard.shape[1]))
    weights = inverse @ standard.T @ (target - target.mean())
    leverage = np.einsum("nf,fg,ng->n", standard, inverse, standard) + 1 / len(target)
    residual = target - target.mean() - standard @ weights
    return weights, residual / (1 - leverage)


def _error_quantiles(misses: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of the interval: the misses that are exceeded so rarely on either side."""
    ascending = np.sort(misses)
    rank = math.ceil((len(misses) + 1) * (1 + LEVEL) / 2)
    high = float(ascending[min(rank, len(misses)) - 1])
    low = float(ascending[max(len(misses) - rank, 0)])
    return low, high


def _expected(regression: DiceRegression, own: Sequence[float]) -> Expectation:
    """What the regression says of these features; beyond the range of its cases it goes no further."""
    held = np.clip(own, regression.low, regression.high)
    standard = (held - np.array(regression.centre)) / np.array(regression.scale)
    logit = regression.intercept + float(standard @ np.array(regression.weights))
    low, high = _share(logit + regression.error_low), _share(logit + regression.error_high)
    return Expectation(dice=_share(logit), low=low, high=high)
