from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from autoseg.errors import ReadError, WorkerDied
from autoseg.workers import (
    Helper,
    Outcome,
    WorkerFault,
    WorkerPool,
    default_workers,
    run_apart,
)


def square(number: int) -> int:
    return number * number


def fail_on_three(number: int) -> int:
    if number == 3:
        raise ReadError("is truncated", where="three.nii.gz", remedy="Copy it again.")
    if number == 5:
        raise ValueError("our fault")
    return number


def die_on_two(number: int) -> int:
    if number == 2:
        os._exit(137)
    return number


def die_once(item: tuple[int, str]) -> int:
    number, flag = item
    if number == 1 and not Path(flag).exists():
        Path(flag).touch()
        os._exit(9)
    return number


@pytest.mark.parametrize("workers", [0, 2])
def test_every_item_gets_its_outcome(workers: int) -> None:
    with WorkerPool(workers) as pool:
        outcomes = {outcome.index: outcome.unwrap() for outcome in pool.map(square, list(range(20)))}
        again = [outcome.unwrap() for outcome in pool.map(square, [7])]  # the same processes serve a second call
    assert outcomes == {number: number * number for number in range(20)}
    assert again == [49]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_stays_with_its_item(workers: int) -> None:
    with WorkerPool(workers) as pool:
        outcomes: dict[int, Outcome[int, int]] = {o.index: o for o in pool.map(fail_on_three, list(range(6)))}
    error = outcomes[3].error
    assert isinstance(error, ReadError)
    assert (error.what, error.where, error.remedy) == ("is truncated", "three.nii.gz", "Copy it again.")
    assert isinstance(outcomes[5].error, WorkerFault)
    assert "our fault" in str(outcomes[5].error)
    assert [outcomes[n].value for n in (0, 1, 2, 4)] == [0, 1, 2, 4]


def test_a_killed_worker_costs_its_own_item_only() -> None:
    began = time.monotonic()
    with WorkerPool(2) as pool:
        outcomes = {outcome.index: outcome for outcome in pool.map(die_on_two, list(range(6)))}
    assert isinstance(outcomes[2].error, WorkerDied)
    assert [outcomes[n].value for n in (0, 1, 3, 4, 5)] == [0, 1, 3, 4, 5]
    assert time.monotonic() - began < 30


def test_an_item_whose_worker_was_killed_from_outside_is_tried_again(tmp_path: Path) -> None:
    flag = str(tmp_path / "died")
    with WorkerPool(2) as pool:
        outcomes = {o.index: o.unwrap() for o in pool.map(die_once, [(number, flag) for number in range(4)])}
    assert outcomes == {0: 0, 1: 1, 2: 2, 3: 3}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_closing_leaves_no_process() -> None:
    pool = WorkerPool(2)
    list(pool.map(square, [1, 2, 3, 4]))
    processes = [worker.process for worker in pool._all]
    os.kill(processes[0].pid or 0, signal.SIGSTOP)  # one that does not listen
    pool.close()
    assert all(not process.is_alive() for process in processes)


def test_workers_follow_cores_items_and_memory() -> None:
    assert default_workers(1) == 1
    assert default_workers(1000) >= 1
    assert default_workers(1000, bytes_per_item=1e15) == 1


def sleep_long(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fill_memory(megabytes: int) -> int:
    block = bytearray(megabytes << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    time.sleep(30)
    return len(block)


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
