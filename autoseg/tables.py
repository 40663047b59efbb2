"""Reports as tables and lines: what each command prints on stdout when it has finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from autoseg.console import STYLES, is_rich, say, text
from autoseg.progress import duration

if TYPE_CHECKING:  # records load numpy and pydantic, which `--help` must not wait for
    from autoseg.pipeline.reports import (
        CheckReport,
        DemoReport,
        EvaluateReport,
        EveryReport,
        PlanReport,
        PredictReport,
        PrepareReport,
        StatusReport,
        TrainReport,
    )
    from autoseg.pipeline.trust import ReviewRow
    from autoseg.planning.costs import ConfigurationCost
    from autoseg.records import Probe, Problem, Reason, Summary

#: Rows of scores up to which every case is shown; of more, only the worst.
MOST_ROWS = 20
WORST_ROWS = 10

#: Findings of one kind that `check` shows.
MOST_FINDINGS = 6


def show_table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A titled table; columns whose cells are all numbers, or a dash for none, are set flush right."""
    cells = [tuple(row) for row in rows]
    made = Table(box=box.SIMPLE_HEAD if is_rich(console) else box.MARKDOWN)
    for index, column in enumerate(columns):
        flush_right = bool(cells) and all(_is_number(row[index]) for row in cells)
        # where there is little room, names are folded rather than figures
        least = max(map(len, [*column.split(), *(row[index] for row in cells)])) if flush_right else None
        justify: Literal["left", "right"] = "right" if flush_right else "left"
        made.add_column(text(console, column), justify=justify, overflow="fold", min_width=least)
    for row in cells:
        made.add_row(*(text(console, cell) for cell in row))
    say(console, title, "bold")
    console.print(made)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.lstrip("+-").rstrip("%").replace(",", "").replace(".", "", 1).isdigit()


def show_failures(console: Console, failures: Mapping[str, str]) -> None:
    """One line per case that failed."""
    if failures:
        say(console, f"{_count(len(failures), 'case')} failed:", STYLES["error"])
    for case in sorted(failures):
        say(console, f"  {case}: {failures[case]}")


def show_problems(console: Console, problems: Sequence[Problem], root: Path, most: int | None = None) -> None:
    """Findings with file and cause, those of one kind together, with the remedy once below them.

    Of each kind at most so many are shown, all with None.
    """
    from autoseg.dataset.ranking import grouped, ranked

    for group in grouped(ranked(problems)):
        say(console, f"{group.severity.upper()} {group.kind} ({len(group.problems)})", STYLES[group.severity])
        for problem in group.problems[:most]:
            place = [problem.case] if problem.case else []
            if problem.file is not None:
                place.append(_relative(problem.file, root))
            say(console, "  " + ": ".join([*place, problem.what]))
        if most is not None and len(group.problems) > most:
            say(console, f"  and {len(group.problems) - most} more (--json lists all)")
        say(console, f"  What to do: {group.remedy}")
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
    show_problems(console, report.problems, dataset.root, MOST_FINDINGS)
    counts = [sum(problem.severity == kind for problem in report.problems) for kind in STYLES]
    found = ", ".join(_count(number, kind) for number, kind in zip(counts, STYLES, strict=True) if number)
    say(console, f"{report.cases_ok} of {_count(len(dataset.cases), 'case')} can be used; {found or 'nothing found'}.")


def show_plan(console: Console, report: PlanReport, next_command: str) -> None:
    """The plan as tables with a reason per number, what it will cost, and where it is."""
    plan = report.plan
    show_problems(console, report.problems, Path() if report.dataset is None else report.dataset.root)
    if report.left_out:
        say(console, f"Left out ({len(report.left_out)}): {', '.join(report.left_out)}", STYLES["warning"])
    cases = _count(len(report.fingerprint.cases), "case")
    source = "" if report.dataset is not None else " (from a fingerprint, without images)"
    say(console, f"Plan {plan.name} for {plan.dataset}: {cases}{source}, preset {plan.preset}", "bold")
    say(
        console,
        f"Channels: {', '.join(plan.channels)}. Labels: {_labels(plan.labels.names)}. Planned for: {plan.device}.",
    )
    for section, rows in _reason_sections(plan.reasons).items():
        show_table(console, section or "in general", ("number", "value", "because"), rows)
    constants = [reason for reason in plan.reasons if reason.constant]
    listing = ", ".join(f"{reason.field.rpartition('.')[2].replace('_', ' ')} {reason.value}" for reason in constants)
    if constants:
        say(console, f"As in every plan of this preset: {listing}.")
    say(console, "What each value was chosen over: autoseg plan --explain NAME, such as --explain patch_size.")
    for note in report.notes:
        say(console, f"Note: {note}")
    if report.costs:
        show_costs(console, report.costs, report.probe)
    times = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in report.seconds.items())
    say(console, f"Written: {report.path} ({times})")
    say(console, f"Next: {next_command}")


