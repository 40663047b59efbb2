"""What `select` and `info` print: a model's card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from autoseg import tables
from autoseg.console import STYLES, say
from autoseg.progress import duration
from autoseg.words import counted

if TYPE_CHECKING:  # its modules load numpy and pydantic, which `--help` must not wait for
    from autoseg.pipeline.info import InfoReport
    from autoseg.pipeline.reports import SelectReport
    from autoseg.records import Calibration, Card, Compared, KeepLargest, ModelHeader, Selection, SpeedMode


def show_select(console: Console, report: SelectReport, predict_command: str) -> None:
    """What was compared, what was chosen and what is known of it, and where it is."""
    selection, header = report.selection, report.header
    show_compared(console, selection.compared, "Compared on held-out cases")
    for note in report.notes:
        say(console, f"Note: {note}", STYLES["note"])
    show_tried(console, selection)
    _show_measured(console, header)
    members = ", ".join(member.name for member in header.members)
    say(console, f"Chosen: {selection.chosen} (networks: {members})", "bold")
    say(console, f"Written: {report.path} ({_size(report.path.stat().st_size)})")
    times = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in selection.seconds.items())
    say(console, f"Time: {times}")
    say(console, f"Next: {predict_command}")


def show_info(console: Console, report: InfoReport) -> None:
    """Everything that a model file says of itself."""
    header = report.header
    tables.show_table(console, f"Model {report.path}", ("what", "value"), _facts(report))
    _show_measured(console, header)
    if report.compared:
        show_compared(console, report.compared, "What it was compared with")
    if not report.own_names and any("(plan " in row.name for row in report.compared):
        say(console, "Plans are numbered: their names stay in the work folder, where the file may go to others.")
    say(console, "Limits", "bold")
    for words in report.limits:
        say(console, f"  {words}")
    say(console, "  Research software, not a medical device.")


def _facts(report: InfoReport) -> Iterable[tuple[str, str]]:
    from autoseg.pipeline.info import configurations

    header, seen = report.header, report.header.fingerprint
    yield "file", f"{_size(report.size_bytes)}, {sum(report.parameters.values()):,} parameters"
    yield "channels", ", ".join(header.channels)
    yield "labels", ", ".join(_named(name, value) for name, value in header.labels.without_cores.names.items())
    if header.labels.things:
        yield "counted", ", ".join(header.labels.things)
    for name, (entry, count) in configurations(header).items():
        spacing = " × ".join("own" if size is None else f"{size:.4g}" for size in entry.preparation.spacing)
        patch = " × ".join(map(str, entry.patch_size))
        yield name, f"{counted(count, 'network')} ({entry.network}), {spacing} mm, patch {patch}"
    stages = {member.previous_stage for member in header.members}
    averaged = [entry for entry in header.members if not {entry.name, entry.configuration.name} & stages]
    if len(averaged) > 1:
        yield "combined by", f"mean {header.combine}"
    axes = header.members[0].mirror_axes
    yield "mirroring", "along " + ", ".join("ZYX"[axis] for axis in axes) if axes else "none"
    if seen.cases:
        where = f", stored as {', '.join(seen.orientations)}" if seen.orientations else ""
        yield "dataset", f"{counted(seen.cases, 'case')}{where}"
    if header.channel_dropout:
        yield "channel dropout", f"{header.channel_dropout:g}: it does without missing channels"
    if header.plugins:
        yield "needs modules", ", ".join(header.plugins)
    if header.precision != "auto":
        yield "precision", header.precision
    yield "made with", ", ".join(f"{name} {version}" for name, version in sorted(header.versions.items())) or "unknown"


def _show_measured(console: Console, header: ModelHeader) -> None:
    """What selection measured of the model."""
    if header.card is not None:
        show_card(console, header.card)
    for step in header.post_processing:
        say(console, f"Post-processing: {_in_words(step)}.")
    if header.card is not None and not header.post_processing:
        say(console, "Post-processing: none.")
    show_speeds(console, header.speeds)
    if header.calibration is not None:
        show_calibration(console, header.calibration)


def show_card(console: Console, card: Card) -> None:
    """Scores per label with their intervals."""
    objects = any(label.panoptic_quality is not None for label in card.labels)
    rows = [
        (
            *(label.name, _score(label.dice), _between(label.low, label.high), _score(label.hd95_mm, 2)),
            *(_score(label.nsd), str(label.cases), str(label.false_alarms), str(label.rightly_absent)),
            *((_score(label.panoptic_quality), _score(label.average_precision_50)) if objects else ()),
        )
        for label in card.labels
    ]
    columns = ["label", "Dice", "95 % interval", "HD95 mm", "NSD", "N", "false alarms", "rightly absent"]
    columns += ["PQ", "AP50"] if objects else []
    tables.show_table(console, f"How good it is: {counted(card.cases, 'held-out case')}", columns, rows)
    spread = f" ({_between(card.low, card.high)})" if card.low is not None else ""
    say(
        console,
        f"Mean Dice {_score(card.mean_dice)}{spread}. Each case was scored by networks that had not seen it; intervals "
        f"are of the mean, from the bootstrap over cases. NSD: share of the surfaces within {card.tolerance_mm:g} mm.",
    )
    if objects:
        say(
            console,
            "PQ, AP50: panoptic quality and TP / (TP + FP + FN) at an IoU of 0.5 of the objects, means over cases.",
        )


def show_compared(console: Console, compared: Sequence[Compared], title: str) -> None:
    """A row per model: its own mean, and its gain over the chosen one on the cases that both have."""
    objects = any(row.mean_quality is not None for row in compared)
    rows = [
        (
            *(row.name, str(row.networks), _score(row.mean_dice)),
            *((_score(row.mean_quality),) if objects else ()),
            str(row.cases),
            *(_signed(row.gain), _between(row.low, row.high, signed=True)),
            *("-" if row.shared_cases is None else str(row.shared_cases), row.verdict),
        )
        for row in compared
    ]
    quality = ["quality"] if objects else []
    beside = ("cases", "gain over chosen", "95 % interval", "on cases", "verdict")
    tables.show_table(console, title, ("model", "networks", "Dice", *quality, *beside), rows)
    if objects:
        say(console, "Quality, by which is chosen: of labels with objects their panoptic quality, of others Dice.")


def show_tried(console: Console, selection: Selection) -> None:
    """What keeping the largest component of each label did."""
    rows = [
        (
            *(entry.step.label or "all foreground", _score(entry.step.dice_before, 4)),
            *(_score(entry.step.dice_after, 4), str(entry.step.cases), str(entry.step.better), str(entry.step.worse)),
            "kept" if entry.kept else "not kept",
        )
        for entry in selection.post_processing
    ]
    columns = ("largest component of", "Dice before", "Dice after", "cases", "better", "worse", "verdict")
    tables.show_table(console, "Post-processing", columns, rows)


def show_speeds(console: Console, speeds: Sequence[SpeedMode]) -> None:
    """A row per mode; nothing where none was measured."""
    if not speeds:
        return
    rows = [
        (
            *(mode.name, _settings(mode), _score(mode.mean_dice), str(mode.cases)),
            *(_seconds(mode.seconds_per_case), _seconds(mode.seconds_per_million_voxels)),
        )
        for mode in speeds
    ]
    columns = ("speed", "tiles", "Dice", "cases", "s per case", "s per million voxels")
    tables.show_table(console, f"Speeds, measured on {speeds[-1].device}", columns, rows)


def show_calibration(console: Console, calibration: Calibration) -> None:
    """A row per temperature: the calibration error before and after."""
    rows = [
        (
            *(entry.name, f"{entry.value:.2f}", _score(entry.before.ece), _score(entry.after.ece)),
            *(_score(entry.before.nll), _score(entry.after.nll)),
        )
        for entry in calibration.temperatures
    ]
    columns = ("probabilities of", "temperature", "ECE before", "ECE after", "NLL before", "NLL after")
    tables.show_table(console, "Calibration near the foreground", columns, rows)
    say(
        console,
        f"Fitted on {counted(calibration.fitted_on, 'held-out case')}, reported on {calibration.reported_on} others. "
        "ECE: mean distance of confidence and accuracy. Masks are not changed by it.",
    )


def _in_words(step: KeepLargest) -> str:
    what = "all foreground together" if step.label is None else step.label
    return (
        f"the largest component of {what} is kept (Dice {step.dice_before:.4f} to {step.dice_after:.4f}; "
        f"{step.better} of {counted(step.cases, 'case')} better, {step.worse} worse)"
    )


def _settings(mode: SpeedMode) -> str:
    settings = mode.settings
    words = [f"step {settings.step:g}", "mirrored" if settings.mirror else "not mirrored"]
    words += [counted(len(settings.members), "network")] if settings.members else []
    words += ["region of interest"] if settings.roi else []
    return ", ".join(words)


def _named(name: str, value: int | tuple[int, ...]) -> str:
    return f"{name} = {'+'.join(map(str, value)) if isinstance(value, tuple) else value}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.0f} kB"


def _score(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _between(low: float | None, high: float | None, signed: bool = False) -> str:
    if low is None or high is None:
        return "-"
    return f"{low:+.3f} to {high:+.3f}" if signed else f"{low:.3f} to {high:.3f}"
