"""`train`: prepare what is missing, train, predict and score the held-out cases; the same command again resumes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from autoseg.dataset.folds import fold_of, read_splits
from autoseg.dataset.split_files import require_sound
from autoseg.errors import UsageError
from autoseg.files import read_record, write_record
from autoseg.fingerprint.training_data import training_data
from autoseg.interrupts import StopSwitch, stop_switch
from autoseg.model_file import write_model
from autoseg.networks.normalization import why_norms_are_slow
from autoseg.pipeline.beside import shared
from autoseg.pipeline.budget import Budget, limit_to_budget
from autoseg.pipeline.cascade import (
    first_stage_maps,
    first_stage_members,
    hand_on,
    next_configuration,
    require_cascade,
    with_first_stage,
)
from autoseg.pipeline.dataset_now import require_as_planned
from autoseg.pipeline.epochs import nothing, run_epochs
from autoseg.pipeline.fine_tuning import find_source, plan_for, require_source
from autoseg.pipeline.fold_scores import scored
from autoseg.pipeline.job import Job, stages_of, training_setup
from autoseg.pipeline.pace import suited
from autoseg.pipeline.pages import left
from autoseg.pipeline.plans import read_dataset, read_plan
from autoseg.pipeline.prepare import prepare_cases
from autoseg.pipeline.receipts import versions
from autoseg.pipeline.reports import TrainReport
from autoseg.pipeline.result_pages import run_results, training_report
from autoseg.pipeline.run_receipt import finished_receipt, run_receipt
from autoseg.pipeline.runs import has_begun, has_lost_its_state, lengthen, run_settings, running
from autoseg.pipeline.training_cases import without
from autoseg.plugins import imported_plugins, load_plugins
from autoseg.progress import Progress
from autoseg.records import (
    Case,
    Configuration,
    Fingerprint,
    Fold,
    Member,
    ModelHeader,
    Plan,
    Receipt,
    TrainSettings,
)
from autoseg.report.watch import Watched, watching
from autoseg.training.loop import Training
from autoseg.training.ranks import ALONE, Order, Ranks
from autoseg.training.schedule import learning_rate
from autoseg.workspace import DEFAULT_PLAN, Run, Workspace


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
    ranks: Ranks = ALONE,
    acceleration: str = "auto",
    samples_at_a_time: int | None = None,
    spent_seconds: float = 0.0,
    progress: Progress,
) -> TrainReport:
    """Train one configuration on one fold; predict and score its held-out cases.

    `init` is a model file to begin with: the run then belongs to a plan of its own, made from that model. `use` names
    modules to import, `log` programs that follow the training (`report.watch`).
    `ranks` are the processes that train together (`pipeline.company`), `acceleration` is a name in `ACCELERATIONS` or
    auto, and of a batch `samples_at_a_time` are computed at once, by default as many as fit into memory.
    `spent_seconds` were spent on the command before this call (a program takes seconds to start) and count towards the
    budget.
    Raises UsageError for what cannot be done as asked, PlanError or WorkspaceError where plan or data are missing or
    broken, TrainingError where training fails, DiskFullError; the state saved last stays.
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
    if has_lost_its_state(run):
        progress.warn(f"{run.state_tensors} is gone: the model of this run stays as it is")
    load_plugins(settings.plugins or ())
    require_source(settings.initial, has_begun(run), source, plan)
    dataset = read_dataset(work)
    require_as_planned(work, chosen, has_begun(run), progress)
    require_samples(entry, ranks, plan)
    job = Job(
        work,
        dataset,
        chosen,
        entry,
        run,
        settings,
        source,
        device,
        precision,
        log,
        workers,
        began,
        progress,
        ranks,
        acceleration,
        samples_at_a_time,
    )
    with running(run), stop_switch((run.stop, work.stop)) as stop:
        return carried_out(job, spent_seconds, stop)


