"""Stopping gently: by Ctrl-C, by SIGTERM, or by a file named STOP."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

#: Seconds between two looks at the STOP files: a look may cost milliseconds on a network's disk.
LOOK_EVERY = 1.0


class Terminated(BaseException):
    """SIGTERM arrived; the exit code is 143. Not an Exception, so that no handler of errors swallows it."""


class StopSwitch:
    """Set by signals and files; whoever works asks it between two steps.

    Two wishes are told apart. To *stop*: leave off as things are (`switch()` is true). To *end*: bring the work to a
    good end before its time (`switch.ending()` names who asked). While `ends` is in force the first Ctrl-C and the
    STOP files mean the latter; otherwise every signal means to stop.
    """

    def __init__(self, stop_files: Sequence[Path] = ()) -> None:
        self.signal: int | None = None
        self._ends = False
        self._asked = ""
        self._looked = 0.0
        # what lies there already is not meant for this command
        self._stamps = {path: _stamp(path) for path in stop_files}

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    def ending(self) -> str:
        """Who asked to end: "Ctrl-C", "a file STOP", or "" for nobody."""
        now = time.monotonic()
        if not self._asked and now - self._looked > LOOK_EVERY:
            self._looked = now
            if any(_stamp(path) not in (None, before) for path, before in self._stamps.items()):
                self._asked = "a file STOP"
        return self._asked

    @property
    def ignored_files(self) -> list[Path]:
        """STOP files that lay there before."""
        return [path for path, before in self._stamps.items() if before is not None]

    @contextmanager
    def ends(self) -> Iterator[None]:
        """Within this block the first Ctrl-C asks to end, not to stop."""
        self._ends = True
        try:
            yield
        finally:
            self._ends = False

    def on_signal(self, number: int) -> None:
        """Take a signal in; one after a wish to stop raises."""
        if self.signal is not None:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if number == signal.SIGINT and self._ends and not self._asked:
            self._asked = "Ctrl-C"
        else:
            self.signal = number

    def stop(self) -> None:
        """Ask to stop, as a Ctrl-C does."""
        self.signal = self.signal or signal.SIGINT

    def raise_if_set(self) -> None:
        """End the command as the signal asked, after the work was put in order."""
        if self.signal == signal.SIGTERM:
            raise Terminated
        if self.signal is not None:
            raise KeyboardInterrupt


def _stamp(path: Path) -> int | None:
    """When the file was written; None where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


@contextmanager
def stop_switch(stop_files: Sequence[Path] = ()) -> Iterator[StopSwitch]:
    """A switch that SIGINT and SIGTERM set until the block ends. Only the main thread can listen to signals."""
    switch = StopSwitch(stop_files)
    if threading.current_thread() is not threading.main_thread():
        yield switch
        return

    def handler(number: int, _frame: FrameType | None) -> None:
        switch.on_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield switch
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
