"""Scores as a page: every case of every label, the worst and the best to look at, and what is taken for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.records import Calibration, CaseCost, CaseScore, LabelScore, Summary
from autoseg.report.chart_parts import Dot
from autoseg.report.charts import box_plots, has_boxes, heat_table, reliability, scatter
from autoseg.report.cost_section import cost_section
from autoseg.report.counted_sections import lesions_section, objects_section
from autoseg.report.page import (
    MOST_ROWS,
    NOTHING,
    Block,
    Cell,
    Charts,
    Facts,
    Figure,
    Names,
    Page,
    Picture,
    Pictures,
    Section,
    Words,
    beginning,
    called,
    number,
    sections,
    table,
    word,
)
from autoseg.report.pictures import ERRORS, colours_of, reading
from autoseg.words import counted

#: Cases that are shown with pictures.
WORST, BEST = 4, 2

#: Labels whose volumes are drawn, and which are set against one another.
_MOST_CHARTS, _MOST_CONFUSED = 9, 12

#: Metrics of the box plots: field, title, range.
_METRICS = (
    ("dice", "Dice", (0.0, 1.02)),
    ("nsd", "normalized surface Dice", (0.0, 1.02)),
    ("hd95_mm", "95 % Hausdorff distance (mm)", None),
    ("assd_mm", "average surface distance (mm)", None),
)

_NO_IMAGES = (
    "Where no image of a mask is known, the masks are drawn alone: "
    "`autoseg evaluate MASKS REFERENCES --images FOLDER` draws them over the images in that folder."
)

_WHISKERS = "Boxes are quartiles, whiskers reach 1.5 times their distance."


@dataclass(frozen=True, eq=False)
class Confusion:
    """Voxels of each reference label (row) that each label was predicted for (column), background first."""

    names: tuple[str, ...]
    voxels: NDArray[np.int64]
    cases: int  # that were counted


def mean_dice(case: CaseScore) -> float | None:
    """Mean over the labels that exist in reference or mask."""
    found = [score.dice for score in case.labels.values() if score.dice is not None]
    return sum(found) / len(found) if found else None


def to_look_at(summary: Summary) -> tuple[list[CaseScore], list[CaseScore]]:
    """The worst cases, worst first, and the best of the others, best first."""
    ranked = sorted(
        (case for case in summary.cases if mean_dice(case) is not None),
        key=lambda case: (mean_dice(case) or 0.0, case.case),
    )
    worst = ranked[:WORST]
    return worst, ranked[len(worst) :][::-1][:BEST]


def results_page(
    title: str,
    summary: Summary,
    worst: Sequence[Picture],
    best: Sequence[Picture],
    confusion: Confusion | None,
    calibration: Calibration | None,
    costs: Mapping[str, CaseCost],
    names: Names,
) -> Page:
    """The page of scores.

    Args:
        title: what was scored.
        summary: the scores.
        worst, best: pictures of cases (`pictures.comparison`).
        confusion: what is taken for what.
        calibration: of the model that made the masks, where it is known.
        costs: time and memory of each mask, where that is known.
        names: how to call the cases.
    """
    return Page(
        kind="results",
        title=names.words(title, "Results"),
        subtitle=f"{counted(len(summary.cases), 'case')}, {counted(len(summary.labels), 'label')}; surface Dice at "
        f"{summary.tolerance_mm:g} mm.",
        sections=sections(
            Section("At a glance", _glance(summary)),
            Section("Every case", _plots(summary, names), "A dot is a case; point at it to see which."),
            Section(
                "Volumes",
                _volumes(summary, names),
                "Volume of the reference and of the mask; on the line both are equal.",
            ),
            _looks(summary, worst, best),
            _confused(confusion),
            _calibrated(calibration),
            lesions_section(summary),
            objects_section(summary),
            cost_section(costs, names),
            Section("Failures", _failures(summary, names)),
            Section("Table of cases", _cases(summary, names)),
        ),
    )


def _glance(summary: Summary) -> tuple[Block, ...]:
    facts = [
        ("mean Dice over labels", NOTHING if summary.mean_dice is None else f"{summary.mean_dice:.3f}"),
        ("cases", str(len(summary.cases))),
        ("failed", str(len(summary.failures))),
    ]
    rows = [
        (
            word(name),
            number(entry.dice, kind=_quality(entry.dice)),
            number(entry.iou),
            number(entry.nsd),
            number(entry.hd95_mm, 2),
            number(entry.assd_mm, 2),
            number(entry.volume_error_ml, 2),
            number(entry.volume_bias_ml, 2),
            number(entry.cases, 0),
            number(entry.empty_references, 0, "doubt" if entry.empty_references else ""),
            number(entry.both_empty, 0),
        )
        for name, entry in summary.labels.items()
    ]
    columns = (
        "label", "Dice", "IoU", "NSD", "HD95 (mm)", "ASSD (mm)", "volume error (ml)", "bias (ml)", "cases",
        "false alarms", "rightly absent",
    )  # fmt: skip
    return (Facts(tuple(facts)), table(columns, rows, "Means over the cases whose reference has the label."))


def _quality(dice: float | None) -> str:
    return "bad" if dice is not None and dice < 0.5 else ""


def _plots(summary: Summary, names: Names) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for field, title, span in _METRICS:
        groups = {name: _dots(summary, name, field, names) for name in summary.labels}
        groups = {name: dots for name, dots in groups.items() if dots}
        if groups:
            row = 46 if len(groups) <= 12 else 26
            told = _WHISKERS if field == "dice" and has_boxes(groups) else ""
            blocks.append(Figure(box_plots(groups, title, value=span, row=row), told))
    return tuple(blocks)


def _dots(summary: Summary, label: str, field: str, names: Names) -> list[Dot]:
    found = ((case, case.labels.get(label)) for case in summary.cases)
    values = ((case, getattr(score, field)) for case, score in found if score is not None)
    return [Dot(float(value), names(case.case)) for case, value in values if value is not None]


def _volumes(summary: Summary, names: Names) -> tuple[Block, ...]:
    charts = []
    for index, label in enumerate(list(summary.labels)[:_MOST_CHARTS]):
        scores = [(case, case.labels[label]) for case in summary.cases if label in case.labels]
        dots = [
            (score.volume_reference_ml, Dot(score.volume_prediction_ml, names(case.case))) for case, score in scores
        ]
        if dots:
            charts.append(
                scatter(
                    dots, f"{label}, reference (ml)", "mask (ml)", diagonal=True, colour=index, width=340, height=280
                )
            )
    return (Charts(tuple(charts)),) if charts else ()


def _looks(summary: Summary, worst: Sequence[Picture], best: Sequence[Picture]) -> Section | None:
    if not worst and not best:
        return None
    columns = ("image", "reference", "prediction", "errors")
    order = reading((*worst, *best), columns, ", where errors are largest")
    legend = tuple((colour, name) for name, colour in colours_of(tuple(summary.labels)).items())
    blocks: list[Block] = []
    if not all(picture.image for picture in (*worst, *best)):
        blocks.append(Words(_NO_IMAGES))
    blocks.append(Pictures(tuple(worst), f"Worst first. {order}", (*legend[:14], *ERRORS), width=480))
    if best:
        blocks.append(Pictures(tuple(best), "Best first.", width=480))
    return Section("Worst and best", tuple(blocks))


def _confused(confusion: Confusion | None) -> Section | None:
    if confusion is None or not confusion.voxels.any():
        return None
    totals = confusion.voxels.sum(axis=1, keepdims=True)
    shares = confusion.voxels / np.maximum(totals, 1)
    lead = f"Where the voxels of each reference label went, over {confusion.cases} cases, in percent."
    if len(confusion.names) <= _MOST_CONFUSED:
        return Section(
            "Confusion between labels",
            (Figure(heat_table(confusion.names, shares.tolist(), "predicted", "reference")),),
            lead,
        )
    pairs = [
        (shares[row, column], row, column)
        for row in range(len(confusion.names))
        for column in range(len(confusion.names))
        if row != column and confusion.voxels[row, column]
    ]
    rows = [
        (word(confusion.names[row]), word(confusion.names[column]), number(100 * share, 2))
        for share, row, column in sorted(pairs, reverse=True)[:60]
    ]
    return Section("Confusion between labels", (table(("reference", "predicted", "share (%)"), rows),), lead)


def _calibrated(calibration: Calibration | None) -> Section | None:
    if calibration is None:
        return None
    bins = {}
    facts = []
    for entry in calibration.temperatures:
        for when, told in (("before", entry.before), ("after", entry.after)):
            bins[f"{entry.name}, {when}"] = [(group.confidence, group.accuracy) for group in told.bins]
        facts.append((f"calibration error, {entry.name}", f"{entry.before.ece:.3f} → {entry.after.ece:.3f}"))
    lead = (
        f"Of the selected model, near the foreground of {calibration.reported_on} cases on which no temperature was "
        "fitted. On the dashed line probabilities mean what they say."
    )
    return Section("Reliability", (Facts(tuple(facts)), Figure(reliability(bins))), lead)


def _failures(summary: Summary, names: Names) -> tuple[Block, ...]:
    if not summary.failures:
        return (Words("Every case has a score.", "good"),)
    rows = [
        (called(names(case)), word(names.words(why, "failed"), "bad")) for case, why in sorted(summary.failures.items())
    ]
    return beginning(("case", "why"), rows, "summary.json has all.")


def _cases(summary: Summary, names: Names) -> tuple[Block, ...]:
    labelled = [(case, label, score) for case in summary.cases for label, score in case.labels.items()]
    if len(labelled) > MOST_ROWS:
        rows = [
            (called(names(case.case)), number(mean_dice(case)), number(len(case.labels), 0)) for case in summary.cases
        ]
        rows_are_cases = Words("A row is a case: the CSV file beside this page has every label.")
        return (
            rows_are_cases,
            *beginning(("case", "mean Dice", "labels"), rows, "the CSV file beside this page has all."),
        )
    columns = ("case", "label", "Dice", "NSD", "HD95 (mm)", "ASSD (mm)", "reference (ml)", "mask (ml)", "error (ml)")
    return (table(columns, [_score_row(names(case.case), label, score) for case, label, score in labelled]),)


def _score_row(case: str, label: str, score: LabelScore) -> tuple[Cell, ...]:
    return (
        called(case),
        word(label),
        number(score.dice, kind=_quality(score.dice)),
        number(score.nsd),
        number(score.hd95_mm, 2),
        number(score.assd_mm, 2),
        number(score.volume_reference_ml, 2),
        number(score.volume_prediction_ml, 2),
        number(score.volume_error_ml, 2),
    )
