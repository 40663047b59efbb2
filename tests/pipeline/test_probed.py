"""The probe of a plan: every configuration, in a process that may die."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from step_builders import make_configuration, make_plan_of

from autoseg.devices import PRECISIONS
from autoseg.pipeline import probe
from autoseg.pipeline.probe import ProbeTask, probed
from autoseg.planning.costs import busy_note
from autoseg.progress import SilentProgress
from autoseg.records import StepProbe

BUSY = "Other programs kept this machine busy while 2d was tried: it may take much less time."

PLAN = make_plan_of(
    make_configuration("2d"),
    make_configuration("3d_lowres", next_stage="3d_cascade_fullres"),
    make_configuration("3d_fullres"),
    make_configuration("3d_cascade_fullres", previous_stage="3d_lowres"),
)


def pretend(task: ProbeTask) -> tuple[StepProbe, str]:
    name = task.configuration.name
    return StepProbe(configuration=name, fits=True, seconds_per_step=1, peak_bytes=2, limit_bytes=3), "bfloat16"


def test_every_configuration_has_its_answer_and_equal_steps_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def count(task: ProbeTask) -> tuple[StepProbe, str]:
        tried.append(task.configuration.name)
        return pretend(task)

    monkeypatch.setattr(probe, "_tried_apart", count)
    found = probed(PLAN, "cpu", SilentProgress())
    assert tried == ["2d", "3d_lowres", "3d_cascade_fullres"]  # 3d_fullres has the step of 3d_lowres
    assert [step.configuration for step in found.steps] == list(PLAN.configurations)
    assert (found.plan, found.precision) == ("default", "bfloat16")
    assert found.device.startswith("cpu")
    assert found.free_bytes > 0
    tried.clear()
    chosen = probed(PLAN, "cpu", SilentProgress(), configurations=("3d_fullres",))
    assert [step.configuration for step in chosen.steps] == tried == ["3d_fullres"]


@pytest.mark.parametrize("others", [0.0, 1.5])
def test_a_busy_machine_is_told(others: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_tried", pretend)
    monkeypatch.setattr(probe, "suit_the_machine", lambda: False)
    monkeypatch.setattr(probe, "cores_of_others", lambda: lambda: others)
    monkeypatch.setattr(probe, "_tried_apart", probe._tried_expendable)
    monkeypatch.setattr(probe, "_FIRST_TO_GO", Path("not there"))
    found = probed(PLAN, "cpu", SilentProgress(), configurations=["2d"])
    assert [step.busy for step in found.steps] == [others > 0]
    assert busy_note(found) == ("" if not others else BUSY)


def test_a_real_step_in_a_process_of_its_own() -> None:
    found = probed(PLAN, "cpu", SilentProgress(), configurations=("3d_fullres",))
    (step,) = found.steps
    assert (step.configuration, step.fits, step.why) == ("3d_fullres", True, "")
    assert step.seconds_per_step is not None
    assert step.peak_bytes is not None
    assert 2**20 < step.peak_bytes < step.limit_bytes
    assert found.precision in PRECISIONS


def be_killed(_: ProbeTask) -> tuple[StepProbe, str]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("still alive")


def run_out(_: ProbeTask) -> tuple[StepProbe, str]:
    raise MemoryError


@pytest.mark.parametrize(
    "death",
    [
        run_out,
        pytest.param(be_killed, marks=pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")),
    ],
)
def test_a_process_that_runs_out_of_memory_is_an_answer(monkeypatch: pytest.MonkeyPatch, death) -> None:
    monkeypatch.setattr(probe, "_tried_expendable", death)
    (step,) = probed(PLAN, "cpu", SilentProgress(), configurations=("2d",)).steps
    assert not step.fits
    assert step.why.startswith("a step could not be made")
    assert "memory" in step.why
