"""Several sets of scores of the same cases against one another: how much they differ, and whether that is noise.

Nothing here knows who made the masks: a side is its scores, by case, label and metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import UsageError
from autoseg.evaluation.paired import (
    DECIMALS,
    OF_OBJECTS,
    ScoreTable,
    case_means,
    fold_gains,
    fold_noise,
    interval,
    paired_gain,
    score_table,
)
from autoseg.evaluation.significance import holm, signed_rank
from autoseg.evaluation.verdicts import Metric, judge
from autoseg.records import ComparedSide, Comparison, PairedDifference


@dataclass(frozen=True)
class CaseValues:
    """The metrics of one case, of those labels that its reference has."""

    values: Mapping[str, Mapping[str, float]]  # label -> field -> value; what does not exist is not there
    false_alarms: tuple[str, ...] = ()  # labels that were found although the reference lacks them
    fold: str | None = None  # that held it out, where it is known


@dataclass(frozen=True, eq=False)
class ScoredSide:
    """One of those that are compared."""

    name: str
    cases: Mapping[str, CaseValues]


# ---------------------------------------------------------------------------------------------------- the comparison


def compare_sides(sides: Sequence[ScoredSide], metric: Metric, notes: Sequence[str] = ()) -> Comparison:
    """Every two of the sides on the cases, and the labels of each case, that all of them have.

    Raises UsageError for fewer than two sides, and where they have no case or no label in common.
    """
    if len(sides) < 2:
        raise UsageError("there is nothing to compare it with", remedy="Name two or more: autoseg compare A B")
    cases = _shared_cases(sides)
    labels, apart = _shared_labels(sides, cases, metric)
    tables, incomplete = _tables(sides, cases, labels, metric)
    told = [*notes, *_left_out(sides, cases), *apart, *incomplete]
    pairs = list(combinations(sides, 2))
    overall = [_difference(pair, tables, cases, None) for pair in pairs]
    columns = {label: {name: table[:, [place]] for name, table in tables.items()} for place, label in enumerate(labels)}
    each = [_difference(pair, columns[label], cases, label) for label in labels for pair in pairs]
    means = {name: case_means(table) for name, table in tables.items()}
    return Comparison(
        metric=metric.field,
        labels=tuple(labels),
        cases={case: {name: _or_none(means[name][row]) for name in means} for row, case in enumerate(cases)},
        sides=tuple(_side(side, tables[side.name], cases, labels) for side in sides),
        pairs=tuple(_judged(overall, metric)),
        by_label=tuple(_judged(each, metric)) if len(labels) > 1 else (),
        notes=tuple(told),
    )


def _shared_cases(sides: Sequence[ScoredSide]) -> list[str]:
    first, *others = sides
    for side in sides:
        if not side.cases:
            raise UsageError("no case has a score", where=side.name)
    for other in others:
        if not first.cases.keys() & other.cases.keys():
            ours, theirs = (", ".join(sorted(side.cases)[:3]) for side in (first, other))
            raise UsageError(
                f"{first.name} and {other.name} have no scored case in common ({ours}, …; {theirs}, …)",
                remedy="Cases are matched by the names of their masks without ending.",
            )
    shared = sorted(set(first.cases).intersection(*(other.cases for other in others)))
    if not shared:
        raise UsageError(
            f"{', '.join(side.name for side in sides)} have no scored case that is in all of them",
            remedy="Compare two of them at a time.",
        )
    return shared


def _shared_labels(sides: Sequence[ScoredSide], cases: Sequence[str], metric: Metric) -> tuple[list[str], list[str]]:
    """Labels of which every side has values, in the order of the first side, and notes on the others."""
    known = {
        side.name: dict.fromkeys(
            label for case in cases for label, entry in side.cases[case].values.items() if metric.field in entry
        )
        for side in sides
    }
    every = dict.fromkeys(label for labels in known.values() for label in labels)
    shared = [label for label in every if all(label in labels for labels in known.values())]
    if not shared:
        told = "; ".join(f"{name}: {', '.join(labels) or 'none'}" for name, labels in known.items())
        remedy = (
            "nnU-Net's files have Dice and IoU only; --labels-from names a dataset that says how labels are called."
        )
        if metric.field in OF_OBJECTS:
            remedy = "Objects are scored where the dataset counts them and their ids lie below the masks (`instances`)."
        raise UsageError(f"there is no label of which all have {metric.title} ({told})", remedy=remedy)
    notes = []
    for label in every:
        without = [name for name, labels in known.items() if label not in labels]
        if without:
            notes.append(f"label {label} is left out: {', '.join(without)} has no {metric.title} of it")
    return shared, notes


def _tables(
    sides: Sequence[ScoredSide], cases: Sequence[str], labels: Sequence[str], metric: Metric
) -> tuple[dict[str, ScoreTable], list[str]]:
    """The values of each side; where one side has none, the others' is left out as well."""
    raw = {side.name: score_table([_of_metric(side.cases[case], metric) for case in cases], labels) for side in sides}
    finite = np.stack([np.isfinite(table) for table in raw.values()])
    every, some = finite.all(axis=0), finite.any(axis=0)
    lost = int((some & ~every).sum())
    notes = [f"values left out, since not every side has one of that case and label: {lost}"] if lost else []
    return {name: np.where(every, table, np.nan) for name, table in raw.items()}, notes


