"""Models from and for other programs: import-nnunet, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from autoseg import console, tables
from autoseg.cli.app import DONE
from autoseg.errors import UsageError
from autoseg.options import DEFAULT_WORK, Models, Work

if TYPE_CHECKING:  # its modules load torch, which `--help` must not wait for
    from autoseg.pipeline.exchange import ExportReport, ImportReport


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
    nnunet: Annotated[
        Path | None,
        typer.Option(
            "--nnunet",
            metavar="DIR",
            help="Write for nnU-Net: DIR gets a folder trainer__plans__configuration; nothing in DIR is overwritten.",
        ),
    ] = None,
    model: Models = None,
    work: Work = DEFAULT_WORK,
    file_ending: Annotated[
        str | None,
        typer.Option(
            "--file-ending",
            metavar="ENDING",
            help="Ending of the images that nnU-Net will read (default: that of the dataset, else .nii.gz).",
        ),
    ] = None,
) -> int:
    """Write a trained model for other programs.

    With --nnunet, plans and checkpoints go into a folder from which nnU-Net's own predict makes the same masks. The
    command says what to call there.

    Examples: autoseg export --nnunet for-nnunet; autoseg export --nnunet for-nnunet --model model.safetensors
    """
    if nnunet is None:
        raise UsageError("export needs to know what for", remedy="Give --nnunet DIR.")
    from autoseg.pipeline.exchange import export_nnunet
    from autoseg.workspace import Workspace

    report = export_nnunet(
        nnunet,
        models=tuple(model or ()),
        work=Workspace(work),
        file_ending=file_ending,
        progress=console.RichProgress(),
    )
    show_export(console.results_console(), report)
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


def _notes(shown: Console, notes: tuple[str, ...]) -> None:
    for note in notes:
        console.say(shown, f"Note: {note}", console.STYLES["note"])


def _word(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)
