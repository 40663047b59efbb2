"""Reports as tables and lines: what each command prints on stdout when it has finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from autoseg.console import STYLES, duration, is_rich, say, text

if TYPE_CHECKING:  # records load numpy and pydantic, which `--help` must not wait for
    from autoseg.pipeline.reports import (
        CheckReport,
        DemoReport,
        EvaluateReport,
        PlanReport,
        PredictReport,
        PrepareReport,
        StatusReport,
        TrainReport,
    )
    from autoseg.records import Problem, Summary

#: Rows of scores up to which every case is shown; of more, only the worst.
MOST_ROWS = 20
WORST_ROWS = 10


def show_table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A titled table; columns whose cells are all numbers, or a dash for none, are set flush right."""
    cells = [tuple(row) for row in rows]
    made = Table(box=box.SIMPLE_HEAD if is_rich(console) else box.MARKDOWN)
    for index, column in enumerate(columns):
        flush_right = bool(cells) and all(_is_number(row[index]) for row in cells)
        made.add_column(text(console, column), justify="right" if flush_right else "left", overflow="fold")
    for row in cells:
        made.add_row(*(text(console, cell) for cell in row))
    say(console, title, "bold")
    console.print(made)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(".", "", 1).isdigit()


def show_failures(console: Console, failures: Mapping[str, str]) -> None:
    """One line per case that failed."""
    if failures:
        say(console, f"{_count(len(failures), 'case')} failed:", STYLES["error"])
    for case in sorted(failures):
        say(console, f"  {case}: {failures[case]}")


def show_problems(console: Console, problems: Sequence[Problem], root: Path) -> None:
    """Every finding with its file and cause, those of one kind together, with the remedy once below them."""

    def group(problem: Problem) -> tuple[str, str, str]:
        return problem.severity, problem.kind, problem.remedy

    rank = list(STYLES)
    ordered = sorted(problems, key=lambda problem: (rank.index(problem.severity), problem.kind, problem.remedy))
    for (severity, kind, remedy), members in groupby(ordered, key=group):
        found = list(members)
        say(console, f"{severity.upper()} {kind} ({len(found)})", STYLES[severity])
        for problem in found:
            place = [problem.case] if problem.case else []
            if problem.file is not None:
                place.append(_relative(problem.file, root))
            say(console, "  " + ": ".join([*place, problem.what]))
        say(console, f"  What to do: {remedy}")
        say(console)


# -------------------------------------------------------------------------------------------------------- reports


def show_check(console: Console, report: CheckReport) -> None:
    """How the dataset was read, all findings, and a verdict."""
    dataset = report.dataset
    say(console, f"{dataset.name}: {_count(len(dataset.cases), 'case')}, layout {dataset.layout}", "bold")
    say(console, f"Channels: {', '.join(dataset.channels)}. Labels: {_labels(dataset.labels.names)}.")
    for note in dataset.notes:
        say(console, f"Note: {note}")
    say(console)
    show_problems(console, report.problems, dataset.root)
    counts = [sum(problem.severity == kind for problem in report.problems) for kind in STYLES]
    found = ", ".join(_count(number, kind) for number, kind in zip(counts, STYLES, strict=True) if number)
    say(console, f"{report.cases_ok} of {_count(len(dataset.cases), 'case')} can be used; {found or 'nothing found'}.")


def show_plan(console: Console, report: PlanReport, next_command: str) -> None:
    """The plan as a table with a reason per number, and where it is."""
    plan, dataset = report.plan, report.dataset
    show_problems(console, report.problems, dataset.root)
    if report.left_out:
        say(console, f"Left out ({len(report.left_out)}): {', '.join(report.left_out)}", STYLES["warning"])
    say(
        console,
        f"Plan {plan.name} for {dataset.name}: {_count(len(dataset.cases), 'case')}, preset {plan.preset}",
        "bold",
    )
    say(
        console,
        f"Channels: {', '.join(plan.channels)}. Labels: {_labels(plan.labels.names)}. Planned for: {plan.device}.",
    )
    sections: dict[str, list[tuple[str, str, str]]] = {}
    for reason in plan.reasons:
        section, _, name = reason.field.rpartition(".")
        sections.setdefault(section, []).append((name.replace("_", " "), reason.value, reason.because))
    for section, rows in sections.items():
        show_table(console, section or "in general", ("number", "value", "because"), rows)
    times = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in report.seconds.items())
    say(console, f"Written: {report.path} ({times})")
    say(console, f"Next: {next_command}")


