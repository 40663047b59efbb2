"""Training."""

from __future__ import annotations

from typing import Annotated

import typer

from autoseg import console, tables
from autoseg.cli.app import DONE, SOME_FAILED
from autoseg.options import DEFAULT_WORK, Device, PlanName, Precision, Work, Workers, parse_budget, parse_settings


def train(
    fold: Annotated[
        str,
        typer.Option(
            "--fold", metavar="K", help="Which part of the cases is held out to score: 0 to 4, or all for none."
        ),
    ] = "0",
    configuration: Annotated[
        str | None,
        typer.Option(
            "--configuration", metavar="NAME", help="2d or 3d_fullres (default: 3d_fullres where planned, else 2d)."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, metavar="N", help="Train so many epochs.")] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            parser=parse_budget,
            metavar="TIME",
            help="Wall time of the whole command, scoring included: 10min, 90s, 1.5h.",
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            "--optimizer",
            metavar="NAME",
            help="sgd or adamw, with its own learning rate, decay and warm-up (default: the plan's).",
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Start of the random numbers.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Change a training setting of the plan; may be given several times."
        ),
    ] = None,
    work: Work = DEFAULT_WORK,
    plan: PlanName = "default",
    workers: Workers = None,
) -> int:
    """Train a network and score it on held-out cases.

    Prepares what is missing, trains, then predicts and scores the cases of the fold, which training never saw. The
    same command again goes on where an interrupted one stopped.

    Examples: autoseg train --fold 0 --budget 10min; autoseg train --fold 0 --configuration 2d --epochs 50
    """
    overrides = parse_settings(setting or ())
    from autoseg.pipeline.train import train as run
    from autoseg.workers import process_seconds
    from autoseg.workspace import Workspace

    report = run(
        Workspace(work),
        plan=plan,
        configuration=configuration,
        fold=fold,
        epochs=epochs,
        budget_seconds=budget,
        optimizer=optimizer,
        device=device,
        precision=precision,
        seed=seed,
        overrides=overrides,
        workers=workers,
        spent_seconds=process_seconds(),
        progress=console.RichProgress(),
    )
    tables.show_train(console.results_console(), report)
    return SOME_FAILED if report.failures else DONE
