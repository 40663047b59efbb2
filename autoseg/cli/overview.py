"""What there is to see: the state of a work folder, and the demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoseg import console, tables
from autoseg.cli.app import DONE
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

    tables.show_demo(console.results_console(), run(folder, progress=progress))
    return DONE
