"""How long work tells of itself, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class LiveView(Protocol):
    """What goes on in a long stage, told while it goes on."""

    def show(self, done: int, figures: Mapping[str, str], total: int | None = None) -> None:
        """Where it stands, and what is worth watching: replaces what was shown before. `total` is a new one."""
        ...

    def line(self, words: str) -> None:
        """A line of the log, for where nothing can be replaced."""
        ...


class Progress(Protocol):
    """What the stages need of a display: named bars that advance, and lines of text."""

    def stage(self, title: str, total: int | None) -> AbstractContextManager[Advance]:
        """A bar with an ETA for the time of a `with` block; call what it gives with the number of steps done."""
        ...

    def live(self, title: str, total: int, unit: str = "", before: int = 0) -> AbstractContextManager[LiveView]:
        """A bar with figures below it for the time of a `with` block; `unit` is what its steps are.

        `before` of them were done by an earlier start: how long the others take is told by what is done now.
        """
        ...

    def say(self, text: str) -> None:
        """A line that stays."""
        ...

    def warn(self, text: str) -> None:
        """A line that stays and stands out."""
        ...


def duration(seconds: float) -> str:
    """Seconds in words: "0.4 s", "12 s", "3 min 5 s", "2 h 10 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


class SilentProgress:
    """Shows nothing: for programs and tests."""

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG002
        """A bar that nobody sees."""
        yield lambda _steps: None

    @contextmanager
    def live(self, title: str, total: int, unit: str = "", before: int = 0) -> Iterator[LiveView]:  # noqa: ARG002
        """A view that nobody sees."""
        yield _Unseen()

    def say(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""


class _Unseen:
    def show(self, done: int, figures: Mapping[str, str], total: int | None = None) -> None:
        pass

    def line(self, words: str) -> None:
        pass
