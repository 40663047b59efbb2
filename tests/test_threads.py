"""Threads sleep while they wait where other programs are busy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import namedtuple

import psutil
import pytest

from autoseg.threads import BUSY_CORES, cores_of_others, suit_the_machine


@pytest.mark.parametrize(("percent", "sleeps"), [(0.0, False), (12.0, False), (40.0, True), (100.0, True)])
def test_a_busy_machine_makes_them_sleep(monkeypatch: pytest.MonkeyPatch, percent: float, sleeps: bool) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # so that it is as before when the test ends
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: percent)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    assert suit_the_machine() is sleeps


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: 100.0)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert suit_the_machine() is False
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert suit_the_machine() is True


def test_cores_that_others_keep_busy_are_counted() -> None:
    cores = cores_of_others()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            used = psutil.Process(other.pid)
            began = time.monotonic()
            while sum(used.cpu_times()[:2]) < 0.5 and time.monotonic() - began < 60:
                time.sleep(0.05)
        finally:
            other.kill()
    assert cores() > BUSY_CORES


def test_ones_own_time_and_rest_are_not_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = namedtuple("machine", "user system idle iowait guest")  # type: ignore[name-match]
    own = namedtuple("own", "user system")  # type: ignore[name-match]
    told = iter([machine(10, 5, 100, 3, 1), machine(15, 6, 104, 5, 2)])
    spent = iter([own(1, 0), own(4, 1)])
    clock = iter([50.0, 54.0])
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(told))
    monkeypatch.setattr(psutil.Process, "cpu_times", lambda self: next(spent))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert cores_of_others()() == pytest.approx((5 + 1 - 3 - 1) / 4)
