"""What to label next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from autoseg import console
from autoseg.cli.app import outcome
from autoseg.options import DEFAULT_WORK, Device, Models, Precision, Threads, Use, Work
from autoseg.tables import show_failures, show_table

if TYPE_CHECKING:  # its modules load numpy and pydantic, which `--help` must not wait for
    from autoseg.pipeline.suggest import SuggestReport

#: Rows that are shown.
MOST_ROWS = 15


def suggest(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES",
            help="Unlabelled images: a folder of images or of DICOM series, or a .csv or .json list "
            "(case,channel,path).",
        ),
    ],
    work: Work = DEFAULT_WORK,
    model: Models = None,
    count: Annotated[int, typer.Option("--count", min=1, metavar="N", help="How many are ranked.")] = 50,
    slices: Annotated[
        bool | None,
        typer.Option(
            "--slices/--cases",
            help="Rank slices, or whole cases (default: slices where networks see slices).",
            show_default=False,
        ),
    ] = None,
    labelled: Annotated[
        bool,
        typer.Option("--labelled/--no-labelled", help="Compare to the labelled cases of the work folder as well."),
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the queue as JSON.")] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    use: Use = None,
) -> int:
    """Rank unlabelled cases by what labelling them is worth.

    The trained networks look at each image, tell what Dice they expect of themselves, and by which features they know
    it. First comes the case that speaks for most of what is still expected to go wrong: where networks are unsure, and
    which is like many others, but not like those that are labelled or stand before it. The work folder gets
    suggest/suggestions.csv, and a page with pictures.

    Looking takes as long as predicting, and is kept: new images alone are looked at the next time.

    Examples: autoseg suggest new-images; autoseg suggest new-images --slices --count 100
    """
    from autoseg.workspace import Workspace

    results, progress = console.results_console(), console.ready_to_compute(threads=threads)
    from autoseg.pipeline.pages import left
    from autoseg.pipeline.suggest import suggest as run
    from autoseg.pipeline.suggest_pages import suggest_report

    space = Workspace(work)
    report = run(
        images,
        space,
        models=tuple(model or ()),
        count=count,
        slices=slices,
        labelled=labelled,
        device=device,
        precision=precision,
        use=tuple(use or ()),
        progress=progress,
    )
    left(lambda: suggest_report(space), progress)
    if json:
        console.say_json(report.suggestions.model_dump(mode="json"))
    else:
        show_suggestions(results, report)
    return outcome(report.suggestions.failures, report.looked_at)


def show_suggestions(results: Console, report: SuggestReport) -> None:
    """The first of the queue, what was left out, and where all of it is."""
    found = report.suggestions
    rows, so_far = [], 0.0
    for rank, one in enumerate(found.suggested[:MOST_ROWS], start=1):
        so_far += one.gain
        which = [f"{one.axis} {one.slice}"] if found.unit == "slice" else []
        figures = (f"{one.gain:.1%}", f"{so_far:.1%}", f"{one.loss:.3f}", f"{one.likeness:.2f}")
        rows.append((str(rank), one.case, *which, *figures))
    which = ["slice"] if found.unit == "slice" else []
    columns = ("rank", "case", *which, "gain", "so far", "expected loss", "likeness to labelled")
    show_table(results, f"Label these first (of {found.candidates} {found.unit}s)", columns, rows)
    show_failures(results, found.failures)
    console.say(results, f"All that were ranked: {report.table}")
