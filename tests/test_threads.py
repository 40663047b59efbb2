"""Threads sleep while they wait where other programs are busy."""

from __future__ import annotations

import psutil
import pytest

from autoseg.threads import suit_the_machine


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
