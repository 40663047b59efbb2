"""Which is better, and is it more than noise: compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoseg import console, result_tables
from autoseg.cli.app import DONE
from autoseg.options import DEFAULT_WORK, Tolerance, Work, Workers


def compare(
    compared: Annotated[
        list[str],
        typer.Argument(
            metavar="SIDE",
            help="Two or more sides: a configuration of the work folder (2d, PLAN/2d), a run, a folder of masks, or a "
            "summary.json, also nnU-Net's.",
        ),
    ],
    metric: Annotated[
        str,
        typer.Option(
            "--metric", metavar="NAME", help="What is compared: dice, iou, nsd, hd95, assd; pq or ap50 of objects."
        ),
    ] = "dice",
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            metavar="DIR",
            help="Score the masks of folders against these label maps, instead of reading their summary.json.",
        ),
    ] = None,
    labels_from: Annotated[
        Path | None,
        typer.Option("--labels-from", metavar="PATH", help="Dataset folder or model file that names the labels."),
    ] = None,
    tolerance: Tolerance = 1.0,
    work: Work = DEFAULT_WORK,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Where the page goes (default: WORK/report/comparison.html, or here where there is no work folder).",
        ),
    ] = None,
    workers: Workers = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, and write no page.")] = False,
) -> int:
    """Tell which training or masks are better, and how surely.

    Every two are compared on the cases and labels that all of them have: paired differences with a bootstrap interval,
    the signed-rank test with Holm's correction, and, where the folds are known, by how much the difference varies from
    fold to fold. A sentence says which is better, or that it is a tie. A word that is a path is taken as one. Leaves a
    page with every case's difference.

    Examples: autoseg compare 2d 3d_fullres; autoseg compare masks-a masks-b --reference labelsTs; autoseg compare
    3d_fullres nnUNet_results/DATASET/TRAINER__PLANS__3d_fullres
    """
    from autoseg.pipeline.compare import compare as run
    from autoseg.pipeline.compare import comparison_report
    from autoseg.workspace import Workspace

    workspace, progress = Workspace(work), console.RichProgress()
    comparison = run(
        compared,
        workspace,
        metric=metric,
        references=reference,
        labels_from=labels_from,
        tolerance_mm=tolerance,
        workers=workers,
        progress=progress,
    )
    if json:
        console.say_json(comparison.model_dump(mode="json"))
        return DONE
    from autoseg.pipeline.pages import left

    result_tables.show_comparison(console.results_console(), comparison)
    if output is not None:  # asked for: without it the command has failed
        progress.say(f"Report: {comparison_report(comparison, workspace, output)}")
    else:
        left(lambda: comparison_report(comparison, workspace), progress)
    return DONE
