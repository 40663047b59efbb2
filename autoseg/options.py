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

DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder with the images and their label maps.")]
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
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto (the GPU if there is one), cpu, cuda, cuda:1 or mps.")
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision", metavar="NAME", help="auto (what is fast on the device), float32, bfloat16 or float16."
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
    """Names and values of NAME=VALUE words. Raises UsageError for a word without either."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise UsageError(f"--set {pair!r} is not NAME=VALUE", remedy="For example: --set learning_rate=0.002")
        settings[name.strip()] = value.strip()
    return settings


def work_option(work: Path) -> str:
    """The words that name the work folder in a command, empty for the default one."""
    return "" if work == DEFAULT_WORK else f' --work "{work}"' if " " in str(work) else f" --work {work}"
