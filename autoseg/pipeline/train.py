"""`train`: prepare what is missing, train, predict and score the held-out cases; the same command again resumes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from autoseg import devices
from autoseg.dataset.folds import fold_of, read_splits
from autoseg.files import read_record, write_json, write_record
from autoseg.fingerprint.training_data import training_data
from autoseg.interrupts import StopSwitch, stop_switch
from autoseg.model_file import write_model
from autoseg.pipeline.budget import limit_to_budget
from autoseg.pipeline.cascade import (
    Stages,
    first_stage_maps,
    first_stage_members,
    hand_on,
    next_configuration,
    previous_configuration,
    require_cascade,
    with_first_stage,
)
from autoseg.pipeline.epochs import run_epochs
from autoseg.pipeline.fine_tuning import Source, find_source, initial_weights, plan_for, require_source
from autoseg.pipeline.fold_scores import scored
from autoseg.pipeline.placing import placed
from autoseg.pipeline.plans import read_dataset, read_plan
from autoseg.pipeline.prepare import prepare_cases
from autoseg.pipeline.reports import TrainReport
from autoseg.pipeline.runs import has_begun, lengthen, receipt, run_settings, running, versions
from autoseg.pipeline.training_cases import loaded, without
from autoseg.planning.step import network_channels
from autoseg.plugins import load_plugins
from autoseg.progress import Progress
from autoseg.records import (
    Case,
    Configuration,
    Dataset,
    Fingerprint,
    Fold,
    Member,
    ModelHeader,
    Plan,
    TrainSettings,
)
from autoseg.report.watch import Watched, watching
from autoseg.training.loop import Training
from autoseg.training.patches import TrainingCase
from autoseg.training.schedule import learning_rate
from autoseg.training.setup import TrainingSetup
from autoseg.workspace import DEFAULT_PLAN, Run, Workspace


@dataclass(frozen=True, eq=False)
class Job:
    """One training as it was asked for, and what it belongs to."""

    work: Workspace
    dataset: Dataset
    plan: Plan
    configuration: Configuration
    run: Run
    settings: TrainSettings
    source: Source | None  # the model to begin with
    device: str
    precision: str
    log: Sequence[str]
    workers: int | None
    began: float  # on the clock of `time.monotonic`
    progress: Progress


def train(
    work: Workspace,
    *,
    plan: str = DEFAULT_PLAN,
    configuration: str | None = None,
    fold: str = "0",
    epochs: int | None = None,
    budget_seconds: float | None = None,
    patience: int | None = None,
    optimizer: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    seed: int | None = None,
    overrides: Mapping[str, str] | None = None,
    init: Path | None = None,
    use: Sequence[str] = (),
    log: Sequence[str] = (),
    workers: int | None = None,
    spent_seconds: float = 0.0,
    progress: Progress,
) -> TrainReport:
    """Train one configuration on one fold; predict and score its held-out cases.

    `init` is a model file to begin with: the run then belongs to a plan of its own, made from that model. `use` names
    modules to import, `log` programs that follow the training (`report.watch`).
    `spent_seconds` were spent on the command before this call (a program takes seconds to start) and count towards the
    budget.
    """
    began = time.monotonic() - spent_seconds
    load_plugins(use)
    chosen = read_plan(work, plan)
    source = None
    if init is not None:
        source = find_source(init, configuration, fold, (*use, *chosen.plugins), progress)
        chosen = plan_for(work, chosen, source, progress)
        plan, configuration = chosen.name, source.member.configuration.name
    entry = chosen.configuration(configuration)
    require_cascade(work, chosen, entry, fold)
    run = work.run(plan, entry.name, fold)
    settings = run_settings(
        run,
        chosen.training.model_copy(update={"epochs": entry.epochs}),
        epochs=epochs,
        budget_seconds=budget_seconds,
        patience=patience,
        optimizer=optimizer,
        seed=seed,
        overrides=overrides,
        plugins=[name for name in use if name not in chosen.plugins],
    )
    load_plugins(settings.plugins or ())
    require_source(settings.initial, has_begun(run), source, plan)
    dataset = read_dataset(work)
    job = Job(
        work, dataset, chosen, entry, run, settings, source, device, precision, log, workers, began, progress=progress
    )
    with running(run), stop_switch((run.stop, work.stop)) as stop:
        return carried_out(job, spent_seconds, stop)


def carried_out(job: Job, spent_seconds: float, stop: StopSwitch) -> TrainReport:
    """Prepare, train and score, each as far as it is not done; the receipt is written last."""
    run, seconds = job.run, dict[str, float]()
    shorter = lengthen(run, job.settings)
    write_record(run.settings, job.settings)
    prepared = prepare_cases(job.work, [job.configuration], job.dataset.cases, job.workers, job.progress)
    seconds["prepare"] = time.monotonic() - job.began - spent_seconds
    stop.raise_if_set()
    split = fold_of(read_splits(job.work.splits), run.fold, [case.id for case in job.dataset.cases])
    lacking, maps = dict(prepared.failures), None
    if job.configuration.previous_stage is not None:
        began = time.monotonic()
        maps, failed = first_stage_maps(stages_of(job, stop), without(split, lacking, run.fold), run.fold)
        lacking |= failed
        seconds["first stage"] = time.monotonic() - began
    for case, why in lacking.items():
        job.progress.warn(f"{case} is left out: {why}")
    usable = without(split, lacking, run.fold)
    held_out = [case for case in job.dataset.cases if case.id in set(usable.val)]
    training = Training(training_setup(job, usable, maps), run.state_tensors, run.kept_state)
    if not is_complete(training, run):
        if shorter is not None:
            tell_of_the_new_length(training, shorter, job.progress)
        began = time.monotonic()
        train_to_an_end(job, training, held_out, stop)
        seconds["train"] = time.monotonic() - began
    summary, failed = scored(training, run, held_out, seconds, stop, job.workers, job.progress)
    if next_configuration(job.plan, job.configuration) is not None:
        began = time.monotonic()
        failed = hand_on(stages_of(job, stop, training.state.score_with_mirroring), run.fold) | failed
        seconds["next stage"] = time.monotonic() - began
    seconds["total"] = time.monotonic() - job.began
    if "train" in seconds or "score" in seconds:
        write_json(run.receipt, receipt(training, seconds))
    return TrainReport(
        run,
        training.state.epoch,
        training.state.step,
        seconds,
        summary,
        failures={**lacking, **failed},
        ended_early=training.ended_early,
    )


def stages_of(job: Job, stop: StopSwitch, mirror: bool = True) -> Stages:
    """The cascade that the job is one of the stages of."""
    entry = job.configuration
    second = entry if entry.previous_stage is not None else next_configuration(job.plan, entry) or entry
    target = devices.choose_device(job.device)
    return Stages(
        work=job.work,
        dataset=job.dataset,
        plan=job.plan,
        first=previous_configuration(job.plan, second),
        second=second,
        device=target,
        precision=devices.choose_precision(job.precision, target),
        mirror=mirror,
        workers=job.workers,
        stop=stop,
        progress=job.progress,
    )


def training_setup(job: Job, split: Fold, first_stage: Mapping[str, Path] | None) -> TrainingSetup:
    """All that the training needs, its cases in memory or on the device.

    `first_stage` names for each case what the first stage of a cascade found in it.
    """
    target = devices.choose_device(job.device)

    def cases(names: Sequence[str]) -> list[TrainingCase]:
        found = loaded(job.work, job.configuration, job.dataset, names, first_stage, job.progress)
        return placed(found, job.work, job.run.plan, job.configuration.name, target, job.progress)

    fresh = job.source is not None and not has_begun(job.run)
    return TrainingSetup(
        configuration=job.configuration,
        channels=network_channels(job.configuration, len(job.plan.channels), job.plan.labels),
        labels=job.plan.labels,
        mirror_axes=job.plan.mirror_axes,
        settings=job.settings,
        train_cases=cases(split.train),
        validation_cases=cases(split.val),
        device=target,
        precision=devices.choose_precision(job.precision, target),
        annotated={case.id: case.annotated for case in job.dataset.cases if case.annotated is not None},
        initial=initial_weights(job.plan, job.configuration, job.source, job.progress)
        if fresh and job.source is not None
        else None,
    )


def is_complete(training: Training, run: Run) -> bool:
    """Whether the model of the whole run is written; that of a run that a person ended early is not."""
    by = training.state.finished_by
    if by == "schedule" and training.setup.settings.budget_seconds is None and training.done < 1.0:
        return False  # it was made longer, and nothing was kept from before its end
    return run.model.exists() and by != ""


def tell_of_the_new_length(training: Training, before: TrainSettings, progress: Progress) -> None:
    """Say from where a longer run goes on, and what happens to its learning rate."""
    now, step = training.setup.settings, training.state.step
    words = f"Made longer: going on from step {step}"
    if now.budget_seconds is None:
        total = before.epochs * training.setup.configuration.steps_per_epoch
        then = learning_rate(before, step, step / total)
        here = learning_rate(now, step, training.done)
        if here != then:
            words += f"; the rate changes from {then:.2e} to {here:.2e}, where a run of {now.epochs} epochs stands"
    progress.say(words)


def train_to_an_end(job: Job, training: Training, held_out: Sequence[Case], stop: StopSwitch) -> None:
    """Train until the schedule, patience or a person ends the run, and write the model."""
    run = job.run
    header = model_header(job.work, job.plan, job.configuration, run.fold, job.settings)
    first: Mapping[str, Mapping[str, Tensor]] = {}
    if job.configuration.previous_stage is not None:
        previous, members, first = first_stage_members(job.work, job.plan, job.configuration, run.fold)
        header = with_first_stage(header, previous, members)
    if job.settings.budget_seconds is not None:
        limit_to_budget(training, header, first, run, held_out, job.settings.budget_seconds, job.began, job.progress)
    name = f"{run.plan}, {run.configuration}, fold {run.fold}"
    watched = Watched(run.folder, name, job.plan.dataset, job.settings)
    with watching(job.log, watched, job.progress) as tell:
        run_epochs(training, run, stop, job.progress, tell)
    run.summary.unlink(missing_ok=True)  # it is of the model that is now replaced
    header = header.model_copy(update={"ended_early": training.ended_early})
    write_model(run.model, header, {header.members[0].name: training.weights(), **first})
    training.finish()
    run.stop.unlink(missing_ok=True)


def model_header(
    work: Workspace, plan: Plan, configuration: Configuration, fold: str, settings: TrainSettings
) -> ModelHeader:
    """What the model file will say of itself: no case ids, no paths."""
    fingerprint = read_record(work.fingerprint, Fingerprint)
    return ModelHeader(
        channels=plan.channels,
        labels=plan.labels,
        members=(
            Member(name=f"{configuration.name}.fold_{fold}", configuration=configuration, mirror_axes=plan.mirror_axes),
        ),
        fingerprint=training_data(fingerprint),
        plugins=(*plan.plugins, *(settings.plugins or ())),
        channel_dropout=settings.channel_dropout,
        versions=versions(),
    )
