"""`train`: prepare what is missing, train, predict and score the held-out cases; the same command again resumes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from autoseg import devices
from autoseg.dataset.folds import fold_of, read_splits
from autoseg.errors import PlanError, TrainingError, UsageError
from autoseg.evaluation.summary import read_summary
from autoseg.files import read_record, write_json, write_record
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import LoadedModel, build_model, load_models
from autoseg.inference.sliding_window import tile_grid
from autoseg.interrupts import StopSwitch, stop_switch
from autoseg.model_file import write_model
from autoseg.pipeline.evaluate import TOLERANCE_MM, ScoreTask, score_cases, score_files, write_summary
from autoseg.pipeline.prepare import PrepareTask, full_patch, prepare_case, prepare_cases
from autoseg.pipeline.reports import TrainReport
from autoseg.pipeline.runs import run_settings, running, versions
from autoseg.preprocessing.store import StoreError, read_case, remove_case
from autoseg.progress import Progress
from autoseg.records import (
    Case,
    Configuration,
    Dataset,
    EpochRecord,
    Fingerprint,
    Fold,
    Member,
    ModelHeader,
    Plan,
    Summary,
)
from autoseg.report.curves import draw_curves
from autoseg.training.cases import load_cases
from autoseg.training.loop import Training, TrainingSetup
from autoseg.training.patches import TrainingCase
from autoseg.workspace import DEFAULT_PLAN, Run, Workspace

#: What is added to the scoring time measured on one case, for what it cannot tell of the others.
SCORING_MARGIN = 1.2

#: Seconds of a budget kept for the last state, the curves, the model file and the end of the program.
ENDING_SECONDS = 4.0

#: Share of a time budget that mirroring may take when the held-out cases are scored.
MIRRORING_SHARE = 0.1


def train(
    work: Workspace,
    *,
    plan: str = DEFAULT_PLAN,
    configuration: str | None = None,
    fold: str = "0",
    epochs: int | None = None,
    budget_seconds: float | None = None,
    device: str = "auto",
    precision: str = "auto",
    seed: int | None = None,
    overrides: Mapping[str, str] | None = None,
    workers: int | None = None,
    spent_seconds: float = 0.0,
    progress: Progress,
) -> TrainReport:
    """Train one configuration on one fold; predict and score its held-out cases.

    `spent_seconds` were spent on the command before this call (a program takes seconds to start) and count towards the
    budget.
    """
    began = time.monotonic() - spent_seconds
    chosen = read_record(work.require_plan(plan), Plan)
    entry = trainable(chosen, configuration)
    dataset = read_record(work.dataset, Dataset)
    split = fold_of(read_splits(work.splits), fold, [case.id for case in dataset.cases])
    run = work.run(plan, entry.name, fold)
    settings = run_settings(
        run, chosen.training, epochs=epochs, budget_seconds=budget_seconds, seed=seed, overrides=overrides
    )
    seconds: dict[str, float] = {}
    with running(run), stop_switch() as stop:
        write_record(run.settings, settings)
        prepared = prepare_cases(work, [entry], dataset.cases, workers, progress)
        seconds["prepare"] = time.monotonic() - began - spent_seconds
        for case, why in prepared.failures.items():
            progress.warn(f"{case} is left out: {why}")
        stop.raise_if_set()
        usable = without(split, prepared.failures, fold)
        held_out = [case for case in dataset.cases if case.id in set(usable.val)]
        target = devices.choose_device(device)
        training = Training(
            TrainingSetup(
                configuration=entry,
                channels=len(chosen.channels),
                labels=chosen.labels,
                mirror_axes=chosen.mirror_axes,
                settings=settings,
                train_cases=loaded(work, entry, dataset, usable.train, progress),
                validation_cases=loaded(work, entry, dataset, usable.val, progress),
                device=target,
                precision=devices.choose_precision(precision, target),
            ),
            run.state_tensors,
        )
        if not run.model.exists():
            loop_began = time.monotonic()
            header = model_header(work, chosen, entry, fold)
            if settings.budget_seconds is not None:
                limit_to_budget(training, header, run, held_out, settings.budget_seconds, began, progress)
            run_epochs(training, run, stop, progress)
            write_model(run.model, header, {header.members[0].name: training.weights()})
            seconds["train"] = time.monotonic() - loop_began
        summary, failed = scored(training, run, held_out, seconds, stop, workers, progress)
        seconds["total"] = time.monotonic() - began
        if "train" in seconds or "score" in seconds:
            write_json(run.receipt, receipt(training, seconds))
    failures = {**prepared.failures, **failed}
    return TrainReport(run, training.state.epoch, training.state.step, seconds, summary, failures=failures)


def trainable(plan: Plan, name: str | None) -> Configuration:
    """The named configuration, or the default one; PlanError for what cannot be trained."""
    configuration = plan.configuration(name)
    if configuration.previous_stage is not None:
        raise PlanError(
            f"{configuration.name} is the second stage of a cascade, which cannot be trained yet",
            where=f"plan {plan.name!r}",
            remedy="Train another configuration, such as 3d_fullres.",
        )
    return configuration


def without(split: Fold, failures: Mapping[str, str], fold: str) -> Fold:
    """The split without the cases that could not be prepared; fold `all` holds nothing out."""
    usable = Fold(
        train=tuple(case for case in split.train if case not in failures),
        val=() if fold == "all" else tuple(case for case in split.val if case not in failures),
    )
    if not usable.train:
        raise TrainingError("no training case is left", remedy="`autoseg check DATASET` lists what is wrong.")
    return usable


def loaded(
    work: Workspace, configuration: Configuration, dataset: Dataset, case_ids: Sequence[str], progress: Progress
) -> list[TrainingCase]:
    """The prepared cases; entries found to be damaged are prepared anew, they alone."""
    folder = work.prepared_folder(configuration.preparation)
    try:
        return load_cases(folder, case_ids)
    except StoreError:
        by_id = {case.id: case for case in dataset.cases}
        for case_id in case_ids:
            try:
                read_case(folder, case_id)
            except StoreError as error:
                progress.warn(f"{error}; it is prepared anew")
                remove_case(folder, case_id)
                prepare_case(PrepareTask(by_id[case_id], configuration.preparation, folder, full_patch(configuration)))
        return load_cases(folder, case_ids)


def model_header(work: Workspace, plan: Plan, configuration: Configuration, fold: str) -> ModelHeader:
    """What the model file will say of itself: no case ids, no paths."""
    fingerprint = read_record(work.fingerprint, Fingerprint)
    spacings = [case.spacing for case in fingerprint.cases]
    return ModelHeader(
        channels=plan.channels,
        labels=plan.labels,
        members=(
            Member(name=f"{configuration.name}.fold_{fold}", configuration=configuration, mirror_axes=plan.mirror_axes),
        ),
        fingerprint={
            "cases": len(fingerprint.cases),
            "spacing_min": [min(axis) for axis in zip(*spacings, strict=True)],
            "spacing_max": [max(axis) for axis in zip(*spacings, strict=True)],
            "orientations": sorted({case.orientation for case in fingerprint.cases}),
        },
        plugins=plan.plugins,
        versions=versions(),
    )


# -------------------------------------------------------------------------------------------------- the training


def limit_to_budget(
    training: Training,
    header: ModelHeader,
    run: Run,
    held_out: Sequence[Case],
    budget: float,
    began: float,
    progress: Progress,
) -> None:
    """Let the schedule end when just the time for scoring is left of the budget.

    What scoring takes is measured on one held-out case with the network as it is; mirroring is kept where it takes at
    most MIRRORING_SHARE of the budget.
    """
    plain, mirrored = scoring_seconds(training, header, run, held_out) if held_out else (0.0, 0.0)
    mirror = mirrored - plain <= MIRRORING_SHARE * budget
    scoring = mirrored if mirror else plain
    overhead = training.state.overhead_seconds + time.monotonic() - began
    loop = budget - overhead - scoring - ENDING_SECONDS
    if loop <= 0:
        raise UsageError(
            f"a budget of {budget:.0f} s leaves no time to train: preparing took {overhead:.0f} s and scoring takes "
            f"about {scoring:.0f} s",
            remedy="Give a larger --budget.",
        )
    training.limit(loop, overhead, mirror)
    told = "with" if mirror else "without"
    progress.say(
        f"Budget: {loop:.0f} s to train, about {scoring:.0f} s to score {len(held_out)} cases {told} mirroring"
    )


def scoring_seconds(training: Training, header: ModelHeader, run: Run, held_out: Sequence[Case]) -> tuple[float, float]:
    """Estimated seconds to predict and score all held-out cases, without and with mirroring.

    One case of middling size is predicted with the network as it is; the others take longer or shorter by their tiles.
    """
    setup = training.setup
    patch = setup.configuration.patch_size
    tiles = {case.case: tile_grid(case.shape, patch).tiles for case in setup.validation_cases}
    trial_case = sorted(held_out, key=lambda case: tiles[case.id])[len(held_out) // 2]
    share = sum(tiles.values()) / tiles[trial_case.id] * SCORING_MARGIN
    model = build_model(header, {header.members[0].name: training.weights()}, setup.device, setup.precision)
    trial = run.folder / "trial"
    measured = []
    for mirror in (False, False, True):  # the first also pays for what happens once
        started = time.monotonic()
        for outcome in predict_cases(model, [trial_case], trial, mirror=mirror):
            if trial_case.labels is not None:
                score_files(ScoreTask(trial_case.id, outcome.unwrap(), trial_case.labels, model.labels, TOLERANCE_MM))
        measured.append(time.monotonic() - started)
    for path in trial.iterdir():
        path.unlink()
    trial.rmdir()
    return measured[1] * share, measured[2] * share


def run_epochs(training: Training, run: Run, stop: StopSwitch, progress: Progress) -> None:
    """Train to the end; each epoch goes to the log, the display and the curves."""
    setup = training.setup
    resumed = f", going on after epoch {training.state.epoch}" if training.resumed else ""
    progress.say(
        f"{run.configuration}, fold {run.fold}: {len(setup.train_cases)} training cases on {setup.device}, "
        f"{setup.precision}{resumed}"
    )
    records = kept_records(run.metrics, training.state.epoch)
    drawn = time.monotonic()
    # under a budget the clock, not the epochs, tells how much is left
    total = setup.settings.epochs if training.loop_seconds is None else max(1, round(training.loop_seconds))
    with progress.stage("Training" if training.loop_seconds is None else "Training (seconds)", total) as advance:
        shown = 0
        for record in training.epochs(stop):
            records.append(record)
            append_metrics(run.metrics, record)
            done = round(total * training.done)
            advance(done - shown)
            shown = done
            progress.say(epoch_line(record))
            if time.monotonic() - drawn > 30:  # a second of drawing must not show in short epochs
                draw_curves(run.curves, f"{run.configuration}, fold {run.fold}", records)
                drawn = time.monotonic()
    stop.raise_if_set()
    if records:
        draw_curves(run.curves, f"{run.configuration}, fold {run.fold}", records)


def epoch_line(record: EpochRecord) -> str:
    """One line for the terminal."""
    dice = "–" if record.patch_dice is None else f"{record.patch_dice:.3f}"
    return (
        f"epoch {record.epoch + 1:4d}  step {record.step:6d}  {record.seconds:7.0f} s  loss {record.train_loss:7.4f}  "
        f"patch Dice {dice}  rate {record.learning_rate:.2e}"
    )


def append_metrics(path: Path, record: EpochRecord) -> None:
    """Add a line to metrics.jsonl."""
    with open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(asdict(record), sort_keys=True) + "\n")


def kept_records(path: Path, epochs: int) -> list[EpochRecord]:
    """The records of the epochs before a resumed one; later or torn lines (a kill while writing) are cut off."""
    records = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(EpochRecord(**json.loads(line)))
            except (ValueError, TypeError):
                break
        records = [record for record in records if record.epoch < epochs]
        path.write_text("".join(json.dumps(asdict(r), sort_keys=True) + "\n" for r in records), encoding="utf-8")
    return records


# --------------------------------------------------------------------------------------------------- the scoring


def scored(
    training: Training,
    run: Run,
    held_out: Sequence[Case],
    seconds: dict[str, float],
    stop: StopSwitch,
    workers: int | None,
    progress: Progress,
) -> tuple[Summary | None, dict[str, str]]:
    """The scores of the held-out cases, made if they are not there yet; nothing where nothing is held out."""
    if not held_out:
        return None, {}
    if run.summary.exists():  # it is written last
        progress.say(f"{run.configuration}, fold {run.fold} is trained and scored")
        return read_summary(run.summary), {}
    began = time.monotonic()
    model = load_models([run.model], training.setup.device, training.setup.precision)
    mirror = training.state.score_with_mirroring
    summary, failures = validate(model, run, held_out, mirror, stop, workers, progress)
    seconds["score"] = time.monotonic() - began
    return summary, failures


def validate(
    model: LoadedModel,
    run: Run,
    held_out: Sequence[Case],
    mirror: bool,
    stop: StopSwitch,
    workers: int | None,
    progress: Progress,
) -> tuple[Summary, dict[str, str]]:
    """Predict the held-out cases from their files and score the masks; the summary is written into the run."""
    failures: dict[str, str] = {}
    tasks: list[ScoreTask] = []
    with progress.stage("Predicting held-out cases", len(held_out)) as advance:
        for outcome in predict_cases(model, held_out, run.validation, mirror=mirror):
            if outcome.error is not None:
                failures[outcome.case.id] = str(outcome.error)
            elif outcome.mask is not None and outcome.case.labels is not None:
                tasks.append(ScoreTask(outcome.case.id, outcome.mask, outcome.case.labels, model.labels, TOLERANCE_MM))
            advance(1)
            stop.raise_if_set()
    summary = score_cases(tasks, failures, TOLERANCE_MM, workers, progress)
    write_summary(run.summary, summary)
    return summary, failures


def receipt(training: Training, seconds: Mapping[str, float]) -> dict[str, object]:
    """What the run was made with, and how long each stage took."""
    return {
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "epochs": training.state.epoch,
        "steps": training.state.step,
        "training_seconds": round(training.state.seconds, 3),
        "skipped_steps": training.state.skipped_steps,
        "scored_with_mirroring": training.state.score_with_mirroring,
        "device": devices.describe(training.setup.device),
        "precision": training.setup.precision,
        "threads": torch.get_num_threads(),
        "seed": training.setup.settings.seed,
        "versions": versions(),
    }
