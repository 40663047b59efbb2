"""What there is to see: the state of a work folder, and the demonstration."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from autoseg import console, result_tables, tables
from autoseg.cli.app import DONE, outcome
from autoseg.options import DEFAULT_WORK, Work


def status(work: Work = DEFAULT_WORK) -> int:
    """Show what is done so far and the next command.

    What is planned, prepared and trained in a work folder, and the disk it takes.

    Example: autoseg status --work my-work
    """
    from autoseg.pipeline.status import status as run
    from autoseg.workspace import Workspace

    tables.show_status(console.results_console(), run(Workspace(work)))
    return DONE


def report(
    work: Annotated[Path, typer.Argument(metavar="WORK", help="Work folder.")] = DEFAULT_WORK,
    anonymous: Annotated[
        bool,
        typer.Option(
            "--anonymous",
            help="Without case ids, paths, and the names of dataset and machine, into WORK/report/anonymous.",
        ),
    ] = False,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the list of reports in the browser.")] = True,
) -> int:
    """Make the reports of a work folder and open them in the browser.

    Pages of the dataset, the plans, the trainings and their results, each one file that can be mailed and printed, as
    the commands leave them. They are made from the files of the work folder, so that any of them can be made again.

    Example: autoseg report my-work
    """
    from autoseg.pipeline.report import report as run
    from autoseg.workspace import Workspace

    made = run(Workspace(work), anonymous=anonymous, progress=console.RichProgress())
    results = console.results_console()
    for page in made.pages:
        console.say(results, f"Written: {page}")
    tables.show_failures(results, made.failures)
    console.say(results, f"List: {made.index}")
    if show and sys.stdout.isatty():
        webbrowser.open(made.index.resolve().as_uri())
    return outcome(made.failures, len(made.pages))


def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write to.")] = Path("autoseg-demo"),
) -> int:
    """Run the whole pipeline on small example data.

    Checks, plans, trains, predicts and scores on synthetic volumes that come with the program; a few minutes on a
    laptop without a GPU. Ends with a table of scores, the time of each stage, and where the files are.

    Example: autoseg demo
    """
    progress = console.ready_to_compute()
    from autoseg.pipeline.demo import demo as run

    result_tables.show_demo(console.results_console(), run(folder, progress=progress))
    return DONE
