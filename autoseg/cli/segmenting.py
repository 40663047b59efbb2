"""Making masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoseg import console, result_tables
from autoseg.cli.app import outcome
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
    Use,
    Work,
    parse_budget,
)

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
