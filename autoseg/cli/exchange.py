"""Models from and for other programs: import-nnunet, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from autoseg import console, tables
from autoseg.cli.app import DONE
from autoseg.errors import UsageError
from autoseg.options import DEFAULT_WORK, Models, Use, Work
from autoseg.progress import duration

if TYPE_CHECKING:  # its modules load torch, which `--help` must not wait for
    from autoseg.pipeline.exchange import ExportReport, ImportReport
    from autoseg.pipeline.onnx_export import OnnxReport


def import_nnunet(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS_FOLDER",
            help="nnU-Net's folder of a trained model (trainer__plans__configuration), a folder with one such folder "
            "below it, or a zip that nnU-Net exported.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Model file to write, such as model.safetensors.")],
    fold: Annotated[
        list[str] | None,
        typer.Option(
            "--fold",
            metavar="K",
            help="Only this fold: 0, 1, … or all; may be given several times (default: every numbered fold there is; "
            "their scores are averaged).",
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="NAME",
            help="Checkpoint file in the fold folders, such as checkpoint_best.pth (default: checkpoint_final.pth, or "
            "what is there).",
        ),
    ] = None,
    configuration: Annotated[
        str | None,
        typer.Option(
            "--configuration",
            metavar="NAME",
            help="Which model to take where there are several, such as 2d or 3d_fullres.",
        ),
    ] = None,
) -> int:
    """Turn a model that nnU-Net trained into a model file for predict.

    Plain and residual-encoder U-Nets, 2D and 3D, are read from plans.json, dataset.json and the folds' checkpoints;
    nothing in the checkpoints is executed. The masks equal nnU-Net's. As in nnU-Net, the model sees axes as they are
    stored in the files, and computes in float32 unless predict is told otherwise.

    Example: autoseg import-nnunet nnUNetTrainer__nnUNetPlans__3d_fullres --out model.safetensors
    """
    from autoseg.pipeline.exchange import import_nnunet as run

    report = run(
        results,
        out,
        folds=tuple(fold or ()),
        checkpoint=checkpoint,
        configuration=configuration,
        progress=console.RichProgress(),
    )
    show_import(console.results_console(), report)
    return DONE


def export(
    model_file: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL]", help="Model file or folder of runs, as --model.", show_default=False),
    ] = None,
    nnunet: Annotated[
        Path | None,
        typer.Option(
            "--nnunet",
            metavar="DIR",
            help="Write for nnU-Net: DIR gets a folder trainer__plans__configuration; nothing in DIR is overwritten.",
        ),
    ] = None,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Write the networks as ONNX files, with all steps around them as JSON."),
    ] = False,
    model: Models = None,
    work: Work = DEFAULT_WORK,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Folder to make for --onnx (default: NAME-onnx beside the model NAME)."
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            "--image",
            metavar="FILE",
            help="Image to try the ONNX files on, once per channel (default: a case of the work folder that was held "
            "back, else a made-up image).",
        ),
    ] = None,
    file_ending: Annotated[
        str | None,
        typer.Option(
            "--file-ending",
            metavar="ENDING",
            help="Ending of the images that nnU-Net will read (default: that of the dataset, else .nii.gz).",
        ),
    ] = None,
    use: Use = None,
) -> int:
    """Write a trained model for other programs.

    With --onnx, a folder gets an ONNX file per network and steps.json, which tells every step before and after them in
    numbers. The files are run in ONNX Runtime beside the model, and are kept only if the Dice of each label is 0.999 or
    more.

    With --nnunet, plans and checkpoints go into a folder from which nnU-Net's own predict makes the same masks. The
    command says what to call there.

    Examples: autoseg export model.safetensors --onnx; autoseg export --nnunet for-nnunet
    """
    models = (*([] if model_file is None else [model_file]), *(model or ()))
    if onnx == (nnunet is not None):
        raise UsageError("export needs to know what for", remedy="Give either --onnx or --nnunet DIR.")
    strange = ["--file-ending"] if onnx and file_ending else []
    strange += [name for name, given in (("--out", out), ("--image", image), ("--use", use)) if given and not onnx]
    if strange:
        raise UsageError(f"{strange[0]} goes with {'--nnunet' if onnx else '--onnx'} only", remedy="Leave it out.")
    from autoseg.workspace import Workspace

    progress, results = console.RichProgress(), console.results_console()
    if nnunet is None:
        from autoseg.pipeline.onnx_export import export_onnx

        written = export_onnx(
            out, models=models, work=Workspace(work), images=tuple(image or ()), use=tuple(use or ()), progress=progress
        )
        show_onnx(results, written)
        return DONE
    from autoseg.pipeline.exchange import export_nnunet

    report = export_nnunet(nnunet, models=models, work=Workspace(work), file_ending=file_ending, progress=progress)
    show_export(results, report)
    return DONE


# -------------------------------------------------------------------------------------------------------- reports


def show_import(shown: Console, report: ImportReport) -> None:
    """What was taken over, and where it is."""
    header, configuration = report.header, report.configuration
    preparation, axes = configuration.preparation, header.members[0].mirror_axes
    labels = ", ".join(
        f"{name} = {'+'.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in header.labels.names.items()
    )
    spacing = " × ".join("own" if size is None else f"{size:.4g}" for size in preparation.spacing)
    rows = {
        "configuration": f"{configuration.name} ({configuration.dimensions}D, network {configuration.network}, "
        f"{len(configuration.strides)} stages)",
        "checkpoints": ", ".join(report.checkpoints),
        "channels": ", ".join(header.channels),
        "labels": labels,
        "patch": " × ".join(map(str, configuration.patch_size)),
        "spacing": f"{spacing} mm",
        "normalization": ", ".join(preparation.normalization),
        "axes": "turned to RAS+ first" if preparation.orientation == "ras" else "as stored in the file",
        "mirroring": "along " + ", ".join("ZYX"[axis] for axis in axes) if axes else "none",
        "precision": header.precision,
    }
    tables.show_table(shown, f"Model of nnU-Net: {report.source}", ("what", "value"), rows.items())
    _notes(shown, report.notes)
    console.say(shown, f"Written: {report.path}")
    console.say(shown, f"Next: autoseg predict IMAGES MASKS --model {_word(report.path)}")


def show_export(shown: Console, report: ExportReport) -> None:
    """Which folders were written, and what to call there."""
    console.say(shown, f"Model: {report.description}")
    _notes(shown, report.notes)
    for folder, folds in report.folders.items():
        console.say(shown, f"Written: {folder} (fold {', '.join(folds)})")
        words = f"-i IMAGES -o MASKS -m {_word(folder)} -f {' '.join(folds)}"
        console.say(shown, f"For nnU-Net: nnUNetv2_predict_from_modelfolder {words}")


def show_onnx(shown: Console, report: OnnxReport) -> None:
    """How the files compare with the model, and where they are."""
    verification = report.verification
    console.say(shown, f"Model: {report.description}")
    rows = ((name, "-" if score is None else f"{score:.5f}") for name, score in verification.dice.items())
    title = f"Masks by {verification.engine} against {verification.reference}, on a {verification.image}"
    tables.show_table(shown, title, ("label", "Dice"), rows)
    times = ", ".join(f"{name} {duration(seconds)}" for name, seconds in report.seconds.items())
    console.say(shown, f"{verification.different_voxels:,} of {verification.voxels:,} voxels differ ({times})")
    _notes(shown, report.notes)
    console.say(shown, f"Written: {report.folder} ({', '.join(report.files)}, steps.json)")


def _notes(shown: Console, notes: tuple[str, ...]) -> None:
    for note in notes:
        console.say(shown, f"Note: {note}", console.STYLES["note"])


def _word(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)
