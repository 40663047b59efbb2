"""`predict`: masks for new volumes, from one or several models."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

import torch

from autoseg import devices
from autoseg.dataset.inputs import find_inputs, grids_of
from autoseg.dataset.mask_writers import MaskWriter, mask_path, require_writable
from autoseg.errors import UsageError
from autoseg.files import file_hash, text_hash
from autoseg.inference.engines import TORCH, engine_device, engine_version, with_engine
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import LoadedModel, load_models
from autoseg.inference.writing import CaseOutcome
from autoseg.interop.mask_formats import find_mask_format
from autoseg.interrupts import stop_switch
from autoseg.model_file import read_header
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
from autoseg.pipeline.mask_account import MadeMask, made_before, settle
from autoseg.pipeline.mask_folder import (
    held,
    masks_to_make,
    note_mask,
    note_receipt,
    remove_old_maps,
    tell_failures,
    tell_labels,
)
from autoseg.pipeline.receipts import plain, versions
from autoseg.pipeline.reports import PredictReport
from autoseg.pipeline.selected import tell_if_stale
from autoseg.pipeline.trust import TrustFiles, case_trust, knowledge_of, require_own_tables
from autoseg.pipeline.unlike_training import warn_of_grids, warn_of_intensities
from autoseg.plugins import load_plugins
from autoseg.progress import Progress, duration
from autoseg.records import (
    BEST_PREDICTION,
    NO_LIMITS,
    NO_MAPS,
    Case,
    CaseTrust,
    Geometry,
    MapKinds,
    ModelHeader,
    PredictLimits,
    PredictSettings,
    Problem,
    Receipt,
    SpeedMode,
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
    counted = bool(headers[0].labels.things)
    if maps.object_masks and not counted:
        raise UsageError(
            "the model counts no objects, so that there is no mask of each",
            remedy="Leave --object-masks out, or train on a dataset with maps of ids.",
        )
    target = engine_device(settings.engine, device)
    modes = asked_modes(headers, speed=speed, deadline=deadline, settings=settings, precision=precision)
    for mode in modes if speed is not None or deadline is not None else ():
        progress.say(mode_line(mode))
    model_hash = text_hash("".join(file_hash(file) for file in files), 16)
    ways = {mode.name: _way(mode, headers, target, model_hash) for mode in modes}
    with held(masks):
        settle(masks)
        made = made_before(masks)
        require_own_tables(masks)
        *others, wanted = ways.values()
        todo, skipped = masks_to_make(
            cases, masks, made, wanted, overwrite, others=others, maps=maps, counted=counted, writer=writer
        )
        written: dict[str, Path] = {}
        tables = TrustFiles(masks)
        if todo:
            grids = grids_of(todo)
            warn_of_grids(headers, grids, progress)
            model = _loaded(files, target, modes[-1], headers, progress)
            if deadline is None:
                model = narrowed(model, modes[-1].settings)
            every = all_modes(headers, settings, precision) if speed is None else modes
            scarce = limits.max_ram_bytes is not None
            plans = foretold(model, todo, grids, modes, every, deadline, progress, scarce=scarce)
            knowledge = knowledge_of(model.header, modes[-1].settings)
            mode_of = {plan.case.id: plan.mode.name for plan in plans}
            receipts = {mode.name: _receipt(mode, headers, target, device, model_hash) for mode in modes}

            def account(outcome: CaseOutcome, file: Path) -> None:
                case = outcome.case.id
                trust = case_trust(outcome.seen, list(map(str, outcome.unlike)), knowledge)
                remove_old_maps(masks, outcome.case, made.get(case), outcome.maps)
                name = note_receipt(masks, made, receipts[mode_of[case]])
                note_mask(masks, made, ways[mode_of[case]], outcome, file, trust, name)

            for outcome in _predicted(model, headers, plans, grids, masks, maps, writer, limits, account, progress):
                mask = _told_outcome(outcome, failures, progress)
                if mask is not None:
                    written[outcome.case.id] = mask
                    tables.write(_trusts(made))
        settle(masks)
        tell_failures(masks, failures)
        tell_labels(masks, headers[0].labels, modes[-1].settings.labels, colour_table=writer.colour_table)
        review = tables.write(_trusts(made), last=True) if written or skipped else ()
    present = {case.id: mask_path(case, masks, writer) for case in cases if case.id in written or case.id in skipped}
    seconds = time.monotonic() - began
    own = tuple(row for row in review if row.case in present)
    images_of = {case.id: case.images for case in cases}
    return PredictReport(
        description, written, tuple(skipped), present, failures, seconds, own, headers[0].labels, images_of
    )


def _told_outcome(outcome: CaseOutcome, failures: dict[str, str], progress: Progress) -> Path | None:
    """The mask of a case, if there is one; what is to be said of the case is said."""
    case = outcome.case.id
    for note in outcome.notes:
        progress.say(f"{case}: {note}")
    if outcome.error is not None:
        failures[case] = str(outcome.error)
        progress.warn(f"{case} failed: {outcome.error}")
    return outcome.mask if outcome.error is None else None


def _trusts(made: Mapping[str, MadeMask]) -> dict[str, CaseTrust]:
    """What is known of every mask of the folder."""
    return {case: entry.trust for case, entry in sorted(made.items()) if entry.trust is not None}


def chosen_models(
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


def _loaded(
    files: Sequence[Path], device: torch.device, mode: SpeedMode, headers: Sequence[ModelHeader], progress: Progress
) -> LoadedModel:
    """The networks of the model files, by the engine that the mode names."""
    loaded = load_models(files, device, mode_precision(mode, headers, device))
    model = with_engine(loaded, mode.settings.engine)
    if model.engine != TORCH:
        progress.say(f"Networks are computed by {engine_version(model.engine)} in {model.precision}")
    return model


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


def _way(mode: SpeedMode, headers: Sequence[ModelHeader], device: torch.device, model_hash: str) -> dict[str, str]:
    """All that decides a mask beside the input, as it is kept beside the masks."""
    precision = mode_precision(mode, headers, device)
    return {"model": model_hash, "options": f"{mode.settings.model_dump_json()} precision={precision}"}


def _receipt(
    mode: SpeedMode, headers: Sequence[ModelHeader], target: torch.device, device: str, model_hash: str
) -> Receipt:
    """What masks of a mode are made with on the device `target`, which `device` asked for."""
    return Receipt(
        stage="predict",
        versions=versions(),
        device=devices.describe(target),
        precision=mode_precision(mode, headers, target),
        threads=torch.get_num_threads(),
        options={"settings": plain(mode.settings), "device": device, "precision": mode.precision},
        inputs={"model": model_hash},
    )


def _predicted(
    model: LoadedModel,
    headers: Sequence[ModelHeader],
    plans: Sequence[CasePlan],
    grids: Mapping[str, Geometry],
    masks: Path,
    maps: MapKinds,
    writer: MaskWriter,
    limits: PredictLimits,
    account: Callable[[CaseOutcome, Path], None],
    progress: Progress,
) -> Iterator[CaseOutcome]:
    """Each case's outcome, those of one mode after the other, under a bar that counts passes."""
    in_order = sorted(plans, key=lambda plan: plan.mode.name)
    count = f"{len(plans)} {'case' if len(plans) == 1 else 'cases'}"
    began, seconds = time.monotonic(), Counter[str]()
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
                ready,
                [plan.case for plan in group],
                masks,
                grids=grids,
                settings=mode.settings,
                limits=limits,
                maps=maps,
                writer=writer,
                on_tile=meter.tiles,
                on_unlike=partial(warn_of_intensities, progress=progress),
                before_naming=account,
                check=stop.raise_if_set,
                tell=progress.warn,
            )
            with closing(outcomes):  # so that nothing is left behind, whatever happens
                for outcome in outcomes:
                    meter.case()
                    seconds.update(outcome.seconds)
                    yield outcome
                    stop.raise_if_set()
    stages = ", ".join(f"{stage} {duration(seconds[stage])}" for stage in ("read", "network", "write"))
    progress.say(f"Predicted {count} in {duration(time.monotonic() - began)} ({stages}; side by side where possible)")


def _told(problem: Problem) -> str:
    return problem.what if problem.file is None else f"{problem.file}: {problem.what}"
