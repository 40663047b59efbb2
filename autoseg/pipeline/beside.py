"""What the processes of a training do that are not its first: they are told what to train, and follow."""

from __future__ import annotations

import time
from pathlib import Path

from autoseg.errors import TrainingError
from autoseg.files import parse_record
from autoseg.pipeline.job import Job, training_setup
from autoseg.pipeline.plans import read_dataset, read_plan
from autoseg.plugins import load_plugins
from autoseg.progress import SilentProgress
from autoseg.records import Fold, TrainSettings
from autoseg.records.base import Record
from autoseg.training.follow import follow
from autoseg.training.ranks import Order, Ranks
from autoseg.workspace import Workspace


class SharedTraining(Record):
    """What the first process tells the others of a training; the work folder has to be there for all."""

    work: str
    plan: str
    configuration: str
    fold: str
    settings: TrainSettings
    cases: tuple[str, ...]  # to train on, in order
    first_stage: dict[str, str] | None  # case -> label map, in the second stage of a cascade
    precision: str
    acceleration: str
    samples_at_a_time: int | None
    plugins: tuple[str, ...]  # modules that add parts


def shared(job: Job, split: Fold, first_stage: dict[str, Path] | None, plugins: tuple[str, ...]) -> SharedTraining:
    """The training of a job, as the others are told of it."""
    return SharedTraining(
        work=str(job.work.root.resolve()),
        plan=job.run.plan,
        configuration=job.configuration.name,
        fold=job.run.fold,
        settings=job.settings,
        cases=split.train,
        first_stage=None if first_stage is None else {case: str(path.resolve()) for case, path in first_stage.items()},
        precision=job.precision,
        acceleration=job.acceleration,
        samples_at_a_time=job.samples_at_a_time,
        plugins=plugins,
    )


def attend(ranks: Ranks, device: str) -> None:
    """Follow one training after the other until the first process has no more."""
    while (told := ranks.hear()).order is not Order.LEAVE:
        if told.order is not Order.TRAIN:
            raise TrainingError(f"the first process said {told.order.name} between two trainings")
        training = parse_record(told.content.decode("utf-8"), SharedTraining, "the first process")
        load_plugins(training.plugins)
        job = _job(training, ranks, device)
        maps = None if training.first_stage is None else {k: Path(v) for k, v in training.first_stage.items()}
        follow(training_setup(job, Fold(train=training.cases, val=()), maps))


def _job(training: SharedTraining, ranks: Ranks, device: str) -> Job:
    work = Workspace(Path(training.work))
    plan = read_plan(work, training.plan)
    return Job(
        work=work,
        dataset=read_dataset(work),
        plan=plan,
        configuration=plan.configuration(training.configuration),
        run=work.run(training.plan, training.configuration, training.fold),
        settings=training.settings,
        source=None,  # the first process hands its weights on
        device=device,
        precision=training.precision,
        log=(),
        workers=0,
        began=time.monotonic(),
        progress=SilentProgress(),
        ranks=ranks,
        acceleration=training.acceleration,
        samples_at_a_time=training.samples_at_a_time,
    )
