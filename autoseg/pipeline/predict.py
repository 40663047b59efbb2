"""`predict`: masks for new volumes, from one or several models."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import torch

from autoseg import devices
from autoseg.dataset.geometry import axis_codes
from autoseg.dataset.inputs import find_inputs
from autoseg.dataset.readers import read_geometry
from autoseg.errors import AutosegError, UsageError
from autoseg.files import file_hash, text_hash, write_record
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predict_files import CaseOutcome, mask_path, predict_cases
from autoseg.inference.predictor import LoadedModel, load_models
from autoseg.interrupts import stop_switch
from autoseg.model_file import read_header
from autoseg.pipeline.bundle import tell_if_stale
from autoseg.pipeline.case_meter import CaseMeter, passes_of
from autoseg.pipeline.choosing_model import choose_models, known_plugins, load_needed
from autoseg.pipeline.choosing_speed import (
    CasePlan,
    all_modes,
    asked_modes,
    foretold,
    mode_line,
    mode_precision,
)
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
from autoseg.progress import Progress, duration
from autoseg.records import BEST_PREDICTION, Case, ModelHeader, PredictSettings, Problem, SpeedMode
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
    overwrite: bool = False,
    use: Sequence[str] = (),
    progress: Progress,
) -> PredictReport:
    """Segment a file, a folder, a list file or given cases; every mask lies on exactly its input's grid.

    `speed` names a mode (`best` by default); with `deadline` (seconds) each case has the best one that keeps it. What
    is set in `settings` overrides the mode. `use` names modules to import. Those that the networks of a model need are
    imported if they are among them, or if a plan or run of the work folder names them and the model comes from there.
    """
    began = time.monotonic()
    load_plugins(use)
    files, description, headers = _chosen_models(models, work, use, progress)
    cases, failures = _found_cases(images, headers, progress)
    target = devices.choose_device(device)
    modes = asked_modes(headers, speed=speed, deadline=deadline, settings=settings, precision=precision)
    for mode in modes if speed is not None or deadline is not None else ():
        progress.say(mode_line(mode))
    model_hash = text_hash("".join(file_hash(file) for file in files), 16)
    ways = {mode.name: _way(mode, headers, target, model_hash) for mode in modes}
    made = made_before(masks)
    *others, wanted = ways.values()
    todo, skipped = masks_to_make(cases, masks, made, wanted, overwrite, others=others)
    written: dict[str, Path] = {}
    if todo:
        note = _orientation_note(headers, todo)
        if note is not None:
            progress.say(note)
        model = load_models(files, target, mode_precision(modes[-1], headers, target))
        if deadline is None:
            model = narrowed(model, modes[-1].settings)
        every = all_modes(headers, settings, precision) if speed is None else modes
        plans = foretold(model, todo, modes, every, deadline, progress)
        for plan, outcome in _predicted(model, headers, plans, masks, progress):
            case = outcome.case
            for note in outcome.notes:
                progress.say(f"{case.id}: {note}")
            if outcome.error is not None:
                failures[case.id] = str(outcome.error)
                progress.warn(f"{case.id} failed: {outcome.error}")
            elif outcome.mask is not None:
                written[case.id] = outcome.mask
                way = ways[plan.mode.name]
                made[case.id] = MadeMask(**way, inputs=input_hash(case), mask=file_hash(outcome.mask, 16))
                write_record(masks / PREDICTIONS, Predictions(masks=dict(sorted(made.items()))))
    tell_failures(masks, failures)
    tell_labels(masks, headers[0].labels, modes[-1].settings.labels)
    present = {case.id: mask_path(case, masks) for case in cases if case.id in written or case.id in skipped}
    return PredictReport(description, written, tuple(skipped), present, failures, time.monotonic() - began)


def _chosen_models(
    models: tuple[Path, ...], work: Workspace | None, use: Sequence[str], progress: Progress
) -> tuple[list[Path], str, list[ModelHeader]]:
    """The model files, what they are in words, and their headers; modules that they need are imported."""
    files, description = choose_models(models, work)
    progress.say(f"Model: {description}")
    tell_if_stale(work, files, progress)
    headers = [read_header(file) for file in files]
    asked = any(told.plugins for told in headers)
    own = known_plugins(work) if asked and not models and work is not None else ()
    for file, told in zip(files, headers, strict=True):
        load_needed(told, (*use, *own), file, progress)
    return files, description, headers


def _found_cases(
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


def _way(mode: SpeedMode, headers: Sequence[ModelHeader], device: torch.device, model_hash: str) -> dict[str, str]:
    """All that decides a mask beside the input, as it is kept beside the masks."""
    precision = mode_precision(mode, headers, device)
    return {"model": model_hash, "options": f"{mode.settings.model_dump_json()} precision={precision}"}


def _predicted(
    model: LoadedModel, headers: Sequence[ModelHeader], plans: Sequence[CasePlan], masks: Path, progress: Progress
) -> Iterator[tuple[CasePlan, CaseOutcome]]:
    """Each case's outcome, those of one mode after the other, under a bar that counts passes."""
    in_order = sorted(plans, key=lambda plan: plan.mode.name)
    count = f"{len(plans)} {'case' if len(plans) == 1 else 'cases'}"
    began = time.monotonic()
    with (
        stop_switch() as stop,
        progress.live(f"Predicting {count}", sum(map(passes_of, plans)), "passes") as view,
    ):
        meter = CaseMeter(view, in_order)
        for _, members in groupby(in_order, key=lambda plan: plan.mode.name):
            group = list(members)
            mode = group[0].mode
            ready = replace(model, precision=mode_precision(mode, headers, model.device))
            outcomes = predict_cases(
                ready, [plan.case for plan in group], masks, settings=mode.settings, on_tile=meter.tiles
            )
            for plan, outcome in zip(group, outcomes, strict=True):
                meter.case()
                yield plan, outcome
                stop.raise_if_set()
    progress.say(f"Predicted {count} in {duration(time.monotonic() - began)}")


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
