"""`compare`: runs, configurations, masks and files of scores against one another, paired per case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoseg.errors import UsageError
from autoseg.evaluation.differences import compare_sides
from autoseg.evaluation.verdicts import METRICS, Metric
from autoseg.pipeline.compared_sides import (
    Scored,
    Scoring,
    named_alike,
    place_of,
    read_side,
    require_one_tolerance,
    short_names,
)
from autoseg.pipeline.evaluate import TOLERANCE_MM
from autoseg.progress import Progress
from autoseg.records import Comparison
from autoseg.report.comparison_page import comparison_page
from autoseg.report.page import names_for, write_page
from autoseg.workspace import Workspace

#: Where the page goes in a work folder, and what it is called elsewhere.
PAGE = "comparison.html"

#: Cases without a score that are named.
_MOST_NAMED = 3


def compare(
    words: Sequence[str],
    work: Workspace,
    *,
    metric: str = "dice",
    references: Path | None = None,
    labels_from: Path | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    workers: int | None = None,
    progress: Progress,
) -> Comparison:
    """Every two of those that are named, on the cases and labels that all of them have.

    A word is a file of scores, ours or nnU-Net's, a folder that holds one or several by folds, a folder of masks to
    score against `references`, or a configuration, run or ensemble of the work folder. Nothing is written. Raises
    UsageError and RecordError where something cannot be compared.
    """
    known = metric_named(metric)
    if len(words) < 2:
        raise UsageError("there is nothing to compare it with", remedy="Name two or more: autoseg compare A B")
    places = [place_of(word, work) for word in words]
    scoring = None if references is None else Scoring(references, work, labels_from, tolerance_mm, workers, progress)
    found = [read_side(name, place, scoring) for name, place in zip(short_names(words), places, strict=True)]
    if known.field == "nsd":
        require_one_tolerance(found)
    return compare_sides(named_alike(found, work, labels_from), known, _failed(found))


def metric_named(name: str) -> Metric:
    """A metric by the word for it. Raises UsageError."""
    if name not in METRICS:
        raise UsageError(f"there is no metric {name!r}", remedy=f"There are: {', '.join(METRICS)}.")
    return METRICS[name]


def _failed(found: Sequence[Scored]) -> list[str]:
    """What has no score, in words: such a case enters no comparison, and is no better for it."""
    notes = []
    for side in found:
        cases = list(side.failures)
        more = len(cases) - _MOST_NAMED
        named = ", ".join(cases[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        if cases:
            notes.append(f"{side.name} has no score of {named}: {side.failures[cases[0]]}")
    return notes


def comparison_report(comparison: Comparison, work: Workspace, output: Path | None = None) -> Path:
    """The page of a comparison: where it is asked for, else in the work folder, if there is one, or here.

    Raises UsageError for a folder, AutosegError for a file that is no page of ours.
    """
    path = output or (work.report / PAGE if work.root.is_dir() else Path(PAGE))
    if path.is_dir():
        raise UsageError("is a folder", where=path, remedy=f"Name a file: --output {path / PAGE}")
    write_page(path, comparison_page(comparison, names_for(list(comparison.cases), anonymous=False)))
    return path
