"""The masks of a folder are made: which are needed, the networks for them, and the account of each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import torch

from autoseg import devices
from autoseg.dataset.inputs import grids_of
from autoseg.dataset.mask_writers import MaskWriter
from autoseg.inference.engines import TORCH, engine_version, with_engine
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import LoadedModel, load_models
from autoseg.inference.writing import CaseOutcome
from autoseg.interrupts import stop_switch
from autoseg.pipeline.case_meter import CaseMeter, passes_of
from autoseg.pipeline.choosing_speed import CasePlan, foretold, mode_precision
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
from autoseg.pipeline.trust import ReviewRow, TrustFiles, case_trust, knowledge_of, require_own_tables
from autoseg.pipeline.unlike_training import warn_of_grids, warn_of_intensities
from autoseg.progress import Progress, duration
from autoseg.records import (
    Case,
    CaseTrust,
    Geometry,
    MapKinds,
    ModelHeader,
    PredictLimits,
    PredictSettings,
    Receipt,
    SpeedMode,
)


@dataclass(frozen=True, eq=False)
class MaskTask:
    """Which masks are asked of a folder: all that decides them beside the images, and how they are written."""

    masks: Path
    files: Sequence[Path]  # of the models
    headers: Sequence[ModelHeader]  # of each file
    model_hash: str  # of all files
    device: torch.device
    asked_device: str  # as the user named it: "auto"
    modes: Sequence[SpeedMode]  # quickest first; of several the deadline chooses, case by case
    every_mode: Sequence[SpeedMode]  # that could have been asked for
    deadline: float | None  # seconds of a case
    maps: MapKinds  # beside each mask
    writer: MaskWriter
    limits: PredictLimits

    @property
    def settings(self) -> PredictSettings:
        """Those of the best mode; in the labels that masks hold all modes agree."""
        return self.modes[-1].settings

    def way(self, mode: SpeedMode) -> dict[str, str]:
        """All that decides a mask beside the input, as it is kept beside the masks."""
        precision = mode_precision(mode, self.headers, self.device)
        return {"model": self.model_hash, "options": f"{mode.settings.model_dump_json()} precision={precision}"}

    def receipt(self, mode: SpeedMode) -> Receipt:
        """What masks of a mode are made with."""
        return Receipt(
            stage="predict",
            versions=versions(),
            device=devices.describe(self.device),
            precision=mode_precision(mode, self.headers, self.device),
            threads=torch.get_num_threads(),
            options={"settings": plain(mode.settings), "device": self.asked_device, "precision": mode.precision},
            inputs={"model": self.model_hash},
        )


@dataclass(frozen=True, eq=False)
class FolderOutcome:
    """What became of the cases of a command."""

    written: Mapping[str, Path]
    skipped: tuple[str, ...]  # their masks are there already
    failures: Mapping[str, str]
    review: tuple[ReviewRow, ...]  # of all masks of the folder, worst first


def make_masks(
    task: MaskTask, cases: Sequence[Case], failures: Mapping[str, str], overwrite: bool, progress: Progress
) -> FolderOutcome:
    """Make the masks that the folder lacks, and write what is to be said of it; `failures` are those known already.

    Raises PredictionError before anything is done where another command writes there, or where a mask or table in the
    way was not written by autoseg.
    """
    masks, labels = task.masks, task.headers[0].labels
    with held(masks):
        settle(masks)
        made = made_before(masks)
        require_own_tables(masks)
        *others, wanted = map(task.way, task.modes)
        todo, skipped = masks_to_make(
            cases,
            masks,
            made,
            wanted,
            overwrite,
            others=others,
            maps=task.maps,
            counted=bool(labels.things),
            writer=task.writer,
        )
        written, failed = _made(task, todo, made, progress) if todo else ({}, {})
        failures = {**failures, **failed}
        settle(masks)
        tell_failures(masks, failures)
        tell_labels(masks, labels, task.settings.labels, colour_table=task.writer.colour_table)
        review = TrustFiles(masks).write(_trusts(made), last=True) if written or skipped else ()
    return FolderOutcome(written, tuple(skipped), failures, review)


def _made(
    task: MaskTask, cases: Sequence[Case], made: dict[str, MadeMask], progress: Progress
) -> tuple[dict[str, Path], dict[str, str]]:
    """The masks of the cases, which are entered among those `made`, and why there is none of the others."""
    grids = grids_of(cases)
    warn_of_grids(task.headers, grids, progress)
    model = _loaded(task, progress)
    scarce = task.limits.max_ram_bytes is not None
    plans = foretold(model, cases, grids, task.modes, task.every_mode, task.deadline, progress, scarce=scarce)
    account = _accounting(task, model.header, plans, made)
    written: dict[str, Path] = {}
    failures: dict[str, str] = {}
    tables = TrustFiles(task.masks)
    for outcome in _predicted(task, model, plans, grids, account, progress):
        case = outcome.case.id
        for note in outcome.notes:
            progress.say(f"{case}: {note}")
        if outcome.error is not None:
            failures[case] = str(outcome.error)
            progress.warn(f"{case} failed: {outcome.error}")
        elif outcome.mask is not None:
            written[case] = outcome.mask
            tables.write(_trusts(made))
    return written, failures


def _loaded(task: MaskTask, progress: Progress) -> LoadedModel:
    """The networks of the model files, by the engine that the modes name; without a deadline those of one mode."""
    mode = task.modes[-1]
    loaded = load_models(task.files, task.device, mode_precision(mode, task.headers, task.device))
    model = with_engine(loaded, mode.settings.engine)
    if model.engine != TORCH:
        progress.say(f"Networks are computed by {engine_version(model.engine)} in {model.precision}")
    return narrowed(model, mode.settings) if task.deadline is None else model


def _accounting(
    task: MaskTask, header: ModelHeader, plans: Sequence[CasePlan], made: dict[str, MadeMask]
) -> Callable[[CaseOutcome, Path], None]:
    """What to call with each mask before it has its name: it is entered among those `made`, and old maps go."""
    masks = task.masks
    knowledge = knowledge_of(header, task.settings)
    mode_of = {plan.case.id: plan.mode.name for plan in plans}
    ways = {mode.name: task.way(mode) for mode in task.modes}
    receipts = {mode.name: task.receipt(mode) for mode in task.modes}

    def account(outcome: CaseOutcome, file: Path) -> None:
        case = outcome.case.id
        trust = case_trust(outcome.seen, list(map(str, outcome.unlike)), knowledge)
        remove_old_maps(masks, outcome.case, made.get(case), outcome.maps)
        name = note_receipt(masks, made, receipts[mode_of[case]])
        note_mask(masks, made, ways[mode_of[case]], outcome, file, trust, name)

    return account


def _predicted(
    task: MaskTask,
    model: LoadedModel,
    plans: Sequence[CasePlan],
    grids: Mapping[str, Geometry],
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
            ready = replace(model, precision=mode_precision(mode, task.headers, model.device))
            outcomes = predict_cases(
                ready,
                [plan.case for plan in group],
                task.masks,
                grids=grids,
                settings=mode.settings,
                limits=task.limits,
                maps=task.maps,
                writer=task.writer,
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


def _trusts(made: Mapping[str, MadeMask]) -> dict[str, CaseTrust]:
    """What is known of every mask of the folder."""
    return {case: entry.trust for case, entry in sorted(made.items()) if entry.trust is not None}
