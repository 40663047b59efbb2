"""What `autoseg compare` finds: sides, their paired differences, and what to say of each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.records.base import Record


class ComparedSide(Record):
    """One of those that are compared, over the cases that all of them have."""

    name: str
    mean: float | None  # mean over labels of the means over cases
    low: float | None  # bootstrap interval of the mean, 95 %
    high: float | None
    false_alarms: int  # labels that were found in cases whose reference lacks them; they enter no mean


class PairedDifference(Record):
    """Two sides on the same cases: the second less the first."""

    first: str
    second: str
    label: str | None  # None is the mean over labels
    cases: int  # with a value
    difference: float | None
    low: float | None  # paired bootstrap interval of the difference, 95 %
    high: float | None
    higher: int  # cases in which the second has the higher value
    lower: int
    p: float | None  # of the signed-rank test, two-sided
    p_holm: float | None  # corrected for all tests of its table
    folds: dict[str, float]  # fold -> difference within it; empty where folds are not known
    fold_noise: float | None  # standard deviation of these; None of fewer than two
    verdict: Literal["first", "second", "tie", "unclear"]  # the better one; unclear: too few cases to tell
    words: str


class Comparison(Record):
    """Everything that was compared; `compare --json` prints it."""

    format: int = 1
    metric: str  # a field of LabelScore
    labels: tuple[str, ...]
    cases: dict[str, dict[str, float | None]]  # case -> side -> mean over the labels of the case
    sides: tuple[ComparedSide, ...]
    pairs: tuple[PairedDifference, ...]  # of the means over labels
    by_label: tuple[PairedDifference, ...]  # empty with one label
    notes: tuple[str, ...] = Field(default=())
