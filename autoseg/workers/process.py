"""One worker: a spawned process, the pipe to it, and what comes back of a call."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from autoseg.errors import AutosegError, WorkerDied, is_out_of_memory
from autoseg.plugins import imported_plugins, load_plugins

Item = TypeVar("Item")
Value = TypeVar("Value")

Answer = tuple[bool, Any]  # (True, value) or (False, error)


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


class Worker:
    """One spawned process and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(far_end, imported_plugins()), daemon=True)
        self.process.start()
        far_end.close()

    def send(self, function: Callable[[Any], Any], item: object) -> None:
        """Ask for what the function makes of the item."""
        with suppress(BrokenPipeError, OSError):  # a dead worker is found by receive()
            self.pipe.send((function, item))

    def receive(self) -> Answer | None:
        """The answer to what was sent; None if the process died."""
        try:
            answer: Answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return None
        return answer

    def stop(self) -> None:
        """Ask the process to end, and kill it where it does not listen."""
        with suppress(BrokenPipeError, OSError):
            self.pipe.send(None)
        self.process.join(2)
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join(5)
        self.pipe.close()


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
        answer = call(function, item)
        try:
            pipe.send(answer)
        except (BrokenPipeError, OSError):
            return
        except Exception as error:  # an answer that cannot be pickled is our fault, and must not look like a death
            pipe.send((False, WorkerFault(f"answer cannot be sent: {error!r}")))


def call(function: Callable[[Item], Value], item: Item) -> Answer:
    """What the function makes of the item; nothing but an interrupt is raised."""
    try:
        return True, function(item)
    except AutosegError as error:
        return False, error
    except Exception as error:
        if is_out_of_memory(error):
            return False, WorkerDied("memory ran out", remedy="Use fewer --workers, or close other programs.")
        last = "".join(traceback.format_exception(error))
        return False, WorkerFault(f"unexpected {type(error).__name__}: {error}\n{last}")


def outcome_of(index: int, item: Item, answer: Answer) -> Outcome[Item, Any]:
    """The outcome that an answer tells."""
    succeeded, content = answer
    return Outcome(index, item, value=content) if succeeded else Outcome(index, item, error=content)
