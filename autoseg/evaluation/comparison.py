"""Which of several models is best, from scores of cases that none of them had seen: paired, with intervals.

Dice is averaged as in a summary: per label over the cases whose reference has it, then over labels. Intervals are
percentiles of the bootstrap over cases (Efron & Tibshirani 1993); the two models of a comparison are always scored on
the same cases, drawn together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import UsageError
from autoseg.records import CaseScore, Compared

#: Dice (cases, labels); NaN where the reference lacks the label, or nobody drew it.
DiceTable = NDArray[np.float64]

#: Bootstrap samples, and the seed that makes them the same every time.
DRAWS = 4000
SEED = 12345

#: A gain below this would vanish in the third decimal: no reason to run more networks.
SMALLEST_GAIN = 0.001

#: With fewer cases not even a gain in every one of them is told from chance at 5 %: (1/2)^5 > 0.05 / 2.
FEWEST_CASES = 6


@dataclass(frozen=True)
class Interval:
    """A mean and its bootstrap interval of 95 %; None where fewer than two cases have a value."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Entrant:
    """A model with the scores of the cases that it predicted unseen, by case id."""

    name: str
    networks: int  # that run one after the other for one fold: what it costs
    scores: Mapping[str, CaseScore]


@dataclass(frozen=True, eq=False)
class Choice:
    """The chosen model, how each of the others compares, and those that could not be compared with a reason."""

    chosen: Entrant
    compared: tuple[Compared, ...]  # the chosen one first, the others by falling gain
    left_out: Mapping[str, str]  # name -> why


def dice_table(scores: Sequence[CaseScore], names: Sequence[str]) -> DiceTable:
    """Dice (cases, labels) of the cases whose reference has the label."""
    rows = [[_dice_of_present(score, name) for name in names] for score in scores]
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), len(names))


def _dice_of_present(score: CaseScore, name: str) -> float:
    entry = score.labels.get(name)
    if entry is None or entry.dice is None or entry.true_positives + entry.false_negatives == 0:
        return float("nan")
    return entry.dice


def interval(table: DiceTable) -> Interval:
    """Mean over labels of the means over cases, with its interval."""
    return _interval(_mean_over_labels(_everything(table), table), table, table * 0)


def paired_gain(table: DiceTable, other: DiceTable) -> Interval:
    """By how much the mean of `table` lies above that of `other`, row by row the same cases."""
    every = _everything(table)
    return _interval(_mean_over_labels(every, table) - _mean_over_labels(every, other), table, other)


def _everything(table: DiceTable) -> NDArray[np.int64]:
    return np.ones((1, len(table)), dtype=np.int64)


def _interval(value: NDArray[np.float64], table: DiceTable, other: DiceTable) -> Interval:
    mean = None if np.isnan(value[0]) else float(value[0])
    if mean is None or np.isfinite(table).any(axis=1).sum() < 2:
        return Interval(mean)
    cases = len(table)
    draws = np.random.default_rng(SEED).multinomial(cases, np.full(cases, 1 / cases), size=DRAWS)
    drawn = _mean_over_labels(draws, table) - _mean_over_labels(draws, other)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(mean, float(low), float(high))


def _mean_over_labels(weights: NDArray[np.int64], table: DiceTable) -> NDArray[np.float64]:
    """Means (draws,) where each case counts `weights` (draws, cases) times; NaN where no label has a case."""
    known = np.isfinite(table)
    sums, counts = weights @ np.where(known, table, 0.0), weights @ known.astype(np.float64)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    labels = np.isfinite(means).sum(axis=1)
    total = np.nansum(means, axis=1)
    over_labels: NDArray[np.float64] = np.divide(total, labels, out=np.full_like(total, np.nan), where=labels > 0)
    return over_labels


# -------------------------------------------------------------------------------------------------------- choosing


