"""Single calls in a process of their own, which may die or be ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait

import psutil

from autoseg.errors import WorkerDied
from autoseg.workers.process import Item, Outcome, Value, Worker, outcome_of

#: Seconds between two looks at the memory of a process that must not grow too large.
_LOOK_EVERY = 0.02


def run_apart(
    function: Callable[[Item], Value],
    item: Item,
    *,
    seconds: float,
    resident_bytes: float,
    while_waiting: Callable[[], None] = lambda: None,
) -> Outcome[Item, Value]:
    """Call the function in a process of its own, which is ended when it takes too long or too much memory.

    Its death is an outcome (WorkerDied) and harms nobody; the call is not repeated. An interrupt ends it at once, and
    so does what `while_waiting`, called again and again, raises.
    """
    worker = Worker()
    try:
        worker.send(function, item)
        deadline = time.monotonic() + seconds
        while not wait([worker.pipe, worker.process.sentinel], timeout=_LOOK_EVERY):
            while_waiting()
            if time.monotonic() > deadline:
                return Outcome(0, item, error=WorkerDied(f"it took more than {seconds:.0f} s and was ended"))
            if _resident_bytes(worker) > resident_bytes:
                taken = f"{resident_bytes / 2**30:.1f} GB"
                return Outcome(0, item, error=WorkerDied(f"it took more than {taken} of memory and was ended"))
        answer = worker.receive()
        if answer is None:
            code = worker.process.exitcode
            return Outcome(
                0, item, error=WorkerDied(f"its process was killed, most often for memory (exit code {code})")
            )
        return outcome_of(0, item, answer)
    finally:
        worker.kill()


def _resident_bytes(worker: Worker) -> int:
    with suppress(psutil.Error):
        return int(psutil.Process(worker.process.pid).memory_info().rss)
    return 0


class Helper:
    """A process that is called again and again, by one thread at a time; when it dies the next call has a fresh one.

    It is started by the first call. Its death, noticed at once, is an outcome of the call: WorkerDied.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self.closed = False

    def call(self, function: Callable[[Item], Value], item: Item) -> Outcome[Item, Value]:
        """What the function makes of the item; `function` and item must be picklable."""
        if self._worker is None or not self._worker.process.is_alive():
            self._worker = Worker()
        worker = self._worker
        if self.closed:  # while it was being started
            worker.kill()
        worker.send(function, item)
        answer = worker.receive()
        if answer is not None:
            return outcome_of(0, item, answer)
        self._worker = None
        worker.kill()
        return Outcome(0, item, error=WorkerDied(f"its process {_ending(worker.process.exitcode)}"))

    def close(self) -> None:
        """End the process, whatever it does; any thread may ask for it, and a call that waits has its outcome."""
        self.closed = True
        worker = self._worker
        if worker is not None and worker.process.is_alive():
            worker.process.kill()
            worker.process.join(5)


def _ending(exit_code: int | None) -> str:
    """How a process came to its end, in words."""
    if exit_code is None or exit_code >= 0:
        return f"ended (exit code {exit_code})"
    with suppress(ValueError):
        return f"was killed (by {signal.Signals(-exit_code).name})"
    return f"was killed (by signal {-exit_code})"
