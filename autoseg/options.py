"""Words that several commands share: their options, and how the words of an option are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from autoseg.errors import UsageError

#: Where work goes unless --work says otherwise.
DEFAULT_WORK = Path("autoseg-work")

_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(words: str) -> int:
    """Bytes in "4GB", "500MB" or "1.5 G"; a GB is a thousand million bytes, a GiB 2**30."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?)b?\s*", words.lower())
    if match is None or float(match[1]) <= 0 or not match[2]:
        raise typer.BadParameter(f"{words!r} is no size; write 4GB or 500MB")
    unit = 1024 if match[3] else 1000
    return round(float(match[1]) * float(unit ** " kmgt".index(match[2])))


DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder with the images and their label maps.")]
OptionalDataset = Annotated[
    Path | None,
    typer.Argument(
        metavar="DATASET",
        help="Folder with the images and their label maps (not with --from-fingerprint and --explain).",
        show_default=False,
    ),
]
Work = Annotated[
    Path, typer.Option("--work", metavar="DIR", help="Work folder: plan, prepared data and trained networks lie there.")
]
PlanName = Annotated[str, typer.Option("--plan", metavar="NAME", help="Which plan of the work folder to use.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Processes for reading and computing (default: one per core, as memory allows).",
    ),
]
PredictWorkers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        metavar="N",
        help="Processes that read ahead; 0 does all in one process (default: one or more for many or large images).",
    ),
]
MaxRam = Annotated[
    int | None,
    typer.Option(
        "--max-ram",
        metavar="SIZE",
        parser=parse_size,
        help="Main memory to stay below, all processes together, such as 4GB; what does not fit goes to the disk of "
        "MASKS (default: what is free).",
    ),
]
PlanValues = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Decide a value yourself: spacing=Z,Y,X (mm), patch_size=Z,Y,X (3D) or Y,X (2D), batch_size=N, or a "
        "training setting; what follows from it is derived anew. May be given several times.",
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NAME",
        help="Train this network instead of the preset's: unet, resenc, unetpp, deeplabv3plus, attention-unet, "
        "segresnet, mednext, unetr or swin-unetr, or one of a module named by --use. The same as --set network=NAME.",
    ),
]
MemoryGb = Annotated[
    float | None,
    typer.Option(
        "--memory-gb",
        metavar="GB",
        help="Plan for so much memory instead of the device's (auto), or of what the preset was made for.",
    ),
]
Preset = Annotated[str, typer.Option("--preset", metavar="NAME", help="auto, nnunet, resenc-m, resenc-l or resenc-xl.")]
NewPlanName = Annotated[
    str, typer.Option("--name", "--plan", metavar="NAME", help="Name of the plan, to keep several side by side.")
]
Probe = Annotated[
    bool,
    typer.Option("--probe/--no-probe", help="Whether to try one real training step, so that the plan is sure to fit."),
]
FromFingerprint = Annotated[
    Path | None,
    typer.Option(
        "--from-fingerprint",
        metavar="FILE",
        help="Plan without images, from a fingerprint.json or a record of nnU-Net's dataset.json and fingerprint.",
    ),
]
NnunetPlans = Annotated[
    Path | None,
    typer.Option(
        "--nnunet-plans", metavar="FILE", help="Take the plan in this nnU-Net plans file instead of planning."
    ),
]
Explain = Annotated[
    str | None,
    typer.Option("--explain", metavar="FIELD", help="Tell in full why a value of the existing plan is as it is."),
]
Folds = Annotated[
    int | None, typer.Option("--folds", min=2, metavar="N", help="Number of folds (default: 5, as nnU-Net).")
]
Stratify = Annotated[
    bool, typer.Option("--stratify", help="Spread rare labels and label volumes evenly over the folds.")
]
NoGroups = Annotated[
    bool, typer.Option("--no-groups", help="Split cases of one patient as if they were of different patients.")
]
SplitsFile = Annotated[
    Path | None,
    typer.Option("--splits", metavar="FILE", help="Take the folds in this file, such as nnU-Net's splits_final.json."),
]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto (the GPU if there is one), cpu, cuda, cuda:1 or mps.")
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision", metavar="NAME", help="auto (what is fast on the device), float32, bfloat16 or float16."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        metavar="N",
        help="Threads that compute the network on a CPU (default: one per core). Another number rounds otherwise.",
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="What computes the networks: torch (the default), onnx (ONNX Runtime) or openvino; the latter two on the "
        "CPU.",
    ),
]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--model",
        metavar="PATH",
        help="A model file, or a folder of runs; give it several times to average several models "
        "(default: the model or the finished folds in the work folder).",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace masks that autoseg did not write, or that were changed since.")
]
Use = Annotated[
    list[str] | None,
    typer.Option(
        "--use",
        metavar="MODULE",
        help="Import a Python module (my_package.my_module) that adds a network, loss, augmentation, normalization, "
        "reader or preset; may be given several times.",
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(
        "--tolerance", min=0.0, metavar="MM", help="Distance in mm at which two surfaces still agree (for NSD)."
    ),
]


def parse_budget(words: str) -> float:
    """Seconds in "10min", "90s", "1.5h" or "600"."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", words.lower())
    seconds = float(match[1]) * _UNITS[match[2]] if match and match[2] in _UNITS else 0.0
    if seconds <= 0:
        raise typer.BadParameter(f"{words!r} is no length of time; write 10min, 90s, 1.5h or 600 (seconds)")
    return seconds


def parse_settings(pairs: Sequence[str]) -> dict[str, str]:
    """Names and values of NAME=VALUE words; the last of one name holds. Raises UsageError for a word without either."""
    return dict(split_settings(pairs))


def split_settings(pairs: Sequence[str]) -> list[tuple[str, str]]:
    """Name and value of each NAME=VALUE word. Raises UsageError for a word without either."""
    settings = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise UsageError(f"--set {pair!r} is not NAME=VALUE", remedy="For example: --set learning_rate=0.002")
        settings.append((name.strip(), value.strip()))
    return settings


def positive(value: float | None, option: str) -> float | None:
    """The value of an option, if it is a number above 0. Raises UsageError."""
    if value is not None and not 0 < value < float("inf"):
        raise UsageError(f"{option} {value:g} is not above 0")
    return value


def work_option(work: Path) -> str:
    """The words that name the work folder in a command, empty for the default one."""
    return "" if work == DEFAULT_WORK else f' --work "{work}"' if " " in str(work) else f" --work {work}"
