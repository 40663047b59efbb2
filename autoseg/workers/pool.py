"""Run a function over many items in several processes.

An item whose worker died is tried once more, alone, in a fresh process, and then becomes a `WorkerDied` outcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from types import TracebackType

from autoseg.errors import WorkerDied
from autoseg.machine import available_cores, free_memory
from autoseg.workers.process import Item, Outcome, Value, Worker, call, outcome_of

#: Share of the free memory that the workers of a pool may fill.
POOL_SHARE = 0.7


def default_workers(items: int, bytes_per_item: float = 0.0) -> int:
    """Processes worth starting: one per core, no more than items, no more than fit in free memory."""
    cores = available_cores()
    if bytes_per_item > 0:
        fitting = int(free_memory() * POOL_SHARE / bytes_per_item)
        cores = min(cores, max(1, fitting))
    return max(1, min(cores, items))


class WorkerPool:
    """Processes that stay for several `map` calls. With `workers` 0 or 1 everything runs in this process."""

    def __init__(self, workers: int) -> None:
        self.workers = workers if workers > 1 else 0
        self._idle: list[Worker] = []
        self._all: list[Worker] = []

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
                yield outcome_of(index, item, call(function, item))
            return
        queue = deque((index, item, False) for index, item in enumerate(items))
        busy: dict[Worker, tuple[int, Item, bool]] = {}
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
                        yield outcome_of(index, item, answer)
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

    def _take(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.process.is_alive():
                return worker
            self._all.remove(worker)
        worker = Worker()
        self._all.append(worker)
        return worker


def _died(worker: Worker) -> WorkerDied:
    return WorkerDied(
        f"the process working on it died twice (exit code {worker.process.exitcode})",
        remedy="Most often memory ran out: use fewer --workers, or close other programs.",
    )


def _ready(workers: list[Worker]) -> list[Worker]:
    """Workers with an answer or whose process ended."""
    by_handle: dict[object, Worker] = {}
    for worker in workers:
        by_handle[worker.pipe] = worker
        by_handle[worker.process.sentinel] = worker
    return list(dict.fromkeys(by_handle[handle] for handle in wait(list(by_handle))))  # type: ignore[arg-type]