def choose(entrants: Sequence[Entrant], names: Sequence[str]) -> Choice:
    """The best of the simplest models, or one that runs more networks where it is surely better.

    Of models that run equally many networks the one with the highest mean over the cases that all of these share. One
    with more networks replaces it only where the paired interval of its gain lies above 0, on FEWEST_CASES or more, and
    the gain reaches SMALLEST_GAIN. `names` are the labels. Raises UsageError where nothing can be compared.
    """
    usable = [entrant for entrant in entrants if entrant.scores]
    if not usable:
        raise UsageError("no model has scores of held-out cases", remedy="Train a fold first: autoseg train --fold 0.")
    chosen: Entrant | None = None
    left_out: dict[str, str] = {}
    for count in sorted({entrant.networks for entrant in usable}):
        level = [entrant for entrant in usable if entrant.networks == count]
        if chosen is None:
            chosen, apart = _highest(level, names)
            left_out |= apart
        else:
            chosen = _surely_better(level, chosen, names) or chosen
    if chosen is None:  # there was at least one level
        raise UsageError("nothing to choose from")
    rows = [_compared(entrant, chosen, names) for entrant in usable if entrant is not chosen]
    rows.sort(key=lambda row: -float("inf") if row.gain is None else row.gain, reverse=True)
    return Choice(chosen, (_chosen_row(chosen, names, alone=len(usable) == 1), *rows), left_out)


def _highest(level: Sequence[Entrant], names: Sequence[str]) -> tuple[Entrant, dict[str, str]]:
    """The highest mean over shared cases; a model that shares none with the one of most cases is left out."""
    first = max(level, key=lambda entrant: len(entrant.scores))
    sharing = [entrant for entrant in level if entrant.scores.keys() & first.scores.keys()]
    shared = set(first.scores).intersection(*(entrant.scores for entrant in sharing))
    if not shared:  # each shares some with the first, but not all the same
        sharing, shared = [first], set(first.scores)
    apart = {
        entrant.name: f"no held-out case in common with {first.name}" for entrant in level if entrant not in sharing
    }
    return max(sharing, key=lambda entrant: _mean(entrant, shared, names)), apart


def _surely_better(level: Sequence[Entrant], chosen: Entrant, names: Sequence[str]) -> Entrant | None:
    gains = [(entrant, *_gain(entrant, chosen, names)) for entrant in level]
    better = [(gain.value or 0.0, entrant) for entrant, gain, shared in gains if is_sure(gain, shared)]
    return max(better, key=lambda pair: pair[0])[1] if better else None


def is_sure(gain: Interval, shared: int) -> bool:
    """Whether a gain is large enough to count, and told from chance."""
    if gain.value is None or gain.low is None:
        return False
    return shared >= FEWEST_CASES and gain.low > 0 and gain.value >= SMALLEST_GAIN


def _mean(entrant: Entrant, cases: Iterable[str], names: Sequence[str]) -> float:
    mean = interval(dice_table([entrant.scores[case] for case in sorted(cases)], names)).value
    return -1.0 if mean is None else mean


def _gain(entrant: Entrant, chosen: Entrant, names: Sequence[str]) -> tuple[Interval, int]:
    shared = sorted(entrant.scores.keys() & chosen.scores.keys())
    ours, theirs = (dice_table([one.scores[case] for case in shared], names) for one in (entrant, chosen))
    return paired_gain(ours, theirs), len(shared)


def _chosen_row(chosen: Entrant, names: Sequence[str], alone: bool) -> Compared:
    mean = interval(dice_table(list(chosen.scores.values()), names)).value
    verdict = "chosen: there is no other" if alone else "chosen"
    return Compared(
        name=chosen.name, networks=chosen.networks, mean_dice=mean, cases=len(chosen.scores), verdict=verdict
    )


def _compared(entrant: Entrant, chosen: Entrant, names: Sequence[str]) -> Compared:
    gain, shared = _gain(entrant, chosen, names)
    return Compared(
        name=entrant.name,
        networks=entrant.networks,
        mean_dice=interval(dice_table(list(entrant.scores.values()), names)).value,
        cases=len(entrant.scores),
        gain=gain.value,
        low=gain.low,
        high=gain.high,
        shared_cases=shared,
        verdict=verdict(gain, shared, entrant.networks, chosen.networks),
    )


def verdict(gain: Interval, shared: int, networks: int, chosen_networks: int) -> str:
    """Why a model was not chosen, in words; gain and interval are those over the chosen one."""
    if gain.value is None:
        return "not comparable: no held-out case in common"
    if gain.high is not None and gain.high < 0:
        return "worse"
    if networks > chosen_networks and shared < FEWEST_CASES:
        return f"too few cases to tell ({shared} of {FEWEST_CASES}): the simpler one is chosen"
    if networks > chosen_networks and gain.low is not None and gain.low > 0:
        if gain.value < SMALLEST_GAIN:
            return f"better by less than {SMALLEST_GAIN:g}: the simpler one is chosen"
        return "better, but another gains more"
    if networks > chosen_networks:
        return "a tie: the simpler one is chosen"
    return "a tie: the higher mean is chosen" if networks == chosen_networks else "not told apart; see the others"
