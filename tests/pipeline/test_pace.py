"""How a training is computed: samples at a time by the memory there is, the way by trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autoseg import devices
from autoseg.errors import UsageError, WorkerDied
from autoseg.files import read_record, write_record
from autoseg.interrupts import StopSwitch
from autoseg.pipeline import pace
from autoseg.pipeline.job import Job
from autoseg.pipeline.pace import best, step_task
from autoseg.pipeline.plans import read_dataset, read_plan
from autoseg.planning.step import step_bytes
from autoseg.progress import SilentProgress
from autoseg.records import AccelerationTrial, Probe, StepProbe
from autoseg.training.probe import StepTask
from autoseg.workers.process import Outcome
from autoseg.workspace import Workspace


class Told(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def job(planned: Workspace) -> Job:
    plan = read_plan(planned, "default")
    entry = plan.configuration("2d")
    return Job(
        planned,
        read_dataset(planned),
        plan,
        entry,
        planned.run("default", "2d", "0"),
        plan.training,
        None,
        "cpu",
        "float32",
        (),
        0,
        0.0,
        Told(),
    )


def write_probe(job: Job, **step: Any) -> None:
    made = StepProbe(configuration="2d", fits=True, limit_bytes=10**12, **step)
    here = devices.describe(devices.choose_device("cpu"))
    write_record(
        job.work.probe("default"), Probe(plan="default", device=here, precision="float32", free_bytes=1, steps=(made,))
    )


def suited(job: Job, stop: StopSwitch | None = None) -> Job:
    return pace.suited(job, stop or StopSwitch())


def needed(job: Job, samples: int) -> int:
    part = job.configuration.model_copy(update={"batch_size": samples})
    return step_bytes(part, 1, job.plan.labels, job.settings, half_precision=False)


def test_as_many_samples_at_a_time_as_fit(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    assert job.configuration.batch_size == 4
    monkeypatch.setattr(devices, "memory_limit", lambda _: needed(job, 4))
    assert suited(job).samples_at_a_time is None
    monkeypatch.setattr(devices, "memory_limit", lambda _: needed(job, 4) - 1)
    assert suited(job).samples_at_a_time == 2
    assert suited(replace(job, samples_at_a_time=3)).samples_at_a_time == 3
    assert isinstance(job.progress, Told)
    assert "2 are computed at a time, to the same gradient" in job.progress.lines[0]
    write_probe(job, peak_bytes=needed(job, 4) // 3)  # the closed form was too careful
    assert suited(job).samples_at_a_time is None
    write_probe(job, samples_at_a_time=1)
    assert suited(job).samples_at_a_time == 1


def timed(outcomes: dict[str, float | Exception], asked: list[str]) -> Any:
    def run_apart(
        _: Any, task: StepTask, *, seconds: float, resident_bytes: float, while_waiting: Callable[[], None]
    ) -> Outcome[StepTask, float]:
        asked.append(task.acceleration)
        while_waiting()
        found = outcomes[task.acceleration]
        if isinstance(found, WorkerDied):
            return Outcome(0, task, error=found)
        return Outcome(0, task, value=found)  # type: ignore[arg-type]

    return run_apart


def test_the_fastest_way_is_tried_out_once_for_a_long_training(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    outcomes = {"eager": 1.0, "compile": WorkerDied("no compiler\nis here"), "compile-channels-last": 0.8}
    monkeypatch.setattr(pace, "run_apart", timed(outcomes, asked))
    assert suited(job).acceleration == "eager"  # nobody knows how long it will take
    write_probe(job, seconds_per_step=1e-6)
    assert suited(job).acceleration == "eager"  # too short a training
    assert asked == []
    write_probe(job, seconds_per_step=10.0)
    job.run.folder.mkdir(parents=True)
    assert suited(job).acceleration == "compile-channels-last"
    assert asked == ["eager", "compile", "compile-channels-last"]  # features are channels last on a CPU anyway
    assert isinstance(job.progress, Told)
    assert job.progress.lines[0] == "compile does not work here: no compiler"
    assert "Computing with compile-channels-last; a step took: eager 1.000 s" in job.progress.lines[1]
    assert suited(job).acceleration == "compile-channels-last"
    assert len(asked) == 3  # it is remembered
    kept = read_record(job.run.acceleration, AccelerationTrial)
    write_record(job.run.acceleration, kept.model_copy(update={"torch": "1.0"}))
    suited(job)
    assert len(asked) == 6  # but not for another torch
    assert suited(replace(job, acceleration="compile")).acceleration == "compile"
    with pytest.raises(UsageError, match="unknown acceleration 'warp'"):
        suited(replace(job, acceleration="warp"))


def test_who_wants_to_stop_does_not_wait_for_the_trial(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(pace, "run_apart", timed({"eager": 1.0, "compile": 1.0}, asked))
    write_probe(job, seconds_per_step=10.0)
    stop = StopSwitch()
    stop.stop()
    with pytest.raises(KeyboardInterrupt):
        suited(job, stop)
    assert asked == ["eager"]
    assert not job.run.acceleration.exists()


def test_small_gains_are_not_taken() -> None:
    assert best({"eager": 1.0, "compile": 0.97}) == "eager"
    assert best({"eager": 1.0, "compile": 0.94, "channels-last": 0.9}) == "channels-last"
    assert best({"compile": 0.94}) == "eager"  # what the plain way takes is not known
    assert best({}) == "eager"


def test_what_is_timed_is_the_share_of_one_process(job: Job) -> None:
    task = step_task(replace(job, samples_at_a_time=1), "compile")
    assert (task.acceleration, task.samples_at_a_time, task.precision) == ("compile", 1, "float32")
    assert task.configuration.batch_size == 4
