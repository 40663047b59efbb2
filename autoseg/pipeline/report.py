"""`report`: every page of a work folder, made anew from its files, and the list of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from autoseg.errors import WorkspaceError
from autoseg.pipeline.audit_pages import audit_report
from autoseg.pipeline.pages import dataset_report, diagnosis_report, page_path, plan_report, why_not
from autoseg.pipeline.result_pages import report_of_tests, run_results, training_report
from autoseg.pipeline.suggest_pages import suggest_report
from autoseg.progress import Progress
from autoseg.report.index_page import index_page
from autoseg.report.page import write_page
from autoseg.workspace import Workspace


@dataclass(frozen=True)
class Report:
    """One page of a work folder and how to make it."""

    what: str
    shows: str
    path: Path
    make: Callable[..., Path]  # takes `anonymous`


@dataclass(frozen=True)
class ReportsReport:
    """The pages that were made."""

    index: Path
    pages: tuple[Path, ...]
    failures: dict[str, str]


def report(work: Workspace, *, anonymous: bool = False, progress: Progress) -> ReportsReport:
    """Make all pages of a work folder again, and the list of them.

    Anonymous ones go into WORK/report/anonymous and leave the others as they are. Raises WorkspaceError where there is
    nothing to report.
    """
    found = list(possible(work))
    if not found:
        raise WorkspaceError(
            "there is nothing to report in this work folder",
            where=work.root,
            remedy="Run `autoseg plan DATASET` first.",
        )
    failures: dict[str, str] = {}
    made: list[Path] = []
    with progress.stage("Making reports", len(found)) as advance:
        for entry in found:
            try:
                made.append(entry.make(anonymous=anonymous))
            except Exception as error:  # the other pages are made all the same
                failures[entry.what] = why_not(error)
            advance(1)
    return ReportsReport(index_report(work, anonymous=anonymous), tuple(made), failures)


def index_report(work: Workspace, *, anonymous: bool = False) -> Path:
    """The list of the pages that are there."""
    path = page_path(work, work.report / "index.html", anonymous).with_name("index.html")
    rows = []
    for entry in possible(work):
        page = page_path(work, entry.path, anonymous)
        if page.exists():
            place = Path(os.path.relpath(page, path.parent)).as_posix()
            rows.append((entry.what, entry.shows, quote(place)))
    write_page(path, index_page("Reports" if anonymous else f"Reports of {work.root.resolve().name}", rows))
    return path


def possible(work: Workspace) -> Iterator[Report]:
    """What there is to report of, in the order of the pipeline."""
    if work.dataset.exists() and work.fingerprint.exists():
        shows = "cases, shapes, intensities, findings, outliers"
        yield Report("dataset", shows, work.report / "dataset.html", partial(dataset_report, work))
    for name in work.plan_names():
        path = work.report / work.plan(name).with_suffix(".html").name
        yield Report(f"plan {name}", "network, memory, cost, reasons", path, partial(plan_report, work, name))
    for run in work.all_runs():
        named = f"{run.plan}, {run.configuration}, fold {run.fold}"
        yield Report(f"training {named}", "loss, Dice, pace, samples", run.report, partial(training_report, work, run))
        if run.summary.exists():
            yield Report(
                f"results {named}", "scores of every held-out case", run.results, partial(run_results, work, run)
            )
    if (work.audit / "audit.json").exists():
        page = work.audit / "audit.html"
        yield Report("label audit", "likely label errors, by case and place", page, partial(audit_report, work))
    if (work.suggestions / "suggestions.json").exists():
        page = work.suggestions / "suggestions.html"
        yield Report("what to label next", "unlabelled images, ranked", page, partial(suggest_report, work))
    for found in sorted(work.diagnoses.glob("*/diagnosis.json")):
        page = found.with_name("diagnosis.html")
        make = partial(diagnosis_report, work, found.parent)
        yield Report(f"diagnosis {found.parent.name}", "what would help: cases, networks, labels", page, make)
    if (work.test / "summary.json").exists():
        yield Report(
            "test cases", "scores of every test case", work.test / "summary.html", partial(report_of_tests, work)
        )
