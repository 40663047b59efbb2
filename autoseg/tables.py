"""Reports as tables and lines: what commands print on stdout when they have finished (`result_tables`: of results)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from autoseg.console import STYLES, is_rich, say, text
from autoseg.progress import duration
from autoseg.words import counted

if TYPE_CHECKING:  # records load numpy and pydantic, which `--help` must not wait for
    from autoseg.pipeline.reports import CheckReport, PlanReport, PrepareReport, StatusReport
    from autoseg.planning.costs import ConfigurationCost
    from autoseg.records import Labels, Probe, Problem, Reason

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
        say(console, f"{counted(len(failures), 'case')} failed:", STYLES["error"])
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
    say(console, f"{dataset.name}: {counted(len(dataset.cases), 'case')}, layout {dataset.layout}", "bold")
    say(console, f"Channels: {', '.join(dataset.channels)}. Labels: {_labels(dataset.labels)}.")
    for note in dataset.notes:
        say(console, f"Note: {note}")
    say(console)
    show_problems(console, report.problems, dataset.root, MOST_FINDINGS)
    counts = [sum(problem.severity == kind for problem in report.problems) for kind in STYLES]
    found = ", ".join(counted(number, kind) for number, kind in zip(counts, STYLES, strict=True) if number)
    say(console, f"{report.cases_ok} of {counted(len(dataset.cases), 'case')} can be used; {found or 'nothing found'}.")
    for picture in report.pictures:
        say(console, f"Picture: {picture}")
    if report.copy is not None:
        _show_copy(console, report, report.copy)


def _show_copy(console: Console, report: CheckReport, copy: Path) -> None:
    """What the corrected copy does about each finding."""
    say(console)
    fixed = sum(repair.fixed for repair in report.repairs)
    say(console, f"Corrected copy: {copy} ({fixed} of {counted(len(report.repairs), 'finding')} fixed)", "bold")
    told: dict[tuple[bool, str, str], list[str]] = {}
    for repair in report.repairs:
        problem = repair.problem
        told.setdefault((repair.fixed, problem.kind, repair.why), []).append(problem.case or "the dataset")
    for (done, kind, why), cases in sorted(told.items(), key=lambda entry: not entry[0][0]):
        more = f" and {len(cases) - MOST_FINDINGS} more" if len(cases) > MOST_FINDINGS else ""
        named = ", ".join(cases[:MOST_FINDINGS])
        say(console, f"  {'fixed' if done else 'not fixed'}: {kind} ({len(cases)}): {why}: {named}{more}")


def show_plan(console: Console, report: PlanReport, next_command: str) -> None:
    """The plan as tables with a reason per number, what it will cost, and where it is."""
    plan = report.plan
    show_problems(console, report.problems, Path() if report.dataset is None else report.dataset.root)
    if report.left_out:
        say(console, f"Left out ({len(report.left_out)}): {', '.join(report.left_out)}", STYLES["warning"])
    cases = counted(len(report.fingerprint.cases), "case")
    source = "" if report.dataset is not None else " (from a fingerprint, without images)"
    say(console, f"Plan {plan.name} for {plan.dataset}: {cases}{source}, preset {plan.preset}", "bold")
    say(
        console,
        f"Channels: {', '.join(plan.channels)}. Labels: {_labels(plan.labels)}. Planned for: {plan.device}.",
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
    from autoseg.planning.costs import busy_note

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
    if busy := busy_note(probe):
        say(console, busy, STYLES["warning"])


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


def show_status(console: Console, report: StatusReport) -> None:
    """What the work folder holds, and the next command."""
    width = max((len(name) for name, _ in report.lines), default=0)
    for name, words in report.lines:
        say(console, f"{name:<{width}}  {words}")
    say(console, f"Next: {report.next_command}", "bold")


# --------------------------------------------------------------------------------------------------------- words


def _figures(value: float | None) -> str:
    """A positive number in two or more figures: "0.012", "3.7", "1,420"."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _labels(labels: Labels) -> str:
    """Names and values as a user's files have them."""
    return ", ".join(
        f"{name} = {'+'.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in labels.without_cores.names.items()
    )


def _relative(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