def _reason_sections(reasons: Sequence[Reason]) -> dict[str, list[tuple[str, str, str]]]:
    """Rows of name, value and because by configuration; a stage that is like 3d_fullres shows what is not."""
    known = {reason.field: reason for reason in reasons}
    sections: dict[str, list[tuple[str, str, str]]] = {}
    for reason in reasons:
        section, _, name = reason.field.rpartition(".")
        alike = known.get(f"3d_fullres.{name}")
        if reason.constant or (section == "3d_cascade_fullres" and alike is not None and alike.value == reason.value):
            continue
        sections.setdefault(section, []).append((name.replace("_", " "), reason.value, reason.because))
    return sections


def show_costs(console: Console, costs: Sequence[ConfigurationCost], probe: Probe | None) -> None:
    """What each configuration takes: time, disk and memory."""
    rows = (
        (
            cost.configuration,
            _figures(cost.seconds_per_epoch),
            _figures(cost.hours),
            f"{cost.disk_bytes / 1e6:,.0f}",
            "-" if cost.peak_bytes is None else f"{cost.peak_bytes / 1e9:.1f}",
        )
        for cost in costs
    )
    where = "no step was tried" if probe is None else f"from a step on {probe.device}, {probe.precision}"
    columns = ("configuration", "s per epoch", "hours in all", "disk MB", "peak memory GB")
    show_table(console, f"What it will cost ({where})", columns, rows)


def show_reasons(console: Console, reasons: Sequence[Reason]) -> None:
    """Reasons in full: the value, the rule and its numbers, and the alternative."""
    for reason in reasons:
        say(console, f"{reason.field} = {reason.value}", "bold")
        say(console, f"  Because: {reason.because}")
        if reason.instead:
            say(console, f"  Instead: {reason.instead}")


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
    if report.ended_early:
        way = "A larger --patience" if "--patience" in report.ended_early else "The same command"
        say(console, f"The run {report.ended_early}. {way} goes on from before it.")
    say(console, f"Model: {report.run.model}")


def show_every(console: Console, report: EveryReport) -> None:
    """A row per configuration with its folds' mean Dice, and what failed."""
    failed = report.failures
    if failed:
        say(console, f"{_count(len(failed), 'failure')}:", STYLES["error"])
    for name in failed:
        say(console, f"  {name}: {failed[name]}")
    rows = []
    for configuration, members in groupby(report.runs, key=lambda run: run.configuration):
        runs = list(members)
        scores = [run.mean_dice for run in runs if run.mean_dice is not None]
        trained = sum(run.model is not None for run in runs)
        mean = sum(scores) / len(scores) if scores else None
        folds = " ".join(_score(run.mean_dice) for run in runs)
        rows.append((configuration, f"{trained} of {len(runs)}", _score(mean), folds))
    show_table(console, "Every fold", ("configuration", "trained", "mean Dice", "of each fold's held-out cases"), rows)
    if report.ended_early:
        say(console, f"{report.ended_early}, and the series with it; the same command goes on.")


def show_predict(console: Console, report: PredictReport, masks: Path) -> None:
    """How many masks were written, and by which model."""
    show_failures(console, report.failures)
    skipped = f", {len(report.skipped)} were there already" if report.skipped else ""
    say(console, f"{_count(len(report.written), 'mask')} written to {masks}{skipped} ({duration(report.seconds)})")
    say(console, f"Made with: {report.model_description}")
    show_review(console, report.review, masks)


def show_review(console: Console, rows: Sequence[ReviewRow], masks: Path) -> None:
    """The cases to look at first; nothing where there is nothing to tell of any."""
    told = [row for row in rows if row.reasons or row.expected is not None]
    if not told:
        return
    knows = any(row.expected is not None for row in told)
    columns = ("case", "expected Dice" if knows else "confidence", "why")
    cells = [
        (row.case, str(row.expected or "-") if knows else _score(row.confidence, 2), "; ".join(row.reasons) or "-")
        for row in told[:WORST_ROWS]
    ]
    odd = sum(bool(row.reasons) for row in rows)
    show_table(console, f"To be looked at first ({odd} of {_count(len(rows), 'case')} with a reason)", columns, cells)
    say(console, f"All cases, worst first: {masks / 'review.csv'}")


