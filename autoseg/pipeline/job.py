"""One training as it was asked for, and what follows from that: its setup, and the cascade that it is a stage of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg import devices
from autoseg.interrupts import StopSwitch
from autoseg.networks.acceleration import ACCELERATIONS, EAGER
from autoseg.pipeline.cascade import Stages, next_configuration, previous_configuration
from autoseg.pipeline.fine_tuning import Source, initial_weights
from autoseg.pipeline.placing import placed
from autoseg.pipeline.runs import has_begun
from autoseg.pipeline.training_cases import loaded
from autoseg.planning.step import network_channels
from autoseg.progress import Progress
from autoseg.records import Configuration, Dataset, Fold, Plan, TrainSettings
from autoseg.training.patches import TrainingCase
from autoseg.training.ranks import ALONE, Ranks
from autoseg.training.setup import TrainingSetup
from autoseg.workspace import Run, Workspace


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
    ranks: Ranks = ALONE  # the processes that train together
    acceleration: str = "auto"  # name in networks.acceleration.ACCELERATIONS
    samples_at_a_time: int | None = None  # None is as many as fit


def stages_of(job: Job, stop: StopSwitch, mirror: bool = True) -> Stages:
    """The cascade that the job is one of the stages of."""
    entry = job.configuration
    second = entry if entry.previous_stage is not None else next_configuration(job.plan, entry) or entry
    first = previous_configuration(job.plan, second)
    networks = [second.network, *([] if first is None else [first.network])]
    target = devices.choose_device(job.device)
    return Stages(
        work=job.work,
        dataset=job.dataset,
        plan=job.plan,
        first=first,
        second=second,
        device=target,
        precision=devices.choose_precision(job.precision, target, networks),
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
        sharing = job.ranks.place.local_world
        found = loaded(job.work, job.configuration, job.dataset, names, first_stage, job.progress, sharing)
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
        precision=devices.choose_precision(job.precision, target, [job.configuration.network]),
        annotated={case.id: case.annotated for case in job.dataset.cases if case.annotated is not None},
        initial=initial_weights(job.plan, job.configuration, job.source, job.progress)
        if fresh and job.source is not None
        else None,
        ranks=job.ranks,
        samples_at_a_time=job.samples_at_a_time,
        acceleration=ACCELERATIONS.get(job.acceleration, EAGER),
    )
