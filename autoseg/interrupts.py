"""Stopping gently: the first Ctrl-C or SIGTERM asks, the second insists."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM arrived; the exit code is 143. Not an Exception, so that no handler of errors swallows it."""


class StopSwitch:
    """Set by the first signal; whoever works asks it between two steps."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    def raise_if_set(self) -> None:
        """End the command as the signal asked, after the work was put in order."""
        if self.signal == signal.SIGTERM:
            raise Terminated
        if self.signal is not None:
            raise KeyboardInterrupt


@contextmanager
def stop_switch() -> Iterator[StopSwitch]:
    """A switch that the first SIGINT or SIGTERM sets; the second raises. Only the main thread can listen to signals."""
    switch = StopSwitch()
    if threading.current_thread() is not threading.main_thread():
        yield switch
        return

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if switch.signal is not None:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        switch.signal = number

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield switch
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
