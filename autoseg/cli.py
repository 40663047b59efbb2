"""The command line: words in, tables out, exit codes.

Exit codes: 0 all well; 2 some cases failed, the others are done; 1 nothing done (wrong words on the command line
too); 130 interrupted by Ctrl-C; 143 by SIGTERM.

Nothing heavy is imported at the top (no torch, numpy, pydantic): each command imports what it needs, so that
`--help` answers at once.
"""

from __future__ import annotations

import functools
import inspect
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from autoseg import __version__, console, tables
from autoseg.errors import AutosegError, UsageError
from autoseg.interrupts import Terminated
from autoseg.options import (
    DEFAULT_WORK,
    DatasetFolder,
    Device,
    Models,
    Overwrite,
    PlanName,
    Precision,
    Tolerance,
    Work,
    Workers,
    parse_budget,
    parse_settings,
    work_option,
)

DONE, NOTHING_DONE, SOME_FAILED, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

app = typer.Typer(
    name="autoseg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a fault of ours shows Python's own traceback
    rich_markup_mode="rich" if sys.stdout.isatty() else None,  # help in a pipe or a log is plain text
)


class _Finished(Exception):
    """A command ended with this exit code; an exception of our own, since typer's 2 means wrong usage."""

    def __init__(self, code: int) -> None:
        self.code = code


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the command in `arguments` (by default the program's own)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an odd file name must not end the command on an old code page
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        app(args=arguments, prog_name="autoseg")
    except _Finished as finished:
        return finished.code
    except SystemExit as ended:  # typer's own: 0 after --help, 2 after wrong words
        return DONE if not ended.code else NOTHING_DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    finally:
        signal.signal(signal.SIGTERM, before)
    return DONE


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _command(function: Callable[..., int]) -> Callable[..., None]:
    """Register a function that returns an exit code as a command of its name, with the handling of errors around it."""

    @functools.wraps(function)
    def run(*words: object, **options: object) -> None:
        messages = console.messages_console()
        try:
            code = function(*words, **options)
        except AutosegError as error:
            console.show_error(messages, error)
            code = NOTHING_DONE
        except PermissionError as error:
            remedy = "Change the permissions, or name another folder."
            console.show_error(
                messages, AutosegError("no permission to read or write it", where=error.filename, remedy=remedy)
            )
            code = NOTHING_DONE
        except KeyboardInterrupt:
            console.say(messages, "Interrupted. The same command goes on from what is done.")
            code = INTERRUPTED
        except Terminated:
            code = TERMINATED
        except Exception as error:
            error.add_note(
                f"This is a fault in autoseg {__version__}, not in your data. Please report it with the lines above."
            )
            raise
        raise _Finished(code)

    app.command(name=function.__name__, help=_help_of(function))(run)
    return run


def _help_of(function: Callable[..., object]) -> str:
    """The docstring with each paragraph on one line, so that the terminal's width breaks it; blocks after \\b stay."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(words if words.startswith("\b") else words.replace("\n", " ") for words in paragraphs)


def _outcome(failed: Collection[object], done: int) -> int:
    """The exit code where some cases may have failed."""
    if not failed:
        return DONE
    return SOME_FAILED if done else NOTHING_DONE


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autoseg {__version__}")
        raise typer.Exit


def _autoseg(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Learn to segment images from examples, without settings to choose.

    Give a folder of images with label maps; autoseg measures it, plans a network for it, trains it, and segments
    new images.

    \b
    To see it work:      autoseg demo
    With your own data:  autoseg check DATASET
                         autoseg plan DATASET
                         autoseg train --fold 0
                         autoseg predict IMAGES MASKS

    Research software, not a medical device.
    """


app.callback(help=_help_of(_autoseg))(_autoseg)


# ------------------------------------------------------------------------------------------------- the commands


@_command
def check(dataset: DatasetFolder, workers: Workers = None) -> int:
    """Read a dataset and list everything that is wrong with it.

    Every file is read once; each finding names the file, the cause and what to do. Nothing is changed. Exit code 2:
    some cases have errors; 1: no case can be used.

    Example: autoseg check my-dataset
    """
    from autoseg.pipeline.check import check as run

    report = run(dataset, workers=workers, progress=console.RichProgress())
    tables.show_check(console.results_console(), report)
    return _outcome([problem for problem in report.problems if problem.severity == "error"], report.cases_ok)


@_command
def plan(
    dataset: DatasetFolder,
    work: Work = DEFAULT_WORK,
    preset: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="auto, nnunet, resenc-m, resenc-l or resenc-xl.")
    ] = "auto",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the plan, to keep several side by side.")
    ] = "default",
    device: Device = "auto",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Plan with the good cases when others have errors.")
    ] = False,
    workers: Workers = None,
) -> int:
    """Measure a dataset and decide how to train on it.

    Checks the dataset, measures spacings, shapes and intensities, and derives patch size, network, batch and
    training length. Every number is printed with its reason. The work folder gets fingerprint.json (what was
    measured), splits.json (the folds) and plan.json.

    Example: autoseg plan my-dataset --work my-work
    """
    from autoseg.pipeline.plan import plan as run
    from autoseg.workspace import Workspace

    progress = console.RichProgress()
    report = run(
        dataset,
        Workspace(work),
        preset=preset,
        name=name,
        device=device,
        skip_bad=skip_bad,
        workers=workers,
        progress=progress,
    )
    named = "" if name == "default" else f" --plan {name}"
    tables.show_plan(console.results_console(), report, f"autoseg train --fold 0{named}{work_option(work)}")
    return _outcome(report.left_out, len(report.dataset.cases))


