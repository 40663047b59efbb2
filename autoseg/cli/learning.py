"""Training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoseg import console, result_tables
from autoseg.cli.app import DONE, SOME_FAILED
from autoseg.errors import UsageError
from autoseg.options import (
    DEFAULT_WORK,
    Device,
    PlanName,
    Precision,
    Threads,
    Use,
    Work,
    Workers,
    parse_budget,
    parse_settings,
)

if TYPE_CHECKING:
    from autoseg.progress import Progress
    from autoseg.workspace import Workspace


def train(
    fold: Annotated[
        str,
        typer.Option(
            "--fold",
            metavar="K",
            help="Which part of the cases is held out to score: 0 to 4, all for none, or every for one after the "
            "other, of every configuration.",
        ),
    ] = "0",
    configuration: Annotated[
        list[str] | None,
        typer.Option(
            "--configuration",
            metavar="NAME",
            help="2d, 3d_fullres, 3d_lowres or 3d_cascade_fullres, as planned (default: 3d_fullres, else 2d). With "
            "--fold every it may be given several times (default: all).",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            min=1,
            metavar="N",
            help="Train so many epochs (default: the plan's). A larger number makes a run that has ended go on.",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            parser=parse_budget,
            metavar="TIME",
            help="Wall time of the whole command, scoring included: 10min, 90s, 1.5h. The training is as long as "
            "fits, however many epochs the plan has.",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            min=0,
            metavar="N",
            help="End the run when N epochs have not improved it (its held-out patches; with --fold all its loss); "
            "0 never does.",
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
    threads: Threads = None,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init",
            metavar="MODEL",
            help="Begin with this model: its spacing, normalization, patch, network, and all weights that fit.",
        ),
    ] = None,
    channel_dropout: Annotated[
        float | None,
        typer.Option(
            "--channel-dropout",
            min=0.0,
            max=0.9,
            metavar="P",
            help="Chance of each channel of a sample to be zeros, so that the model can do without it later.",
        ),
    ] = None,
    focus: Annotated[
        str | None,
        typer.Option("--focus", metavar="small", help="small: draw every lesion (connected component) alike."),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            "--log",
            metavar="NAME",
            help="Send each epoch to tensorboard, mlflow or wandb as well (an extra to install); may be given "
            "several times.",
        ),
    ] = None,
    use: Use = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus",
            min=1,
            metavar="N",
            help="Train on N GPUs of this machine, each with a part of every batch (with --device cpu: in N processes "
            "on the CPU). On several machines start it with torchrun instead.",
        ),
    ] = None,
    samples_at_a_time: Annotated[
        int | None,
        typer.Option(
            "--samples-at-a-time",
            min=1,
            metavar="N",
            help="Compute so many samples of a batch at once, to the same gradient (default: as many as fit).",
        ),
    ] = None,
    acceleration: Annotated[
        str,
        typer.Option(
            "--acceleration",
            metavar="NAME",
            help="auto (for long trainings what a trial finds fastest), eager, channels-last, compile, "
            "compile-channels-last, graph or compile-graph.",
        ),
    ] = "auto",
) -> int:
    """Train a network and score it on held-out cases.

    Prepares what is missing, trains, then predicts and scores the cases of the fold, which training never saw. The
    same command again goes on where an interrupted one stopped.

    Ctrl-C, or a file named STOP in the run's folder or the work folder, brings a run to a good end: the learning rate
    falls to 0 in at most two minutes, the model is written and scored; the same command later goes on from before.
    A second Ctrl-C stops at once, with the state saved.

    With --fold every each fold of each configuration is trained, first stages of cascades first, and the cost is told
    before; what is finished is left alone, and --budget is that of each.

    Examples: autoseg train --fold 0 --budget 10min; autoseg train --fold 0 --configuration 2d --epochs 50; autoseg
    train --fold every
    """
    overrides = _overrides(setting or (), channel_dropout, focus)
    names = tuple(configuration or ())
    if fold != "every" and len(names) > 1:
        raise UsageError("several configurations are trained with --fold every", remedy="Or give --configuration once.")
    from autoseg.machine import process_seconds
    from autoseg.torchrun import launched_place
    from autoseg.workspace import Workspace

    place = launched_place()
    progress = console.ready_to_compute(shown=place is None or place.rank == 0, threads=threads)
    options: dict[str, Any] = {
        "epochs": epochs,
        "budget_seconds": budget,
        "patience": patience,
        "optimizer": optimizer,
        "device": device,
        "precision": precision,
        "seed": seed,
        "overrides": overrides,
        "init": init,
        "use": tuple(use or ()),
        "log": tuple(log or ()),
        "workers": workers,
        "spent_seconds": process_seconds(),
        "samples_at_a_time": samples_at_a_time,
        "acceleration": acceleration,
    }
    from autoseg.pipeline.company import company

    with company(gpus, device) as (ranks, own_device):
        if not ranks.is_first:
            return DONE  # it has followed the first process to the end
        options |= {"ranks": ranks, "device": own_device}
        return _train(Workspace(work), plan, names, fold, options, progress)


def _overrides(settings: Sequence[str], channel_dropout: float | None, focus: str | None) -> dict[str, str]:
    """Training settings by name: those of --set, and those that have an option of their own."""
    overrides = parse_settings(settings)
    overrides |= {} if channel_dropout is None else {"channel_dropout": str(channel_dropout)}
    return overrides | ({} if focus is None else {"sampling": focus})


def _train(
    work: Workspace, plan: str, names: tuple[str, ...], fold: str, options: dict[str, Any], progress: Progress
) -> int:
    results = console.results_console()
    if fold == "every":
        from autoseg.pipeline.every import train_every

        series = train_every(work, plan=plan, configurations=names, options=options, progress=progress)
        result_tables.show_every(results, series)
        return SOME_FAILED if series.failures else DONE
    from autoseg.pipeline.train import train as run

    one = names[0] if names else None
    report = run(work, plan=plan, configuration=one, fold=fold, progress=progress, **options)
    result_tables.show_train(results, report)
    return SOME_FAILED if report.failures else DONE
