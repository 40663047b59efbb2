"""Results as tables and lines: what was trained, segmented and scored, as the commands print it on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from autoseg.console import STYLES, say
from autoseg.progress import duration
from autoseg.tables import show_failures, show_table
from autoseg.words import counted

if TYPE_CHECKING:  # records load numpy and pydantic, which `--help` must not wait for
    from autoseg.pipeline.reports import DemoReport, EvaluateReport, EveryReport, PredictReport, TrainReport
    from autoseg.pipeline.trust import ReviewRow
    from autoseg.records import Comparison, InstanceMeans, InstanceScore, PairedDifference, Summary

#: Rows of scores up to which every case is shown; of more, only the worst.
MOST_ROWS = 20
WORST_ROWS = 10


def show_train(console: Console, report: TrainReport) -> None:
    """Scores of the held-out cases, times, and where the model is."""
    show_failures(console, report.failures)
    if report.summary is not None:
        show_summary(console, report.summary, f"Held-out cases of fold {report.run.fold}")
        show_instances(console, report.summary)
    times = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in report.seconds.items())
    say(console, f"{counted(report.epochs, 'epoch')}, {counted(report.steps, 'step')} ({times})")
    if report.ended_early:
        way = "A larger --patience" if report.by_patience else "The same command"
        say(console, f"The run {report.ended_early}. {way} goes on from before it.")
    say(console, f"Model: {report.run.model}")


def show_every(console: Console, report: EveryReport) -> None:
    """A row per configuration with its folds' mean Dice, and what failed."""
    failed = report.failures
    if failed:
        say(console, f"{counted(len(failed), 'failure')}:", STYLES["error"])
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
        say(console, f"The series has ended: {report.ended_early}. The same command goes on.")


def show_predict(console: Console, report: PredictReport, masks: Path) -> None:
    """How many masks were written, and by which model."""
    show_failures(console, report.failures)
    skipped = f", {len(report.skipped)} were there already" if report.skipped else ""
    say(console, f"{counted(len(report.written), 'mask')} written to {masks}{skipped} ({duration(report.seconds)})")
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
    show_table(console, f"To be looked at first ({odd} of {counted(len(rows), 'case')} with a reason)", columns, cells)
    say(console, f"All cases, worst first: {masks / 'review.csv'}")


def show_evaluate(console: Console, report: EvaluateReport, every_case: bool) -> None:
    """Scores per case, then per label, and where the JSON is."""
    show_cases(console, report.summary, every_case)
    show_summary(console, report.summary, "All cases")
    show_lesions(console, report.summary)
    show_instances(console, report.summary)
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
        f"Mean Dice {_score(summary.mean_dice)} over {counted(len(summary.cases), 'case')}. "
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


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Means of all sides, a row per pair, per label too, and at the end a sentence for each pair."""
    from autoseg.evaluation.verdicts import METRICS  # loads numpy

    metric = next(known for known in METRICS.values() if known.field == comparison.metric)
    digits, title = metric.digits, f"{metric.title}{f', {metric.unit.strip()}' if metric.unit else ''}"
    sides = (
        (side.name, _score(side.mean, digits), f"{_score(side.low, digits)} to {_score(side.high, digits)}",
         str(side.false_alarms))
        for side in comparison.sides
    )  # fmt: skip
    cases = counted(len(comparison.cases), "case")
    show_table(console, f"{title}: {cases} that all have", ("compared", "mean", "95 % interval", "false alarms"), sides)
    show_differences(console, comparison.pairs, "Paired differences: second less first", digits)
    if comparison.by_label:
        show_differences(console, comparison.by_label, "The same of each label", digits)
    for note in comparison.notes:
        say(console, f"Note: {note}", STYLES["note"])
    for pair in comparison.pairs:
        say(console, f"{pair.second} against {pair.first}: {pair.words}", "bold")


def show_differences(console: Console, rows: Sequence[PairedDifference], title: str, digits: int) -> None:
    """A row per pair, or per label and pair; no column of what is known of none."""
    from autoseg.evaluation.verdicts import short_verdict  # loads numpy

    columns = ("label", "first", "second", "difference", "95 % interval", "p (Holm)", "fold noise", "higher", "lower",
               "verdict")  # fmt: skip
    cells = [
        (
            row.label or "", row.first, row.second, _signed(row.difference, digits),
            f"{_signed(row.low, digits)} to {_signed(row.high, digits)}",
            "-" if row.p_holm is None else f"{row.p_holm:.2g}", _score(row.fold_noise, digits + 1),
            str(row.higher), str(row.lower), short_verdict(row),
        )
        for row in rows
    ]  # fmt: skip
    known = [place for place, column in enumerate(zip(*cells, strict=True)) if set(column) - {"", "-"}]
    show_table(console, title, [columns[place] for place in known], ([row[place] for place in known] for row in cells))


def show_instances(console: Console, summary: Summary) -> None:
    """Objects counted one by one, per label; nothing where none are counted."""
    rows = []
    for label, entry in summary.labels.items():
        if entry.instances is None or entry.instance_means is None:
            continue
        for name, score in (("all objects", entry.instances), ("mean of cases", entry.instance_means)):
            qualities = (score.panoptic_quality, score.segmentation_quality, score.recognition_quality)
            rows.append((label, name, *map(_score, qualities), *map(_score, _precisions(score)), ""))
        found = entry.instances
        rows[-2] = (*rows[-2][:-1], f"{found.matched} of {found.reference}")
    if not rows:
        return
    columns = ("label", "over", "PQ", "SQ", "RQ", "AP50", "AP75", "AP90", "found")
    show_table(console, "Objects", columns, rows)
    told = "PQ, SQ, RQ: panoptic, segmentation and recognition quality; AP: TP / (TP + FP + FN) from that IoU on."
    if summary.panoptic is not None:
        parts = ("things", "stuff", "all")
        means = ", ".join(f"{part} {_score(getattr(summary.panoptic, part))}" for part in parts)
        told += f" Mean PQ of labels: {means}."
    say(console, told)


def _precisions(score: InstanceScore | InstanceMeans) -> tuple[float | None, ...]:
    """Average precision at an IoU of 0.5, 0.75 and 0.9."""
    from autoseg.evaluation.instances import precision_at  # loads numpy

    return tuple(precision_at(score, iou) for iou in (0.5, 0.75, 0.9))


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


def _score(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:+.{digits}f}"


def _percent(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1%}"
