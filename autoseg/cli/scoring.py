"""Scoring masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoseg import console, result_tables
from autoseg.cli.app import outcome
from autoseg.errors import UsageError
from autoseg.options import (
    DEFAULT_WORK,
    Device,
    Models,
    Overwrite,
    Tolerance,
    Use,
    Work,
    Workers,
)

if TYPE_CHECKING:
    from autoseg.pipeline.reports import EvaluateReport
    from autoseg.workspace import Workspace


def evaluate(
    masks: Annotated[
        Path | None, typer.Argument(metavar="MASKS", help="Masks to score: a folder, or one file.")
    ] = None,
    references: Annotated[
        Path | None,
        typer.Argument(
            metavar="REFERENCES", help="Label maps of the same names; a last word such as _seg or -mask may differ."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="IMAGES",
            help="Images of the masks, as predict was given them: the page draws the worst and best cases over them "
            "(default: those of the work folder's dataset, where masks were made from them).",
        ),
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
    lesions: Annotated[
        bool, typer.Option("--lesions", help="Count connected components as well: found, missed, false alarms, F1.")
    ] = False,
    lesion_iou: Annotated[
        float,
        typer.Option(
            "--lesion-iou",
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="IoU from which a lesion counts as found (0: any overlap).",
        ),
    ] = 0.0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    every_case: Annotated[
        bool, typer.Option("--every-case", help="Show a row for every case, however many there are.")
    ] = False,
    work: Work = DEFAULT_WORK,
    workers: Workers = None,
    use: Use = None,
) -> int:
    """Compare masks with reference label maps.

    Per case and label: Dice, IoU, volumes and their error, and surface distances (NSD, HD95, ASSD). Means say over how
    many cases; a label that is absent from the reference is counted apart, never averaged in. Label names come from
    --labels-from or the work folder, if there is one. With --lesions every connected component of a label counts as
    one, and is found if a component of the mask overlaps it.

    Examples: autoseg evaluate masks references; autoseg evaluate masks references --images images;
    autoseg evaluate --test
    """
    from autoseg.workspace import Workspace

    workspace = Workspace(work)
    options: dict[str, Any] = {
        "tolerance_mm": tolerance,
        "lesion_iou": lesion_iou if lesions else None,
        "workers": workers,
        "progress": console.RichProgress(),
    }
    from autoseg.plugins import load_plugins

    load_plugins(use or ())
    if test:
        if any(given is not None for given in (masks, labels_from, output, images)):
            raise UsageError(
                "--test takes neither MASKS nor --labels-from, --output or --images", remedy="Leave them out."
            )
        options |= {"models": tuple(model or ()), "device": device, "overwrite": overwrite, "use": tuple(use or ())}
        report = _evaluated_test(workspace, options)
    else:
        if masks is None or references is None:
            raise UsageError("evaluate needs MASKS and REFERENCES, or --test", remedy="See autoseg evaluate --help.")
        if model or overwrite:
            raise UsageError(
                "--model and --overwrite go with --test only", remedy="Masks are scored as they are; leave it out."
            )
        options |= {"labels_from": labels_from, "output": output}
        report = _evaluated_masks(masks, references, images, workspace, options)
    result_tables.show_evaluate(console.results_console(), report, every_case)
    return outcome(report.summary.failures, len(report.summary.cases))


def _evaluated_test(work: Workspace, options: dict[str, Any]) -> EvaluateReport:
    """The scores of the dataset's own test cases, with their page."""
    from autoseg.pipeline.held_back import evaluate_test
    from autoseg.pipeline.pages import left
    from autoseg.pipeline.result_pages import report_of_tests

    report = evaluate_test(work, **options)
    left(lambda: report_of_tests(work), options["progress"])
    return report


def _evaluated_masks(
    masks: Path, references: Path, images: Path | None, work: Workspace, options: dict[str, Any]
) -> EvaluateReport:
    """The scores of masks that are there, with their page."""
    from autoseg.dataset.pairing import images_for, nothing_paired, pair_up
    from autoseg.pipeline.evaluate import evaluate as run
    from autoseg.pipeline.pages import left
    from autoseg.pipeline.result_pages import results_report

    progress = options["progress"]
    if images is not None:  # what is misspelt is told before anything is scored
        pairs, _ = pair_up(masks, references)
        if not pairs:
            raise nothing_paired(masks, references)
        images_for(images, pairs)
    if options["labels_from"] is None and work.dataset.exists():
        progress.say(f"Labels are named as in {work.root}; --labels-from names another dataset or model.")
    report = run(masks, references, work=work, **options)
    left(lambda: results_report(masks, references, report.summary, report.output, work, images), progress)
    return report