def show_evaluate(console: Console, report: EvaluateReport, every_case: bool) -> None:
    """Scores per case, then per label, and where the JSON is."""
    show_cases(console, report.summary, every_case)
    show_summary(console, report.summary, "All cases")
    show_lesions(console, report.summary)
    show_failures(console, report.summary.failures)
    say(console, f"Written: {report.output}")


def show_cases(console: Console, summary: Summary, every_case: bool) -> None:
    """A row per case and label; of many, only those with the lowest Dice unless all are asked for."""
    rows = [(score.case, label, entry) for score in summary.cases for label, entry in score.labels.items()]
    title = "Every case"
    if len(rows) > MOST_ROWS and not every_case:
        rows = sorted(rows, key=lambda row: (row[2].dice is None, row[2].dice or 0.0))[:WORST_ROWS]
        title = f"The {WORST_ROWS} lowest of {len(summary.cases)} cases (--every-case shows all)"
    columns = ("case", "label", "Dice", "IoU", "mask ml", "error", "NSD", "HD95 mm", "ASSD mm")
    cells = (
        (
            *(case, label, _score(entry.dice), _score(entry.iou)),
            *(_score(entry.volume_prediction_ml), _percent(entry.relative_volume_error, "+")),
            *(_score(entry.nsd), _score(entry.hd95_mm, 2), _score(entry.assd_mm, 2)),
        )
        for case, label, entry in rows
    )
    show_table(console, title, columns, cells)


def show_summary(console: Console, summary: Summary, title: str) -> None:
    """A row per label: means over the cases that have it, and the cases that do not, counted apart."""
    skipped = any(entry.not_annotated for entry in summary.labels.values())
    columns = ["label", "Dice", "IoU", "NSD", "HD95 mm", "ASSD mm", "volume error", "N"]
    columns += ["false alarms", "rightly absent"]
    columns += ["not drawn"] if skipped else []
    rows = (
        (
            *(label, _score(entry.dice), _score(entry.iou), _score(entry.nsd), _score(entry.hd95_mm, 2)),
            *(_score(entry.assd_mm, 2), _percent(entry.relative_volume_error)),
            *(str(entry.cases), str(entry.empty_references), str(entry.both_empty)),
            *((str(entry.not_annotated),) if skipped else ()),
        )
        for label, entry in summary.labels.items()
    )
    show_table(console, title, columns, rows)
    say(
        console,
        f"Mean Dice {_score(summary.mean_dice)} over {_count(len(summary.cases), 'case')}. "
        "N: cases whose reference has the label; false alarms: found although absent"
        f"{'; not drawn: cases that are not scored for the label' if skipped else ''}. "
        f"NSD: share of the surfaces within {summary.tolerance_mm:g} mm; volume error: mean size, as a share of the "
        "reference.",
    )
    absent = [label for label, entry in summary.labels.items() if not entry.cases and summary.cases]
    if absent:
        verb, whose = ("occurs", "its") if len(absent) == 1 else ("occur", "their")
        words = f"{', '.join(absent)} never {verb} in any reference here: {whose} scores say nothing."
        say(console, words, STYLES["warning"])


def show_lesions(console: Console, summary: Summary) -> None:
    """Lesions of all cases together, per label and size; nothing where they were not matched."""
    from autoseg.evaluation.lesions import bin_names, lesion_score  # loads numpy

    rows = []
    for label, entry in summary.labels.items():
        if entry.lesions is None:
            continue
        counts = entry.lesions
        scores = (_score(counts.f1), _score(counts.sensitivity), _score(counts.precision))
        numbers = (counts.true_positives, counts.false_negatives, counts.false_positives)
        rows.append((label, "all", *scores, *map(str, numbers)))
        for name, part in zip(bin_names(), counts.by_size, strict=True):
            if part.found or part.missed or part.false_alarms:
                one = lesion_score([part])
                scores = (_score(one.f1), _score(one.sensitivity), _score(one.precision))
                rows.append((label, name, *scores, str(part.found), str(part.missed), str(part.false_alarms)))
    if rows:
        columns = ("label", "size", "F1", "sensitivity", "precision", "found", "missed", "false alarms")
        show_table(console, "Lesions of all cases", columns, rows)
        rule = f"from IoU {summary.lesion_iou:g} on" if summary.lesion_iou else "by any overlap"
        say(console, f"Connected components, matched one to one, {rule}; every lesion counts alike.")


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


def _figures(value: float | None) -> str:
    """A positive number in two or more figures: "0.012", "3.7", "1,420"."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _score(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1%}"


def _labels(names: Mapping[str, int | tuple[int, ...]]) -> str:
    return ", ".join(
        f"{name} = {'+'.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in names.items()
    )


def _relative(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