def _of_metric(case: CaseValues, metric: Metric) -> dict[str, float]:
    return {label: entry[metric.field] for label, entry in case.values.items() if metric.field in entry}


def _left_out(sides: Sequence[ScoredSide], cases: Sequence[str]) -> list[str]:
    shared = set(cases)
    counts = {side.name: len(side.cases.keys() - shared) for side in sides}
    return [
        f"cases of {name} left out, since not every side has a score of them: {count} of {count + len(cases)}"
        for name, count in counts.items()
        if count
    ]


def _side(side: ScoredSide, table: ScoreTable, cases: Sequence[str], labels: Sequence[str]) -> ComparedSide:
    mean = interval(table)
    alarms = sum(label in labels for case in cases for label in side.cases[case].false_alarms)
    return ComparedSide(name=side.name, mean=mean.value, low=mean.low, high=mean.high, false_alarms=alarms)


def _difference(
    pair: tuple[ScoredSide, ScoredSide], tables: Mapping[str, ScoreTable], cases: Sequence[str], label: str | None
) -> PairedDifference:
    """What is measured of a pair; it is judged when all p values are there."""
    first, second = (tables[side.name] for side in pair)
    gain = paired_gain(second, first)
    each = _rounded(case_means(second) - case_means(first))
    folds = _folds(pair, cases)
    gains = {} if folds is None else fold_gains(second, first, folds)
    return PairedDifference(
        first=pair[0].name,
        second=pair[1].name,
        label=label,
        cases=len(each),
        difference=_without_noise(gain.value),
        low=_without_noise(gain.low),
        high=_without_noise(gain.high),
        higher=int((each > 0).sum()),
        lower=int((each < 0).sum()),
        p=signed_rank(each.tolist()),
        p_holm=None,
        folds=gains,
        fold_noise=fold_noise(gains),
        verdict="unclear",
        words="",
    )


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.round(values[np.isfinite(values)], DECIMALS)


def _folds(pair: tuple[ScoredSide, ScoredSide], cases: Sequence[str]) -> list[str] | None:
    """The fold of each case; None where it is not known of all, or the two sides have other folds."""
    found: list[str] = []
    for case in cases:
        known = {fold for side in pair if (fold := side.cases[case].fold) is not None}
        if len(known) != 1:
            return None
        found += known
    return found


def _without_noise(value: float | None) -> float | None:
    """The value without the rounding errors of sums, in which an end of an interval that is 0 would not be 0."""
    return None if value is None else round(value, DECIMALS) + 0.0


def _or_none(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None


# --------------------------------------------------------------------------------------------------------- verdicts


def _judged(rows: Sequence[PairedDifference], metric: Metric) -> list[PairedDifference]:
    """The rows with p values that are corrected for one another, and what to say of each."""
    corrected = holm([row.p for row in rows])
    made = []
    for row, p in zip(rows, corrected, strict=True):
        known = row.model_copy(update={"p_holm": p})
        verdict, words = judge(known, metric)
        made.append(known.model_copy(update={"verdict": verdict, "words": words}))
    return made