def show_prepare(console: Console, report: PrepareReport) -> None:
    """How many cases were prepared."""
    show_failures(console, report.failures)
    say(console, f"{report.prepared} prepared, {report.reused} were there already ({duration(report.seconds)})")


def show_train(console: Console, report: TrainReport) -> None:
    """Scores of the held-out cases, times, and where the model is."""
    show_failures(console, report.failures)
    if report.summary is not None:
        show_summary(console, report.summary, f"Held-out cases of fold {report.run.fold}")
    times = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in report.seconds.items())
    say(console, f"{_count(report.epochs, 'epoch')}, {_count(report.steps, 'step')} ({times})")
    say(console, f"Model: {report.run.model}")


def show_predict(console: Console, report: PredictReport, masks: Path) -> None:
    """How many masks were written, and by which model."""
    show_failures(console, report.failures)
    skipped = f", {len(report.skipped)} were there already" if report.skipped else ""
    say(console, f"{_count(len(report.written), 'mask')} written to {masks}{skipped} ({duration(report.seconds)})")
    say(console, f"Made with: {report.model_description}")


def show_evaluate(console: Console, report: EvaluateReport, every_case: bool) -> None:
    """Scores per case, then per label, and where the JSON is."""
    show_cases(console, report.summary, every_case)
    show_summary(console, report.summary, "All cases")
    show_failures(console, report.summary.failures)
    say(console, f"Written: {report.output}")


def show_cases(console: Console, summary: Summary, every_case: bool) -> None:
    """A row per case and label; of many, only those with the lowest Dice unless all are asked for."""
    rows = [(score.case, label, entry) for score in summary.cases for label, entry in score.labels.items()]
    title = "Every case"
    if len(rows) > MOST_ROWS and not every_case:
        rows = sorted(rows, key=lambda row: (row[2].dice is None, row[2].dice or 0.0))[:WORST_ROWS]
        title = f"The {WORST_ROWS} lowest of {len(summary.cases)} cases (--every-case shows all)"
    columns = ("case", "label", "Dice", "IoU", "reference ml", "mask ml", "NSD", "HD95 mm")
    cells = (
        (
            *(case, label, _score(entry.dice), _score(entry.iou)),
            *(_score(entry.volume_reference_ml), _score(entry.volume_prediction_ml)),
            *(_score(entry.nsd), _score(entry.hd95_mm, 2)),
        )
        for case, label, entry in rows
    )
    show_table(console, title, columns, cells)


def show_summary(console: Console, summary: Summary, title: str) -> None:
    """A row per label: means over the cases that have it, and the cases that do not, counted apart."""
    columns = ("label", "Dice", "IoU", "NSD", "HD95 mm", "N", "false alarms", "rightly absent")
    rows = (
        (
            *(label, _score(entry.dice), _score(entry.iou), _score(entry.nsd), _score(entry.hd95_mm, 2)),
            *(str(entry.cases), str(entry.empty_references), str(entry.both_empty)),
        )
        for label, entry in summary.labels.items()
    )
    show_table(console, title, columns, rows)
    say(
        console,
        f"Mean Dice {_score(summary.mean_dice)} over {_count(len(summary.cases), 'case')}. "
        "N: cases whose reference has the label; false alarms: found although absent. "
        f"NSD: share of the surfaces within {summary.tolerance_mm:g} mm.",
    )


def show_status(console: Console, report: StatusReport) -> None:
    """What the work folder holds, and the next command."""
    width = max((len(name) for name, _ in report.lines), default=0)
    for name, words in report.lines:
        say(console, f"{name:<{width}}  {words}")
    say(console, f"Next: {report.next_command}", "bold")


def show_demo(console: Console, report: DemoReport) -> None:
    """Scores of the held-out and the test cases, seconds per stage, and where the files are."""
    show_summary(console, report.held_out, "Held-out cases")
    show_summary(console, report.test, "Test cases")
    times = {**report.stages, "all": sum(report.stages.values())}
    show_table(console, "Time", ("stage", "time"), ((stage, duration(seconds)) for stage, seconds in times.items()))
    width = max(map(len, report.files), default=0)
    say(console, "Files", "bold")
    for name, path in report.files.items():
        say(console, f"  {name:<{width}}  {path}")


# --------------------------------------------------------------------------------------------------------- words


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _score(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _labels(names: Mapping[str, int | tuple[int, ...]]) -> str:
    return ", ".join(
        f"{name} = {'+'.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in names.items()
    )


def _relative(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
