"""Scores of several models on the same cases: means with intervals, and paired differences.

A metric is averaged as in a summary: per label over the cases whose reference has it, then over labels. Intervals are
percentiles of the bootstrap over cases (Efron & Tibshirani 1993); the two models of a difference are always scored on
the same cases, drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluation.instances import precision_at
from autoseg.records import CaseScore, InstanceScore

#: Values of one metric (cases, labels); NaN where the reference lacks the label, nobody drew it, or there is none.
ScoreTable = NDArray[np.float64]

#: Figures of a label's objects, where they are counted, by the names that metrics have.
OF_OBJECTS: Mapping[str, Callable[[InstanceScore], float | None]] = {
    "panoptic_quality": lambda score: score.panoptic_quality,
    "average_precision_50": lambda score: precision_at(score, 0.5),
}

#: Bootstrap samples, and the seed that makes them the same every time.
DRAWS = 4000
SEED = 12345

#: Differences are compared after so many decimals: 0.8 - 0.7 and 0.7 - 0.6 are one difference, and 0 is 0.
DECIMALS = 12


@dataclass(frozen=True)
class Interval:
    """A mean and its bootstrap interval of 95 %; None where fewer than two cases have a value."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def negated(self) -> Interval:
        """Of the same figure with the other sign."""
        turned = [None if value is None else -value for value in (self.value, self.high, self.low)]
        return Interval(*turned)


# -------------------------------------------------------------------------------------------------------- tables


def score_table(cases: Sequence[Mapping[str, float]], names: Sequence[str]) -> ScoreTable:
    """The table (cases, labels) of each case's values by label; what is not there is NaN."""
    rows = [[case.get(name, float("nan")) for name in names] for case in cases]
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), len(names))


def dice_table(scores: Sequence[CaseScore], names: Sequence[str]) -> ScoreTable:
    """Dice (cases, labels) of the cases whose reference has the label."""
    return score_table([values_of(score, "dice") for score in scores], names)


def quality_table(scores: Sequence[CaseScore], names: Sequence[str], things: Collection[str]) -> ScoreTable:
    """How good a model is (cases, labels): panoptic quality of `things`, whose objects are counted, Dice of the others.

    A thing has a value where reference or mask has an object of it; where its objects were not scored, it is its Dice.
    """
    rows = []
    for score in scores:
        unscored = {name for name, entry in score.labels.items() if name not in things or entry.instances is None}
        values = {name: value for name, value in values_of(score, "dice").items() if name in unscored}
        of_objects = values_of(score, "panoptic_quality")
        rows.append(values | {name: of_objects[name] for name in things if name in of_objects})
    return score_table(rows, names)


def values_of(score: CaseScore, metric: str) -> dict[str, float]:
    """A metric of one case, by label, where it exists.

    A field of LabelScore where the reference has the label; one of OF_OBJECTS where reference or mask has an object.
    """
    if metric in OF_OBJECTS:
        counted = {name: entry.instances for name, entry in score.labels.items() if entry.instances is not None}
        figures = {name: OF_OBJECTS[metric](objects) for name, objects in counted.items()}
        return {name: figure for name, figure in figures.items() if figure is not None}
    present = {name: entry for name, entry in score.labels.items() if entry.true_positives + entry.false_negatives > 0}
    values = {name: getattr(entry, metric) for name, entry in present.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


# --------------------------------------------------------------------------------------------- means and differences


def interval(table: ScoreTable) -> Interval:
    """Mean over labels of the means over cases, with its interval."""
    return _interval(weighted_means(_everything(table), table), table, table * 0)


def paired_gain(table: ScoreTable, other: ScoreTable) -> Interval:
    """By how much the mean of `table` lies above that of `other`, row by row the same cases."""
    every = _everything(table)
    return _interval(weighted_means(every, table) - weighted_means(every, other), table, other)


def case_means(table: ScoreTable) -> NDArray[np.float64]:
    """Mean over the labels of each case (cases,); NaN where it has none."""
    known = np.isfinite(table)
    return _divided(np.where(known, table, 0.0).sum(axis=1), known.sum(axis=1))


def fold_gains(table: ScoreTable, other: ScoreTable, folds: Sequence[str]) -> dict[str, float]:
    """The gain within each fold, whose names go with the rows, ascending; a fold without a value has none."""
    found = {}
    for fold in sorted(set(folds)):
        rows = np.array([[name == fold for name in folds]], dtype=np.int64)
        gain = float((weighted_means(rows, table) - weighted_means(rows, other))[0])
        if np.isfinite(gain):
            found[fold] = gain
    return found


def fold_noise(gains: Mapping[str, float]) -> float | None:
    """By how much a gain varies from fold to fold: the standard deviation of the folds' gains; None of one fold.

    Each fold has networks of its own, so it holds what chance does in training beside what the cases do.
    """
    return float(np.std(list(gains.values()), ddof=1)) if len(gains) > 1 else None


def _everything(table: ScoreTable) -> NDArray[np.int64]:
    return np.ones((1, len(table)), dtype=np.int64)


def _interval(value: NDArray[np.float64], table: ScoreTable, other: ScoreTable) -> Interval:
    mean = None if np.isnan(value[0]) else float(value[0])
    if mean is None or np.isfinite(table).any(axis=1).sum() < 2:
        return Interval(mean)
    cases = len(table)
    draws = np.random.default_rng(SEED).multinomial(cases, np.full(cases, 1 / cases), size=DRAWS)
    drawn = weighted_means(draws, table) - weighted_means(draws, other)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(mean, float(low), float(high))


def weighted_means(weights: NDArray[np.int64], table: ScoreTable) -> NDArray[np.float64]:
    """Mean over labels of the means over cases (draws,), where each case counts `weights` (draws, cases) times.

    NaN where no label has a case.
    """
    known = np.isfinite(table)
    times = weights.astype(np.float64)
    sums, counts = times @ np.where(known, table, 0.0), times @ known.astype(np.float64)
    means = _divided(sums, counts)
    return _divided(np.nansum(means, axis=1), np.isfinite(means).sum(axis=1))


def _divided(sums: NDArray[np.float64], counts: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    quotients: NDArray[np.float64] = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return quotients
