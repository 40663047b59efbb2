"""Findings in the order in which to look at them, those of one kind together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autoseg.records import Problem

#: From what stops the work to what need only be known.
SEVERITIES = ("error", "warning", "note")

#: Kinds of warnings and notes by what they cost if nobody looks: scores that are too good to be true, then wrong
#: things that are taught, then plans made for the wrong data. Others come after them. Errors cost their own cases.
COSTLIEST = (
    "same-image",
    "patient-in-several-folds",
    "patient-in-test",
    "test-case-in-training",
    "same-labels",
    "sides-swapped",
    "sides-across-axis",
    "sides-differ",
    "side-unlike-others",
    "swapped-channels",
    "not-like-ct",
    "mixed-intensities",
    "odd-size",
    "label-not-drawn",
    "constant-channel",
    "geometry-mismatch",
)


@dataclass(frozen=True)
class FindingGroup:
    """Findings of one kind with one remedy."""

    severity: str
    kind: str
    remedy: str
    problems: tuple[Problem, ...]


def ranked(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Errors first, then what costs most, then what is most frequent; the order they come in does not show."""
    found = list(problems)
    frequent = Counter((problem.severity, problem.kind) for problem in found)

    def rank(problem: Problem) -> tuple[object, ...]:
        kind = problem.kind
        cost = COSTLIEST.index(kind) if problem.severity != "error" and kind in COSTLIEST else len(COSTLIEST)
        count = frequent[problem.severity, kind]
        place = (problem.case or "", str(problem.file or ""), problem.what)
        return (SEVERITIES.index(problem.severity), cost, -count, kind, problem.remedy, *place)

    return tuple(sorted(found, key=rank))


def grouped(problems: Sequence[Problem]) -> tuple[FindingGroup, ...]:
    """The findings by severity, kind and remedy, in the order of the first of each."""
    groups: dict[tuple[str, str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.severity, problem.kind, problem.remedy].append(problem)
    return tuple(FindingGroup(*key, tuple(members)) for key, members in groups.items())
