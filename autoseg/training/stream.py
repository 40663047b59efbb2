"""Batches of successive steps, cropped by a thread while the device computes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from autoseg.training.patches import Batch, Sampling, TrainingCase, make_batch


class BatchStream:
    """The batches of the steps from `first_step` on, a few of them made ahead."""

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        sampling: Sampling,
        first_step: int,
        places: Sequence[int] | None = None,
        ahead: int = 2,
        steps: int | None = None,
        make: Callable[[Sequence[TrainingCase], Sampling, int, Sequence[int] | None], Batch] | None = None,
    ) -> None:
        """`places` are those of the batch to make, None is all; `steps` the number of batches, None is no end.

        `make` makes the batch of a step; None is `patches.make_batch`.
        """
        self._make = make or make_batch
        self._cases, self._sampling, self._places, self._ahead = cases, sampling, places, ahead
        self._steps = steps
        self._start(first_step)

    def _start(self, step: int) -> None:
        # each thread has a queue and a flag of its own: one that lags behind when it is closed disturbs no later one
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=self._ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._fill, args=(step, self._queue, self._closed), daemon=True, name="batches"
        )
        self._thread.start()

    def _fill(self, step: int, made: queue.Queue[Batch | BaseException], closed: threading.Event) -> None:
        last = None if self._steps is None else step + self._steps
        while step != last and not closed.is_set():
            try:
                item: Batch | BaseException = self._make(self._cases, self._sampling, step, self._places)
            except BaseException as error:  # it must reach the loop, which would wait for ever
                item = error
            while not closed.is_set():
                with suppress(queue.Full):
                    made.put(item, timeout=0.1)
                    break
            if isinstance(item, BaseException):
                return
            step += 1

    def next(self) -> Batch:
        """The next batch, which there must be; raises what cropping raised."""
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def next_timed(self) -> tuple[Batch, float]:
        """The next batch, and the seconds of waiting for it."""
        began = time.monotonic()
        batch = self.next()
        return batch, time.monotonic() - began

    def restart(self, step: int) -> None:
        """Go on with the batch of another step."""
        self.close()
        self._start(step)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join(timeout=5)
