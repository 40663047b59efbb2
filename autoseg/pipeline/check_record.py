"""What `check --json` prints: findings with stable field names (docs/reference/check-json.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from autoseg.dataset.ranking import SEVERITIES, FindingGroup, grouped
from autoseg.pipeline.repair import Repair
from autoseg.pipeline.reports import CheckReport
from autoseg.records import Problem

#: Raised where a field changes its meaning or goes; new fields may come without.
FORMAT = 1


def check_record(report: CheckReport) -> dict[str, object]:
    """The report as plain JSON values; paths of files are relative to the dataset's folder."""
    dataset, problems = report.dataset, report.problems
    repairs = {repair.problem: repair for repair in report.repairs}
    return {
        "format": FORMAT,
        "dataset": dataset.name,
        "root": str(dataset.root),
        "layout": dataset.layout,
        "notes": list(dataset.notes),
        "channels": list(dataset.channels),
        "labels": list(dataset.labels.names),
        "cases": len(dataset.cases),
        "usable_cases": report.cases_ok,
        "counts": {severity: sum(problem.severity == severity for problem in problems) for severity in SEVERITIES},
        "findings": [_group(group, dataset.root, repairs) for group in grouped(problems)],
        "copy": None if report.copy is None else str(report.copy),
        "pictures": [str(path) for path in report.pictures],
    }


def _group(group: FindingGroup, root: Path, repairs: Mapping[Problem, Repair]) -> dict[str, object]:
    return {
        "severity": group.severity,
        "kind": group.kind,
        "count": len(group.problems),
        "remedy": group.remedy,
        "occurrences": [_occurrence(problem, root, repairs.get(problem)) for problem in group.problems],
    }


def _occurrence(problem: Problem, root: Path, repair: Repair | None) -> dict[str, object]:
    file = problem.file
    if file is not None and file.is_relative_to(root):
        file = file.relative_to(root)
    told: dict[str, object] = {
        "case": problem.case,
        "file": None if file is None else file.as_posix(),
        "what": problem.what,
    }
    if repair is not None:
        told |= {"fixed": repair.fixed, "why": repair.why}
    return told
