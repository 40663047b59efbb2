"""Masks: making them and scoring them."""

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
    Engine,
    MaxRam,
    Models,
    Overwrite,
    Precision,
    PredictWorkers,
    Threads,
    Tolerance,
    Use,
    Work,
    Workers,
    parse_budget,
)

if TYPE_CHECKING:
    from autoseg.pipeline.reports import EvaluateReport
    from autoseg.workspace import Workspace

#: Panel of the help for what the modes of `predict` decide otherwise.
BY_HAND = "Speed by hand"


def predict(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES",
            help="An image, a folder of images or of DICOM series, or a .csv or .json list (case,channel,path).",
        ),
    ],
    masks: Annotated[Path, typer.Argument(metavar="MASKS", help="Folder for the masks.")],
    model: Models = None,
    speed: Annotated[
        str | None,
        typer.Option("--speed", metavar="MODE", help="fast, balanced or best (the default)."),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            metavar="TIME",
            parser=parse_budget,
            help="For each case the best mode that stays below this time, reading and writing included: 10s, 2min.",
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            metavar="NAMES",
            help="Keep these labels only, such as liver,spleen; all others become background.",
        ),
    ] = None,
    save_probabilities: Annotated[
        bool,
        typer.Option(
            "--save-probabilities",
            help="Write the probabilities of all labels as well: MASKS/probabilities, a volume per label.",
        ),
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Write maps of where the mask is unsure: MASKS/entropy and MASKS/disagreement, in bits.",
        ),
    ] = False,
    object_masks: Annotated[
        bool,
        typer.Option(
            "--object-masks",
            help="Of a model that counts objects write one binary mask each: MASKS/object_masks, NumPy files of shape "
            "(N, Z, Y, X).",
        ),
    ] = False,
    mask_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Format of the masks: auto (that of the images), nifti, nrrd, dicom-seg or rtstruct.",
        ),
    ] = "auto",
    overwrite: Overwrite = False,
    work: Work = DEFAULT_WORK,
    device: Device = "auto",
    precision: Precision = "auto",
    engine: Engine = None,
    max_ram: MaxRam = None,
    workers: PredictWorkers = None,
    threads: Threads = None,
    use: Use = None,
    roi: Annotated[
        bool,
        typer.Option(
            "--roi",
            help="Find the labels in a coarse pass first, and look closely there only: quicker where they fill little "
            "of the image.",
            rich_help_panel=BY_HAND,
        ),
    ] = False,
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirror",
            help="Average over mirrored copies: a little better, several times slower (default: as the mode says).",
            show_default=False,
            rich_help_panel=BY_HAND,
        ),
    ] = None,
    step: Annotated[
        float | None,
        typer.Option(
            "--step",
            min=0.1,
            max=1.0,
            metavar="SHARE",
            help="Step from tile to tile, as a share of the tile (default: as the mode says).",
            rich_help_panel=BY_HAND,
        ),
    ] = None,
    post_process: Annotated[
        bool,
        typer.Option(
            "--post-process/--no-post-process",
            help="Keep only the largest component of the labels that selection found better off so.",
            rich_help_panel=BY_HAND,
        ),
    ] = True,
) -> int:
    """Segment images with a trained model.

    Each mask is named like its case, and lies on exactly the grid of its image (same shape, position and
    orientation). One bad image does not stop the others. The command says which model it uses. A model that was
    trained with --channel-dropout does without channels that have no file. DICOM-SEG and RTSTRUCT refer to the series
    that they are made from, so these formats need DICOM images.

    MASKS/volumes.csv has the volume of each label in each case, and MASKS/review.csv the cases to look at first, with
    the reasons; both tell the Dice that is to be expected where the model knows. What is unlike the training data is
    warned of.

    Before it begins it tells about how long it will take. A mode stands for step, mirroring, networks and precision;
    what is given by hand overrides it.

    Examples: autoseg predict patient.nii.gz masks; autoseg predict images masks --model model.safetensors;
    autoseg predict images masks --speed fast --labels liver,spleen; autoseg predict series masks --format dicom-seg
    """
    from autoseg.dataset.inputs import require_inputs

    require_inputs(images)  # what is misspelt is told before anything else is said, and before torch is loaded
    progress = console.ready_to_compute(threads=threads)
    from autoseg.pipeline.predict import predict as run
    from autoseg.records import MapKinds, PredictLimits, PredictSettings
    from autoseg.workspace import Workspace

    given = {
        "step": step,
        "mirror": mirror,
        "labels": tuple(labels) if labels else None,
        "roi": roi or None,
        "engine": engine,
    }
    given |= {} if post_process else {"post_process": False}
    report = run(
        images,
        masks,
        models=tuple(model or ()),
        work=Workspace(work),
        device=device,
        speed=speed,
        deadline=deadline,
        settings=PredictSettings.model_validate({name: value for name, value in given.items() if value is not None}),
        precision=precision,
        maps=MapKinds(probabilities=save_probabilities, uncertainty=uncertainty, object_masks=object_masks),
        limits=PredictLimits(max_ram_bytes=max_ram, workers=workers),
        overwrite=overwrite,
        mask_format=mask_format,
        use=tuple(use or ()),
        progress=progress,
    )
    from autoseg.pipeline.pages import left
    from autoseg.pipeline.result_pages import masks_report

    known = report.labels
    if report.masks and known is not None:
        left(lambda: masks_report(masks, report.images, known), progress)
    result_tables.show_predict(console.results_console(), report, masks)
    return outcome(report.failures, len(report.written) + len(report.skipped))


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
