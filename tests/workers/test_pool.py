from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from worker_functions import die_on_two, die_once, fail_on_three, square

from autoseg.errors import ReadError, WorkerDied
from autoseg.workers.pool import WorkerPool, default_workers
from autoseg.workers.process import Outcome, WorkerFault


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
