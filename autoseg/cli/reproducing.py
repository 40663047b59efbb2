"""What a result was made with, then and now: reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg import console, tables
from autoseg.cli.app import DONE, SOME_FAILED
from autoseg.options import DEFAULT_WORK, Models, Threads, Work

if TYPE_CHECKING:  # loads numpy and torch, which `--help` must not wait for
    from rich.console import Console

    from autoseg.pipeline.reproduce import Line, Reproduced

#: Words for what was not compared.
UNSEEN = "not looked at"


def reproduce(
    result: Annotated[
        Path,
        typer.Argument(
            metavar="RESULT",
            help="A work folder or plan, a run, a model file, a folder of masks or of prepared cases, a summary.json.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="Where the dataset is now; of masks the images, of a summary.json the references.",
        ),
    ] = None,
    model: Models = None,
    work: Work = DEFAULT_WORK,
    threads: Threads = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Tell whether a result would come out the same, and what differs.

    Every result keeps a receipt: versions, seed, device, threads, options, and hashes of data, plan and model. This
    compares it with the machine and the files as they are now, and says which differences can change the result. On a
    CPU the same seed, versions, threads and files give the same bits. What it cannot find is not looked at: name it
    with --data and --model. Nothing is computed anew.

    Exit code 0: nothing differs; 2: something does.

    Examples: autoseg reproduce autoseg-work; autoseg reproduce masks --data images --model model.safetensors
    """
    from autoseg.devices import use_threads
    from autoseg.pipeline.origin import Given
    from autoseg.pipeline.reproduce import reproduce as run
    from autoseg.workspace import Workspace

    use_threads(threads)
    found = run(result, Given(data, tuple(model or ()), Workspace(work)))
    if json:
        console.say_json([part.as_json() for part in found])
    else:
        for part in found:
            show_reproduced(console.results_console(), part)
    return DONE if all(part.agrees for part in found) else SOME_FAILED


def show_reproduced(results: Console, part: Reproduced) -> None:
    """What a result follows from, then and now, and a verdict."""
    rows = [(line.what, line.then, UNSEEN if line.now is None else line.now, _verdict(line)) for line in part.lines]
    tables.show_table(results, part.title, ("what", "then", "now", "can it change the result"), rows)
    differing = [line.what for line in part.lines if line.differs]
    unseen = [line.what for line in part.lines if line.now is None]
    if differing:
        console.say(results, f"Different now: {', '.join(differing)}.", console.STYLES["warning"])
    else:
        console.say(results, "Nothing differs that was looked at." if unseen else "All is as it was.")
    if unseen:
        console.say(results, f"Not looked at: {', '.join(unseen)}.")
    for note in part.notes:
        console.say(results, f"Note: {note}")


def _verdict(line: Line) -> str:
    """What a row's difference can do; a dash where there is none."""
    return line.effect if line.differs else "-"