def carried_out(job: Job, spent_seconds: float, stop: StopSwitch) -> TrainReport:
    """Prepare, train and score, each as far as it is not done; the receipt is written last."""
    run, seconds = job.run, dict[str, float]()
    shorter = lengthen(run, job.settings)
    write_record(run.settings, job.settings)
    prepared = prepare_cases(job.work, [job.configuration], job.dataset.cases, job.workers, job.progress, stop)
    seconds["prepare"] = time.monotonic() - job.began - spent_seconds
    stop.raise_if_set()
    split = split_of(job)
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
    job = suited(job, stop)
    setup = training_setup(job, usable, maps)
    told = shared(job, usable, maps, imported_plugins())
    job.ranks.tell(Order.TRAIN, content=told.model_dump_json().encode("utf-8"))
    training = Training(setup, run.state_tensors, run.kept_state)
    receipt = run_receipt(job, training, usable)
    if not is_complete(training, run):
        if shorter is not None:
            tell_of_the_new_length(training, shorter, job.progress)
        began = time.monotonic()
        train_to_an_end(job, training, held_out, receipt, stop)
        seconds["train"] = time.monotonic() - began
    job.ranks.tell(Order.END)
    summary, failed = scored(training, run, held_out, seconds, stop, job.workers, job.progress)
    if next_configuration(job.plan, job.configuration) is not None:
        began = time.monotonic()
        failed = hand_on(stages_of(job, stop, training.state.score_with_mirroring), run.fold) | failed
        seconds["next stage"] = time.monotonic() - began
    seconds["total"] = time.monotonic() - job.began
    if "train" in seconds or "score" in seconds:
        write_record(run.receipt, finished_receipt(receipt, training, seconds, job))
        left(lambda: training_report(job.work, run), job.progress)
        if summary is not None:
            left(lambda: run_results(job.work, run), job.progress)
    stop.raise_if_set()
    return TrainReport(
        run,
        training.state.epoch,
        training.state.step,
        seconds,
        summary,
        failures={**lacking, **failed},
        ended_early=training.ended_early,
        by_patience=training.by_patience,
    )


def split_of(job: Job) -> Fold:
    """The training and the held-out cases of the run's fold. Raises DatasetError where it is none, or is not sound."""
    folds, fold = read_splits(job.work.splits), job.run.fold
    case_ids = [case.id for case in job.dataset.cases]
    split = fold_of(folds, fold, case_ids)
    if fold.isdecimal() and int(fold) < len(folds):
        require_sound(split, int(fold), case_ids, job.work.splits)
    elif fold.isdecimal():
        planned = f"the planned ones are 0 to {len(folds) - 1}"
        job.progress.say(f"Fold {fold} is a random split of 80:20, as nnU-Net draws it: {planned}")
    return split


def require_samples(configuration: Configuration, ranks: Ranks, plan: str) -> None:
    """Raise UsageError where a batch has no sample for some of the processes."""
    batch, world = configuration.batch_size, ranks.place.world
    if batch < world:
        raise UsageError(
            f"a batch of {configuration.name} has {batch} samples, too few for {world} processes",
            where=f"plan {plan!r}",
            remedy=f"Use {batch} processes at most, or a plan with larger batches: autoseg plan DATASET --name large "
            f"--set batch_size={world} --no-probe",
        )


def is_complete(training: Training, run: Run) -> bool:
    """Whether the model of the whole run is written; that of a run that a person ended early is not.

    Where the state is gone beside a model, the model stays: there is nothing to go on from.
    """
    if has_lost_its_state(run):
        return True
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


def train_to_an_end(job: Job, training: Training, held_out: Sequence[Case], receipt: Receipt, stop: StopSwitch) -> None:
    """Train until the schedule, patience or a person ends the run, and write the model."""
    run = job.run
    header = model_header(job.work, job.plan, job.configuration, run.fold, job.settings)
    first: Mapping[str, Mapping[str, Tensor]] = {}
    if job.configuration.previous_stage is not None:
        previous, members, first = first_stage_members(job.work, job.plan, job.configuration, run.fold)
        header = with_first_stage(header, previous, members)
    look_again = nothing
    if job.settings.budget_seconds is not None:
        budget = Budget(training, header, first, run, held_out, job.settings.budget_seconds, job.progress)
        look_again = limit_to_budget(budget, job.began)
    if why := why_norms_are_slow(training.learner.network, training.setup.device):
        job.progress.say(f"The GPU kernels of the normalization do not work here ({why}): torch's take longer")
    name = f"{run.plan}, {run.configuration}, fold {run.fold}"
    watched = Watched(run.folder, name, job.plan.dataset, job.settings)
    with watching(job.log, watched, job.progress) as tell:
        run_epochs(training, run, stop, job.progress, tell, look_again)
    run.summary.unlink(missing_ok=True)  # it is of the model that is now replaced
    header = header.model_copy(update={"ended_early": training.ended_early, "receipt": receipt})
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