@_command
def prepare(
    configuration: Annotated[
        list[str] | None,
        typer.Option(
            "--configuration",
            metavar="NAME",
            help="Only this one, such as 2d or 3d_fullres; may be given several times.",
        ),
    ] = None,
    work: Work = DEFAULT_WORK,
    plan: PlanName = "default",
    workers: Workers = None,
) -> int:
    """Bring all cases into the form that the network reads.

    Orients, crops, normalizes and resamples the images as the plan says. Cases that are ready are left alone. You
    need not call it: train does the same for what is missing.

    Example: autoseg prepare --configuration 3d_fullres
    """
    from autoseg.pipeline.prepare import prepare as run
    from autoseg.workspace import Workspace

    chosen = tuple(configuration or ())
    report = run(Workspace(work), plan=plan, configurations=chosen, workers=workers, progress=console.RichProgress())
    tables.show_prepare(console.results_console(), report)
    return _outcome(report.failures, report.prepared + report.reused)


@_command
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


@_command
def predict(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES", help="An image, a folder of images, or a .csv or .json list (case,channel,path)."
        ),
    ],
    masks: Annotated[Path, typer.Argument(metavar="MASKS", help="Folder for the masks.")],
    model: Models = None,
    work: Work = DEFAULT_WORK,
    device: Device = "auto",
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror/--no-mirror", help="Average over mirrored copies: a little better, several times slower."
        ),
    ] = True,
    step: Annotated[
        float,
        typer.Option(
            "--step", min=0.1, max=1.0, metavar="SHARE", help="Step from tile to tile, as a share of the tile."
        ),
    ] = 0.5,
    precision: Precision = "auto",
    overwrite: Overwrite = False,
) -> int:
    """Segment images with a trained model.

    Each mask is named like its case, and lies on exactly the grid of its image (same shape, position and
    orientation). One bad image does not stop the others. The command says which model it uses.

    Examples: autoseg predict patient.nii.gz masks; autoseg predict images masks --model model.safetensors
    """
    from autoseg.pipeline.predict import predict as run
    from autoseg.workspace import Workspace

    report = run(
        images,
        masks,
        models=tuple(model or ()),
        work=Workspace(work),
        device=device,
        mirror=mirror,
        step=step,
        precision=precision,
        overwrite=overwrite,
        progress=console.RichProgress(),
    )
    tables.show_predict(console.results_console(), report, masks)
    return _outcome(report.failures, len(report.written) + len(report.skipped))


