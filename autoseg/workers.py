"""Run a function over many items in several processes: one outcome per item, and never a hang.

A worker that dies (killed for lack of memory, crashed in a library) is noticed at once through its sentinel; its item
is tried once more, alone, in a fresh process, and then becomes a `WorkerDied` outcome. Messages travel through pipes,
so no shared memory is needed. Processes are spawned, never forked, on every system.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Generic, TypeVar

import psutil

from autoseg.errors import AutosegError, WorkerDied, is_out_of_memory
from autoseg.machine import available_cores, free_memory
from autoseg.plugins import imported_plugins, load_plugins

#: Share of the free memory that the workers of a pool may fill.
POOL_SHARE = 0.7

#: Seconds between two looks at the memory of a process that must not grow too large.
_LOOK_EVERY = 0.02

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """What became of one item: a value, or the error of the user's file, or the traceback of our fault."""

    index: int
    item: Item
    value: Value | None = None
    error: AutosegError | None = None

    def unwrap(self) -> Value:
        """The value; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class WorkerFault(AutosegError):
    """An unexpected exception in a worker: a fault of ours, with its traceback as text."""


def default_workers(items: int, bytes_per_item: float = 0.0) -> int:
    """Processes worth starting: one per core, no more than items, no more than fit in free memory."""
    cores = available_cores()
    if bytes_per_item > 0:
        fitting = int(free_memory() * POOL_SHARE / bytes_per_item)
        cores = min(cores, max(1, fitting))
    return max(1, min(cores, items))


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
    worker = _Worker()
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
        return _outcome(0, item, answer)
    finally:
        worker.kill()


def _resident_bytes(worker: _Worker) -> int:
    with suppress(psutil.Error):
        return int(psutil.Process(worker.process.pid).memory_info().rss)
    return 0


class Helper:
    """A process that is called again and again, by one thread at a time; when it dies the next call has a fresh one.

    It is started by the first call. Its death, noticed at once, is an outcome of the call: WorkerDied.
    """

    def __init__(self) -> None:
        self._worker: _Worker | None = None
        self.closed = False

    def call(self, function: Callable[[Item], Value], item: Item) -> Outcome[Item, Value]:
        """What the function makes of the item; `function` and item must be picklable."""
        if self._worker is None or not self._worker.process.is_alive():
            self._worker = _Worker()
        worker = self._worker
        if self.closed:  # while it was being started
            worker.kill()
        worker.send(function, item)
        answer = worker.receive()
        if answer is not None:
            return _outcome(0, item, answer)
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


class WorkerPool:
    """Processes that stay for several `map` calls. With `workers` 0 or 1 everything runs in this process."""

    def __init__(self, workers: int) -> None:
        self.workers = workers if workers > 1 else 0
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes; those that do not listen are killed."""
        for worker in self._all:
            worker.stop()
        self._all.clear()
        self._idle.clear()

    def map(self, function: Callable[[Item], Value], items: Sequence[Item]) -> Iterator[Outcome[Item, Value]]:
        """Outcomes as they come (any order; `index` tells which). `function` and items must be picklable."""
        if self.workers == 0:
            for index, item in enumerate(items):
                yield _outcome(index, item, _call(function, item))
            return
        queue = deque((index, item, False) for index, item in enumerate(items))
        busy: dict[_Worker, tuple[int, Item, bool]] = {}
        try:
            while queue or busy:
                while queue and len(busy) < self.workers and not (queue[0][2] and busy):
                    task = queue.popleft()
                    worker = self._take()
                    worker.send(function, task[1])
                    busy[worker] = task
                    if task[2]:
                        break  # an item that killed its worker is retried alone
                for worker in _ready(list(busy)):
                    index, item, retried = busy.pop(worker)
                    answer = worker.receive()
                    if answer is not None:
                        self._idle.append(worker)
                        yield _outcome(index, item, answer)
                    else:
                        self._all.remove(worker)
                        worker.stop()
                        if retried:
                            yield Outcome(index, item, error=_died(worker))
                        else:
                            queue.append((index, item, True))
        finally:
            for worker in busy:  # the caller stopped listening, or was interrupted
                worker.kill()
                if worker in self._all:
                    self._all.remove(worker)

    def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.process.is_alive():
                return worker
            self._all.remove(worker)
        worker = _Worker()
        self._all.append(worker)
        return worker


def _died(worker: _Worker) -> WorkerDied:
    return WorkerDied(
        f"the process working on it died twice (exit code {worker.process.exitcode})",
        remedy="Most often memory ran out: use fewer --workers, or close other programs.",
    )


class _Worker:
    """One spawned process and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(far_end, imported_plugins()), daemon=True)
        self.process.start()
        far_end.close()

    def send(self, function: Callable[[Any], Any], item: object) -> None:
        with suppress(BrokenPipeError, OSError):  # a dead worker is found by receive()
            self.pipe.send((function, item))

    def receive(self) -> tuple[bool, Any] | None:
        """(True, value) or (False, error); None if the process died."""
        try:
            answer: tuple[bool, Any] = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return None
        return answer

    def stop(self) -> None:
        with suppress(BrokenPipeError, OSError):
            self.pipe.send(None)
        self.process.join(2)
        self.kill()

    def kill(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join(5)
        self.pipe.close()


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """Workers with an answer or whose process ended."""
    by_handle: dict[object, _Worker] = {}
    for worker in workers:
        by_handle[worker.pipe] = worker
        by_handle[worker.process.sentinel] = worker
    return list(dict.fromkeys(by_handle[handle] for handle in wait(list(by_handle))))  # type: ignore[arg-type]


def _serve(pipe: Connection, plugins: Sequence[str] = ()) -> None:
    """The loop of a worker process, which knows the modules that its parent imported. Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load_plugins(plugins)
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            return  # the parent is gone
        if message is None:
            return
        function, item = message
        answer = _call(function, item)
        try:
            pipe.send(answer)
        except (BrokenPipeError, OSError):
            return
        except Exception as error:  # an answer that cannot be pickled is our fault, and must not look like a death
            pipe.send((False, WorkerFault(f"answer cannot be sent: {error!r}")))


def _call(function: Callable[[Item], Value], item: Item) -> tuple[bool, Any]:
    try:
        return True, function(item)
    except AutosegError as error:
        return False, error
    except Exception as error:
        if is_out_of_memory(error):
            return False, WorkerDied("memory ran out", remedy="Use fewer --workers, or close other programs.")
        last = "".join(traceback.format_exception(error))
        return False, WorkerFault(f"unexpected {type(error).__name__}: {error}\n{last}")


def _outcome(index: int, item: Item, answer: tuple[bool, Any]) -> Outcome[Item, Any]:
    succeeded, content = answer
    return Outcome(index, item, value=content) if succeeded else Outcome(index, item, error=content)
