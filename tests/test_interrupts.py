"""Signals and STOP files: to end, to stop, to leave at once."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from autoseg import interrupts
from autoseg.interrupts import StopSwitch, Terminated, stop_switch


def test_a_first_interrupt_stops_and_a_second_raises() -> None:
    switch = StopSwitch()
    assert not switch()
    switch.on_signal(signal.SIGINT)
    assert switch()
    assert switch.ending() == ""
    with pytest.raises(KeyboardInterrupt):
        switch.on_signal(signal.SIGINT)
    with pytest.raises(Terminated):
        switch.on_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        switch.raise_if_set()


def test_where_work_can_end_the_first_interrupt_asks_for_that() -> None:
    switch = StopSwitch()
    with switch.ends():
        switch.on_signal(signal.SIGINT)
        assert (switch(), switch.ending()) == (False, "Ctrl-C")
        switch.raise_if_set()
        switch.on_signal(signal.SIGINT)
        assert switch()
    later = StopSwitch()
    with later.ends():
        pass
    later.on_signal(signal.SIGINT)
    assert later()


def test_a_termination_never_waits_for_an_end() -> None:
    switch = StopSwitch()
    with switch.ends():
        switch.on_signal(signal.SIGTERM)
    assert switch()
    with pytest.raises(Terminated):
        switch.raise_if_set()


def test_a_new_or_touched_file_asks_to_end_an_old_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "LOOK_EVERY", -1.0)
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    switch = StopSwitch((old, new))
    assert switch.ending() == ""
    assert switch.ignored_files == [old]
    new.touch()
    assert switch.ending() == "a file STOP"
    new.unlink()
    assert switch.ending() == "a file STOP"  # once asked is asked
    other = StopSwitch((old,))
    os.utime(old, (time.time() + 5, time.time() + 5))
    assert other.ending() == "a file STOP"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_signals_reach_the_switch_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_switch() as switch:
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 5
        while not switch() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert switch.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