@_command
def evaluate(
    masks: Annotated[
        Path | None, typer.Argument(metavar="MASKS", help="Masks to score: a folder, or one file.")
    ] = None,
    references: Annotated[
        Path | None, typer.Argument(metavar="REFERENCES", help="Label maps of the same names.")
    ] = None,
    test: Annotated[
        bool,
        typer.Option("--test", help="Predict and score the dataset's own test cases (imagesTs, labelsTs) instead."),
    ] = False,
    labels_from: Annotated[
        Path | None,
        typer.Option("--labels-from", metavar="PATH", help="Dataset folder or model file that names the labels."),
    ] = None,
    model: Models = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where the scores go (default: MASKS/summary.json)."),
    ] = None,
    tolerance: Tolerance = 1.0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    every_case: Annotated[
        bool, typer.Option("--every-case", help="Show a row for every case, however many there are.")
    ] = False,
    work: Work = DEFAULT_WORK,
    workers: Workers = None,
) -> int:
    """Compare masks with reference label maps.

    Per case and label: Dice, IoU, volumes, and surface distances (NSD and HD95). Means say over how many cases; a
    label that is absent from the reference is counted apart, never averaged in. Label names come from --labels-from
    or the work folder, if there is one.

    Examples: autoseg evaluate masks references; autoseg evaluate --test
    """
    from autoseg.workspace import Workspace

    workspace, progress = Workspace(work), console.RichProgress()
    if test:
        if masks is not None or labels_from is not None or output is not None:
            raise UsageError("--test takes neither MASKS nor --labels-from nor --output", remedy="Leave them out.")
        from autoseg.pipeline.held_back import evaluate_test

        report = evaluate_test(
            workspace,
            models=tuple(model or ()),
            device=device,
            tolerance_mm=tolerance,
            overwrite=overwrite,
            workers=workers,
            progress=progress,
        )
    else:
        if masks is None or references is None:
            raise UsageError("evaluate needs MASKS and REFERENCES, or --test", remedy="See autoseg evaluate --help.")
        if model or overwrite:
            raise UsageError(
                "--model and --overwrite go with --test only", remedy="Masks are scored as they are; leave it out."
            )
        from autoseg.pipeline.evaluate import evaluate as run

        if labels_from is None and workspace.dataset.exists():
            progress.say(f"Labels are named as in {work}; --labels-from names another dataset or model.")
        report = run(
            masks,
            references,
            work=workspace,
            labels_from=labels_from,
            tolerance_mm=tolerance,
            output=output,
            workers=workers,
            progress=progress,
        )
    tables.show_evaluate(console.results_console(), report, every_case)
    return _outcome(report.summary.failures, len(report.summary.cases))


@_command
def status(work: Work = DEFAULT_WORK) -> int:
    """Show what is done so far and the next command.

    What is planned, prepared and trained in a work folder, and the disk it takes.

    Example: autoseg status --work my-work
    """
    from autoseg.pipeline.status import status as run
    from autoseg.workspace import Workspace

    tables.show_status(console.results_console(), run(Workspace(work)))
    return DONE


@_command
def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write to.")] = Path("autoseg-demo"),
) -> int:
    """Run the whole pipeline on small example data.

    Checks, plans, trains, predicts and scores on synthetic volumes that come with the program; a few minutes on a
    laptop without a GPU. Ends with a table of scores, the time of each stage, and where the files are.

    Example: autoseg demo
    """
    from autoseg.pipeline.demo import demo as run

    tables.show_demo(console.results_console(), run(folder, progress=console.RichProgress()))
    return DONE


if __name__ == "__main__":  # spawned workers import this module again
    sys.exit(main())
