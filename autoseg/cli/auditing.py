"""Is it the data? Label errors that networks find in cases they had not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from autoseg import console
from autoseg.cli.app import outcome
from autoseg.options import DEFAULT_WORK, Device, Precision, Threads, Use, Work
from autoseg.tables import show_failures, show_table
from autoseg.words import counted

if TYPE_CHECKING:  # its modules load numpy and pydantic, which `--help` must not wait for
    from autoseg.pipeline.audit import AuditReport

#: Cases that are shown.
MOST_ROWS = 15


def audit(
    work: Work = DEFAULT_WORK,
    configuration: Annotated[
        list[str] | None,
        typer.Option(
            "--configuration",
            metavar="NAME",
            help="Which networks look, such as 3d_fullres; several look together (default: what was selected, else the "
            "one with most held-out cases).",
        ),
    ] = None,
    plan: Annotated[
        list[str] | None,
        typer.Option("--plan", metavar="NAME", help="Only networks of this plan; may be given several times."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole queue as JSON.")] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    use: Use = None,
) -> int:
    """Find the likeliest errors in the reference labels.

    Each held-out case of the folds that are done is predicted by networks that had not seen it, and compared with its
    reference. The cases, and the places in them, at which these differ most surely come first, with what is likely
    wrong: the labels lie off, are drawn too small or too large, two are exchanged, one is not drawn, or the error is
    local. Labels are not changed. The work folder gets a page with pictures and coordinates, audit/cases.csv and
    audit/places.csv.

    Train all folds to have all cases looked at. After you corrected some the same command looks at those anew, and at
    nothing else.

    Examples: autoseg train --fold every; autoseg audit --work my-work
    """
    from autoseg.workspace import Workspace

    results, progress = console.results_console(), console.ready_to_compute(threads=threads)
    from autoseg.pipeline.audit import audit as run
    from autoseg.pipeline.audit_pages import audit_report
    from autoseg.pipeline.pages import left

    space = Workspace(work)
    report = run(
        space,
        plans=tuple(plan or ()),
        configurations=tuple(configuration or ()),
        device=device,
        precision=precision,
        use=tuple(use or ()),
        progress=progress,
    )
    left(lambda: audit_report(space), progress)
    if json:
        console.say_json(report.audit.model_dump(mode="json"))
    else:
        show_audit(results, report)
    return outcome(report.audit.failures, len(report.audit.cases))


def show_audit(results: Console, report: AuditReport) -> None:
    """The first cases of the queue, what was left out, and where all of it is."""
    from autoseg.evaluation.label_doubts import SUSPICIOUS  # loads numpy

    cases = report.audit.cases
    rows = [
        (str(rank), case.case, f"{case.suspicion:.1f}", case.label or "-", case.kind or "-", case.what or "-")
        for rank, case in enumerate(cases[:MOST_ROWS], start=1)
    ]
    marked = sum(case.suspicion >= SUSPICIOUS for case in cases)
    title = f"Correct these first ({marked} of {counted(len(cases), 'reference')} suspicious)"
    show_table(results, title, ("rank", "case", "suspicion", "label", "kind", "what is likely wrong"), rows)
    show_failures(results, report.audit.failures)
    for note in report.notes:
        console.say(results, f"Note: {note}", console.STYLES["note"])
    console.say(results, f"All cases: {report.cases}; all places: {report.places}")
