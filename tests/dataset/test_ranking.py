from __future__ import annotations

from itertools import permutations

from autoseg.dataset.ranking import grouped, ranked
from autoseg.records import Problem


def problem(severity: str, kind: str, case: str, remedy: str = "mend it") -> Problem:
    return Problem.model_validate(
        {"severity": severity, "kind": kind, "what": "it is broken", "remedy": remedy, "case": case}
    )


def test_errors_come_first_then_what_costs_most_then_what_is_frequent() -> None:
    found = [
        problem("error", "unreadable", "b"),
        problem("error", "unreadable", "c"),
        problem("error", "missing-label", "a"),
        problem("warning", "same-image", "z"),
        problem("warning", "constant-channel", "d"),
        problem("note", "header", "a"),
    ]
    for order in list(permutations(found))[::37]:
        assert list(ranked(order)) == found


def test_findings_of_one_kind_and_remedy_are_together() -> None:
    found = [problem("error", "x", "a"), problem("error", "x", "b", "another"), problem("error", "x", "c")]
    groups = grouped(found)
    assert [(group.remedy, [entry.case for entry in group.problems]) for group in groups] == [
        ("mend it", ["a", "c"]),
        ("another", ["b"]),
    ]
