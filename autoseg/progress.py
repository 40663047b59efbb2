"""How long work tells of itself, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """What the stages need of a display: named bars that advance, and lines of text."""

    def stage(self, title: str, total: int | None) -> AbstractContextManager[Advance]:
        """A bar with an ETA for the time of a `with` block; call what it gives with the number of steps done."""
        ...

    def say(self, text: str) -> None:
        """A line that stays."""
        ...

    def warn(self, text: str) -> None:
        """A line that stays and stands out."""
        ...


class SilentProgress:
    """Shows nothing: for programs and tests."""

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG002
        """A bar that nobody sees."""
        yield lambda _steps: None

    def say(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""
