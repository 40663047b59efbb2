"""`predict`: masks for new volumes, from one or several models."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from autoseg import devices
from autoseg.dataset.geometry import axis_codes
from autoseg.dataset.inputs import find_inputs
from autoseg.dataset.readers import read_geometry
from autoseg.errors import AutosegError, UsageError
from autoseg.files import file_hash, text_hash, write_record
from autoseg.inference.predict_files import mask_path, predict_cases
from autoseg.inference.predictor import asked_precision, load_models
from autoseg.interrupts import stop_switch
from autoseg.model_file import read_header
from autoseg.pipeline.choosing_model import choose_models, known_plugins, load_needed
from autoseg.pipeline.mask_folder import (
    PREDICTIONS,
    MadeMask,
    Predictions,
    input_hash,
    made_before,
    masks_to_make,
    tell_failures,
    tell_labels,
)
from autoseg.pipeline.reports import PredictReport
from autoseg.plugins import load_plugins
from autoseg.progress import Progress
from autoseg.records import BEST_PREDICTION, Case, ModelHeader, PredictSettings, Problem
from autoseg.workspace import Workspace


def predict(
    images: Path | Sequence[Case],
    masks: Path,
    *,
    models: tuple[Path, ...] = (),
    work: Workspace | None = None,
    device: str = "auto",
    settings: PredictSettings = BEST_PREDICTION,
    precision: str = "auto",
    overwrite: bool = False,
    use: Sequence[str] = (),
    progress: Progress,
) -> PredictReport:
    """Segment a file, a folder, a list file or given cases; every mask lies on exactly its input's grid.

    `use` names modules to import. Those that the networks of a model need are imported if they are among them, or if
    a plan or run of the work folder names them and the model comes from there.
    """
    began = time.monotonic()
    load_plugins(use)
    files, description = choose_models(models, work)
    progress.say(f"Model: {description}")
    headers = [read_header(file) for file in files]
    header = headers[0]
    asked = any(told.plugins for told in headers)
    own = known_plugins(work) if asked and not models and work is not None else ()
    for file, told in zip(files, headers, strict=True):
        load_needed(told, (*use, *own), file, progress)
    if isinstance(images, Path):
        may_lack = all(told.channel_dropout > 0 for told in headers)
        cases, problems = find_inputs(images, len(header.channels), header.channels, may_lack=may_lack)
    else:
        cases, problems = list(images), []
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
    target = devices.choose_device(device)
    chosen_precision = devices.choose_precision(asked_precision(precision, headers), target)
    fingerprint = "".join(file_hash(file) for file in files)
    wanted = {
        "model": text_hash(fingerprint, 16),
        "options": f"{settings.model_dump_json()} precision={chosen_precision}",
    }
    made = made_before(masks)
    todo, skipped = masks_to_make(cases, masks, made, wanted, overwrite)
    written: dict[str, Path] = {}
    if todo:
        note = _orientation_note(headers, todo)
        if note is not None:
            progress.say(note)
        model = load_models(files, target, chosen_precision)
        with stop_switch() as stop, progress.stage("Predicting", len(todo)) as advance:
            for outcome in predict_cases(model, todo, masks, settings=settings):
                case = outcome.case
                for note in outcome.notes:
                    progress.say(f"{case.id}: {note}")
                if outcome.error is not None:
                    failures[case.id] = str(outcome.error)
                    progress.warn(f"{case.id} failed: {outcome.error}")
                elif outcome.mask is not None:
                    written[case.id] = outcome.mask
                    made[case.id] = MadeMask(**wanted, inputs=input_hash(case), mask=file_hash(outcome.mask, 16))
                    write_record(masks / PREDICTIONS, Predictions(masks=dict(sorted(made.items()))))
                advance(1)
                stop.raise_if_set()
    tell_failures(masks, failures)
    tell_labels(masks, header.labels)
    present = {case.id: mask_path(case, masks) for case in cases if case.id in written or case.id in skipped}
    return PredictReport(description, written, tuple(skipped), present, failures, time.monotonic() - began)


def _told(problem: Problem) -> str:
    return problem.what if problem.file is None else f"{problem.file}: {problem.what}"


def _orientation_note(headers: Sequence[ModelHeader], cases: Sequence[Case]) -> str | None:
    """Which images are not stored as RAS, where a model sees axes as stored: it may never have seen such a view."""
    if all(member.configuration.preparation.orientation == "ras" for header in headers for member in header.members):
        return None
    counts: Counter[str] = Counter()
    for case in cases:
        try:
            counts[axis_codes(read_geometry(case.images[0])[0])] += 1
        except AutosegError:
            continue  # it will fail by name
    odd = {letters: count for letters, count in sorted(counts.items()) if letters not in ("RAS", "flat")}
    if not odd:
        return None
    told = ", ".join(f"{letters} in {count}" for letters, count in odd.items())
    return (
        f"Note: this model sees axes as they are stored in the file, and {sum(odd.values())} of {len(cases)} images "
        f"are not stored as RAS ({told}). Its masks can be trusted where its training images were stored alike."
    )
