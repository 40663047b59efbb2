"""From trainings to one model file, and what such a file says of itself: select, info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoseg import console
from autoseg.cli.app import DONE, SOME_FAILED
from autoseg.cli.cards import show_info, show_select
from autoseg.options import DEFAULT_WORK, Device, Precision, Threads, Use, Work, Workers, parse_budget, work_option


def select(
    configuration: Annotated[
        list[str] | None,
        typer.Option(
            "--configuration",
            metavar="NAME",
            help="Compare only this one, such as 2d or 3d_fullres; may be given several times (default: all).",
        ),
    ] = None,
    plan: Annotated[
        list[str] | None,
        typer.Option(
            "--plan", metavar="NAME", help="Compare only what this plan has; may be given several times (default: all)."
        ),
    ] = None,
    ensembles: Annotated[
        bool,
        typer.Option(
            "--ensembles/--no-ensembles",
            help="Whether to try two configurations together; they predict the held-out cases for it.",
        ),
    ] = True,
    cases_per_fold: Annotated[
        int | None,
        typer.Option(
            "--cases-per-fold",
            min=1,
            metavar="N",
            help="Held-out cases of each fold that ensembles predict (default: all).",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            parser=parse_budget,
            metavar="TIME",
            help="Wall time to predict in: 10min, 90s, 1.5h. What does not fit is left out and named (default: none).",
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    work: Work = DEFAULT_WORK,
    workers: Workers = None,
    threads: Threads = None,
    use: Use = None,
) -> int:
    """Choose the best trained model and write it as one file.

    Compares the configurations that are trained, whichever folds are done, and each two of them together, on cases
    that their networks had not seen. More networks are chosen only where they are surely better. Tries which labels
    are better off with their largest component alone, measures speeds and calibration, and writes model.safetensors
    into the work folder: the file to hand on, which predict uses from then on. The same command again goes on where
    an interrupted one stopped.

    Examples: autoseg select; autoseg select --budget 1h --cases-per-fold 5
    """
    from autoseg.machine import process_seconds
    from autoseg.workspace import Workspace

    results, progress = console.results_console(), console.ready_to_compute(threads=threads)
    from autoseg.pipeline.select import SelectSettings
    from autoseg.pipeline.select import select as run

    settings = SelectSettings(
        plans=tuple(plan or ()),
        configurations=tuple(configuration or ()),
        ensembles=ensembles,
        cases_per_fold=cases_per_fold,
        budget_seconds=budget,
    )
    report = run(
        Workspace(work),
        settings=settings,
        device=device,
        precision=precision,
        use=tuple(use or ()),
        workers=workers,
        spent_seconds=process_seconds(),
        progress=progress,
    )
    show_select(results, report, f"autoseg predict IMAGES MASKS{work_option(work)}")
    return SOME_FAILED if report.selection.failures else DONE


def info(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="A model file (default: the one that was selected in the work folder)."),
    ] = None,
    work: Work = DEFAULT_WORK,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Show what a model file says of itself.

    What it was trained on, its labels and networks, how good it is on cases that it had not seen, with intervals, how
    fast, how well its probabilities are calibrated, and what it was not shown. Works on every model file.

    Examples: autoseg info; autoseg info model.safetensors --json
    """
    from autoseg.pipeline.info import info as run
    from autoseg.workspace import Workspace

    report = run(model, Workspace(work))
    if json:
        console.say_json(report.as_json())
    else:
        show_info(console.results_console(), report)
    return DONE
