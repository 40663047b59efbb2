"""The probe's step: made, measured, and refused where it would be hopeless or endless."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from step_builders import LABELS, make_configuration

from autoseg.errors import TrainingError
from autoseg.records import Labels, TrainSettings
from autoseg.training import probe
from autoseg.training.memory import LOOK_EVERY, memory_growth, remembered_peak
from autoseg.training.patches import make_batch
from autoseg.training.probe import StepTask, random_case, timed_steps, try_step
from autoseg.training.step import BatchTotals

ROOM = 2**34


def make_task(name: str = "3d_fullres", **changes: object) -> StepTask:
    settings = TrainSettings(epochs=1, learning_rate=1e-3, weight_decay=0.0, ema_decay=0.99)
    return StepTask(make_configuration(name, **changes), 1, LABELS, (0, 1, 2), settings, "cpu")


@pytest.mark.parametrize("name", ["2d", "3d_fullres"])
def test_a_step_is_made_and_measured(name: str) -> None:
    found = try_step(make_task(name), ROOM)
    assert (found.configuration, found.fits, found.limit_bytes, found.why) == (name, True, ROOM, "")
    assert found.seconds_per_step is not None
    assert 0 < found.seconds_per_step < 30
    assert found.peak_bytes is not None
    assert 0 <= found.peak_bytes < ROOM


def test_a_step_for_which_memory_runs_out_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GB\nmore")

    monkeypatch.setattr(BatchTotals, "forward", full)
    found = try_step(make_task(batch_size=4), ROOM)
    assert not found.fits
    assert found.why == "memory ran out: CUDA out of memory. Tried to allocate 9 GB"


def test_a_way_that_was_named_is_measured_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(_: object) -> None:
        raise RuntimeError("no compiler is here")

    monkeypatch.setattr(torch, "compile", without)
    with pytest.raises(TrainingError, match="no compiler is here"):
        timed_steps(replace(make_task(), acceleration="compile"))


@pytest.mark.parametrize(
    "labels",
    [LABELS, Labels(names={"background": 0, "whole": (1, 2, 3), "core": (2, 3)}, regions_class_order=(1, 2))],
    ids=["labels", "regions"],
)
def test_a_later_stage_of_a_cascade_sees_a_map_per_label(labels: Labels) -> None:
    task = replace(make_task("3d_cascade_fullres", previous_stage="3d_lowres"), labels=labels)
    image = random_case(task).prepared.image
    assert image.shape[0] == 1 + 1  # the first stage's labels as one map
    assert set(np.unique(image[1])) == set(range(len(labels.values)))
    assert probe._setup(task, torch.device("cpu")).channels == 1 + len(labels.values) - 1
    assert try_step(task, ROOM).fits


def test_the_case_is_as_large_as_what_training_crops(tmp_path: Path) -> None:
    task = make_task()
    training = probe.Training(probe._setup(task, torch.device("cpu")), state_path=tmp_path / "state.safetensors")
    batch = make_batch(training.setup.train_cases, training.learner.batches.sampling, 0)
    assert batch.images.shape[2:] == random_case(task).shape
    assert np.isfinite(batch.images).all()


def test_a_hopeless_step_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "timed_steps", _must_not_be_called)
    found = try_step(make_task(patch_size=(512, 512, 512), batch_size=64), 2**30)
    assert not found.fits
    assert found.why.startswith("not tried: it needs about")
    assert found.seconds_per_step is None


@pytest.mark.parametrize(("limit", "fits"), [(2**34, True), (2**27, False)])
def test_an_endless_step_is_judged_by_its_estimate(monkeypatch: pytest.MonkeyPatch, limit: int, fits: bool) -> None:
    monkeypatch.setattr(probe, "_estimated_seconds", lambda _: 100.0)
    monkeypatch.setattr(probe, "timed_steps", _must_not_be_called)
    task = make_task(patch_size=(64, 64, 64), batch_size=4)
    monkeypatch.setattr(probe, "HOPELESS", math.inf)
    found = try_step(task, limit)
    assert found.fits is fits
    assert found.seconds_per_step == 100.0
    assert found.peak_bytes == task.estimated_bytes
    assert "about 100 s" in found.why


def test_the_time_of_a_step_is_foreseen_from_a_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "QUICK_OPERATIONS", 0.0)
    task = make_task(patch_size=(48, 48, 48), features_per_stage=(16, 32))
    foreseen, real = probe._estimated_seconds(task), timed_steps(task)
    assert real / 20 < foreseen < real * 20


def test_what_takes_more_than_there_is_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "HOPELESS", math.inf)
    monkeypatch.setattr(probe, "timed_steps", _growing(lambda: np.ones(2**25, dtype=np.float64)))
    found = try_step(make_task(), 2**27)
    assert not found.fits
    assert found.peak_bytes is not None
    assert found.peak_bytes >= 2**28 * 0.9
    assert found.seconds_per_step is None
    assert found.why.startswith("a step took")


def _growing(allocate: Callable[[], object]) -> Callable[[StepTask], float]:
    def grow(_: StepTask) -> float:
        allocate()
        return 1.0

    return grow


def _must_not_be_called(*_: object, **__: object) -> float:
    raise AssertionError("a step was made")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    ],
)
def test_running_out_of_memory_is_an_answer(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(probe, "timed_steps", _raising(error))
    found = try_step(make_task(), ROOM)
    assert not found.fits
    assert found.why.startswith("memory ran out")


def test_other_faults_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "timed_steps", _raising(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        try_step(make_task(), ROOM)


def _raising(error: Exception) -> Callable[[StepTask], float]:
    def fail(_: StepTask) -> float:
        raise error

    return fail


def test_growth_is_what_a_block_took_at_most() -> None:
    with memory_growth(torch.device("cpu")) as growth:
        block = np.ones(2**24, dtype=np.float64)  # 128 MB
        block[-1] = 2
        time.sleep(20 * LOOK_EVERY)  # a process that once held more is looked at now and then only
        del block
        taken = growth()
    assert 0.5 * 2**27 < taken < 2 * 2**27
    with memory_growth(torch.device("cpu")) as growth:
        assert growth() < 2**26  # what was before this block does not count


@pytest.mark.skipif(os.name == "posix" and not os.path.exists("/proc/self/status"), reason="the system tells no peak")
def test_the_system_remembers_the_peak() -> None:
    before = remembered_peak()
    np.ones(2**24, dtype=np.float64)
    assert remembered_peak() >= before > 0
