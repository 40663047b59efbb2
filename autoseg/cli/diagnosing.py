"""What would help: diagnose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from autoseg import console
from autoseg.cli.app import DONE, SOME_FAILED
from autoseg.options import DEFAULT_WORK, Device, PlanName, Precision, Threads, Work, Workers, parse_budget
from autoseg.tables import show_failures, show_table
from autoseg.words import counted

if TYPE_CHECKING:  # its modules load numpy and pydantic, which `--help` must not wait for
    from autoseg.pipeline.diagnose import DiagnoseReport


def diagnose(
    fold: Annotated[str, typer.Option("--fold", metavar="K", help="Whose held-out cases score every training.")] = "0",
    configuration: Annotated[
        str | None,
        typer.Option("--configuration", metavar="NAME", help="As planned (default: 3d_fullres, else 2d)."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            parser=parse_budget,
            metavar="TIME",
            help="Wall time of all trainings together, scoring included; each has the same share (default: a tenth of "
            "a whole training for each).",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, metavar="N", help="Equally many epochs for each training, however long."),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="Trainings of each kind, with other random numbers.")
    ] = 3,
    more: Annotated[int, typer.Option("--more", min=1, metavar="N", help="How many more cases you could have.")] = 20,
    cost: Annotated[bool, typer.Option("--cost", help="Tell what it would cost, and train nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    work: Work = DEFAULT_WORK,
    plan: PlanName = "default",
    workers: Workers = None,
    threads: Threads = None,
) -> int:
    """Tell whether more cases, another network or better labels help.

    Trains shortly, and equally long, on a quarter, half and all of the training cases, each within the next, on a
    smaller and a larger network, and without the cases that `autoseg audit` finds the most suspicious; with several
    seeds each, all scored with the same held-out cases. Says for each what it gains, with an interval, or that this
    cannot be told. The cost is told first.

    Every training is kept, and the same command goes on where it was stopped. Leaves a page and a table in the work
    folder.

    Examples: autoseg diagnose --cost; autoseg diagnose --budget 3h; autoseg diagnose --budget 3h --more 50
    """
    from autoseg.workspace import Workspace

    results, progress = console.results_console(), console.ready_to_compute(threads=threads)
    from autoseg.pipeline.diagnose import diagnose as run

    report = run(
        Workspace(work),
        plan=plan,
        configuration=configuration,
        fold=fold,
        budget_seconds=budget,
        epochs=epochs,
        seeds=seeds,
        more=more,
        device=device,
        precision=precision,
        workers=workers,
        cost_only=cost,
        progress=progress,
    )
    if report.diagnosis is None:
        return DONE
    if json:
        console.say_json(report.diagnosis.model_dump(mode="json"))
    else:
        show_diagnosis(results, report)
    return SOME_FAILED if report.diagnosis.failures else DONE


def show_diagnosis(results: Console, report: DiagnoseReport) -> None:
    """A row per training, then the answers in words, and where all of it is."""
    diagnosis = report.diagnosis
    if diagnosis is None:
        return
    rows = [
        (result.part, str(result.cases), str(result.seed), _figure(result.mean_dice, 3), _figure(result.steps, 0))
        for result in diagnosis.results
    ]
    title = f"{counted(len(rows), 'training')} of {diagnosis.length} each, {diagnosis.held_out} held-out cases"
    show_table(results, title, ("part", "cases", "seed", "mean Dice", "steps"), rows)
    show_failures(results, diagnosis.failures)
    for note in diagnosis.notes:
        console.say(results, f"Note: {note}", console.STYLES["note"])
    if report.ended_early:
        console.say(results, f"{report.ended_early}. The same command goes on.")
    for answer in diagnosis.answers:
        console.say(results, answer.words, "bold")
    console.say(results, f"Report: {report.page}; table: {report.table}")


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
