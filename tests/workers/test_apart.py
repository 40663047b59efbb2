from __future__ import annotations

import signal
import sys
import threading
import time

import psutil
import pytest
from worker_functions import die_on_two, fail_on_three, fill_memory, sleep_long, square

from autoseg.errors import ReadError, WorkerDied
from autoseg.workers.apart import Helper, run_apart


def spawned() -> list[psutil.Process]:
    """Processes that this one has spawned and that live."""
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_a_call_apart_gives_value_or_error() -> None:
    limits = {"seconds": 60.0, "resident_bytes": 1e12}
    assert run_apart(square, 7, **limits).unwrap() == 49
    assert isinstance(run_apart(fail_on_three, 3, **limits).error, ReadError)
    died = run_apart(die_on_two, 2, **limits).error
    assert isinstance(died, WorkerDied)
    assert "exit code 137" in str(died)


@pytest.mark.parametrize(
    ("function", "item", "limits", "told"),
    [
        (sleep_long, 30.0, {"seconds": 0.5, "resident_bytes": 1e12}, "took more than 0 s"),
        (fill_memory, 600, {"seconds": 30.0, "resident_bytes": 400e6}, "took more than 0.4 GB"),
    ],
)
def test_a_call_apart_ends_when_it_takes_too_much(function, item, limits, told) -> None:
    began = time.monotonic()
    error = run_apart(function, item, **limits).error
    assert isinstance(error, WorkerDied)
    assert told in str(error)
    assert time.monotonic() - began < 20
    assert not spawned()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interrupt_ends_a_call_apart() -> None:
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.7)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_apart(sleep_long, 30.0, seconds=60.0, resident_bytes=1e12)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not spawned()


def test_what_is_called_while_waiting_may_end_a_call_apart() -> None:
    def impatient() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_apart(sleep_long, 30.0, seconds=60.0, resident_bytes=1e12, while_waiting=impatient)
    assert not spawned()


def test_a_helper_gives_values_errors_and_deaths() -> None:
    helper = Helper()
    assert helper.call(square, 7).unwrap() == 49
    assert isinstance(helper.call(fail_on_three, 3).error, ReadError)
    died = helper.call(die_on_two, 2).error
    assert isinstance(died, WorkerDied)
    assert "its process ended (exit code 137)" in str(died)
    assert helper.call(square, 3).unwrap() == 9  # by a fresh process
    helper.close()
    assert not spawned()


def test_closing_a_helper_ends_what_it_does() -> None:
    helper = Helper()
    helper.call(square, 1)
    threading.Timer(0.5, helper.close).start()
    began = time.monotonic()
    outcome = helper.call(sleep_long, 30.0)
    assert isinstance(outcome.error, WorkerDied)
    assert time.monotonic() - began < 20
    assert not spawned()
