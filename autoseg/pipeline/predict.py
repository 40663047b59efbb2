"""`predict`: masks for new volumes, from one or several models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from autoseg.dataset.inputs import find_inputs
from autoseg.dataset.mask_writers import mask_path, require_writable
from autoseg.errors import UsageError
from autoseg.files import file_hash, text_hash
from autoseg.inference.engines import engine_device
from autoseg.interop.mask_formats import find_mask_format
from autoseg.pipeline.choosing_model import chosen_models
from autoseg.pipeline.choosing_speed import all_modes, asked_modes, mode_line
from autoseg.pipeline.mask_making import FolderOutcome, MaskTask, make_masks
from autoseg.pipeline.reports import PredictReport
from autoseg.plugins import load_plugins
from autoseg.progress import Progress
from autoseg.records import (
    BEST_PREDICTION,
    NO_LIMITS,
    NO_MAPS,
    Case,
    MapKinds,
    ModelHeader,
    PredictLimits,
    PredictSettings,
    Problem,
)
from autoseg.workspace import Workspace


def predict(
    images: Path | Sequence[Case],
    masks: Path,
    *,
    models: tuple[Path, ...] = (),
    work: Workspace | None = None,
    device: str = "auto",
    speed: str | None = None,
    deadline: float | None = None,
    settings: PredictSettings = BEST_PREDICTION,
    precision: str = "auto",
    maps: MapKinds = NO_MAPS,
    limits: PredictLimits = NO_LIMITS,
    overwrite: bool = False,
    mask_format: str = "auto",
    use: Sequence[str] = (),
    progress: Progress,
) -> PredictReport:
    """Segment a file, a folder, a list file or given cases; every mask lies on exactly its input's grid.

    `speed` names a mode (`best` by default); with `deadline` (seconds) each case has the best one that keeps it. What
    is set in `settings` overrides the mode. `maps` are written in folders beside the masks; `mask_format` is a name in
    MASK_FORMATS. `use` names modules to import. Those that the networks of a model need are imported if they are among
    them, or if a plan or run of the work folder names them and the model comes from there. Raises UsageError where
    masks of objects are asked of a model that counts none.
    """
    began = time.monotonic()
    load_plugins(use)
    writer = find_mask_format(mask_format)
    files, description, headers = chosen_models(models, work, use, progress)
    cases, failures = found_cases(images, headers, progress)
    require_writable(writer, cases, headers[0].labels)
    _require_objects(headers, maps)
    target = engine_device(settings.engine, device)
    modes = asked_modes(headers, speed=speed, deadline=deadline, settings=settings, precision=precision)
    for mode in modes if speed is not None or deadline is not None else ():
        progress.say(mode_line(mode))
    task = MaskTask(
        masks=masks,
        files=files,
        headers=headers,
        model_hash=text_hash("".join(file_hash(file) for file in files), 16),
        device=target,
        asked_device=device,
        modes=modes,
        every_mode=all_modes(headers, settings, precision) if speed is None else modes,
        deadline=deadline,
        maps=maps,
        writer=writer,
        limits=limits,
    )
    done = make_masks(task, cases, failures, overwrite, progress)
    return _report(task, description, cases, done, time.monotonic() - began)


def _require_objects(headers: Sequence[ModelHeader], maps: MapKinds) -> None:
    """Raise UsageError where masks of objects are asked of a model that counts none."""
    if maps.object_masks and not headers[0].labels.things:
        raise UsageError(
            "the model counts no objects, so that there is no mask of each",
            remedy="Leave --object-masks out, or train on a dataset with maps of ids.",
        )


def _report(
    task: MaskTask, description: str, cases: Sequence[Case], done: FolderOutcome, seconds: float
) -> PredictReport:
    """What is there now of the cases of this command."""
    there = {*done.written, *done.skipped}
    present = {case.id: mask_path(case, task.masks, task.writer) for case in cases if case.id in there}
    return PredictReport(
        model_description=description,
        written=done.written,
        skipped=done.skipped,
        masks=present,
        failures=done.failures,
        seconds=seconds,
        review=tuple(row for row in done.review if row.case in present),
        labels=task.headers[0].labels,
        images={case.id: case.images for case in cases},
    )


def found_cases(
    images: Path | Sequence[Case], headers: Sequence[ModelHeader], progress: Progress
) -> tuple[list[Case], dict[str, str]]:
    """The cases, and why others cannot be used. Raises UsageError where there are neither."""
    problems: Sequence[Problem] = ()
    if isinstance(images, Path):
        channels = headers[0].channels
        may_lack = all(told.channel_dropout > 0 for told in headers)
        cases, problems = find_inputs(images, len(channels), channels, may_lack=may_lack)
    else:
        cases = list(images)
    failures = {
        problem.case or str(problem.file): _told(problem) for problem in problems if problem.severity == "error"
    }
    for problem in problems:
        if problem.severity != "error":
            progress.warn(f"{problem.case or problem.file}: {problem.what}")
    if not cases and not failures:
        raise UsageError(
            "no image was found", where=images, remedy="Name an image, a folder of images, or a .csv or .json list."
        )
    return cases, failures


def _told(problem: Problem) -> str:
    return problem.what if problem.file is None else f"{problem.file}: {problem.what}"
