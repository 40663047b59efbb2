"""The two consoles: progress, warnings and errors on stderr, results on stdout.

On a terminal that speaks UTF-8 the output has colours, lines and bars; everywhere else (a pipe, a log file, an old
code page) it is plain ASCII, as Markdown tables. Words from files are never read as markup.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from autoseg.errors import AutosegError
from autoseg.progress import LiveView, SilentProgress, duration
from autoseg.progress import Progress as ProgressOfCommand

#: Columns of output that goes to no terminal.
PLAIN_WIDTH = 120

#: Seconds between two lines of a long stage where no bar can be drawn.
PLAIN_INTERVAL = 30.0

_ASCII = str.maketrans(
    {"×": "x", "–": "-", "—": "-", "→": "->", "≤": "<=", "≥": ">=", "±": "+-", "≈": "~", "…": "...", "·": "."}
    | {"²": "^2", "³": "^3", "µ": "u", "°": " deg", "“": '"', "”": '"', "‘": "'", "’": "'"}
)

#: Colours of findings, the gravest first.
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def results_console() -> Console:
    """The console for results: stdout."""
    return _console(stderr=False)


def messages_console() -> Console:
    """The console for progress, warnings and errors: stderr."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def is_rich(console: Console) -> bool:
    """Whether more than plain ASCII may be shown."""
    return console.is_terminal and console.encoding.lower().startswith("utf")


def text(console: Console, words: str, style: str = "") -> Text:
    """The words as they may be shown on this console."""
    return Text(words if is_rich(console) else words.translate(_ASCII), style=style)


def say(console: Console, words: str = "", style: str = "") -> None:
    """Print one line; long lines (paths) are left for the terminal to wrap."""
    console.print(text(console, words, style), soft_wrap=True)


def say_json(value: object) -> None:
    """Print plain JSON to stdout, for programs: in ASCII, which every terminal and pipe can hold."""
    import json

    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def ready_to_compute(*, shown: bool = True, threads: int | None = None) -> ProgressOfCommand:
    """The progress of a command that computes for long; threads are told how to wait, before torch is loaded.

    Nothing is shown by a process that computes for another one that shows it. `threads` are those that are asked for.
    """
    from autoseg.machine import under_quota
    from autoseg.threads import suit_the_machine

    progress: ProgressOfCommand = RichProgress() if shown else SilentProgress()
    if suit_the_machine():
        progress.say("Other programs keep this machine busy: this takes longer than it would alone.")
    if threads is not None or under_quota():
        from autoseg.devices import use_threads

        use_threads(threads)
    return progress


# ------------------------------------------------------------------------------------------------------- progress


class RichProgress:
    """Bars on a terminal; elsewhere a line at the end of each stage, and now and then one during a long stage."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or messages_console()
        self._clock = clock
        self._bars: Progress | None = None

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A bar for the time of a `with` block; what it gives is called with the number of steps done."""
        began, done = self._clock(), 0
        draw = self._bar if self._console.is_terminal else self._lines
        with draw(title, total) as show:

            def advance(steps: int) -> None:
                nonlocal done
                done += steps
                show(done)

            yield advance
        amount = f": {done} in " if done else ": "
        self.say(f"{title}{amount}{duration(self._clock() - began)}")

    @contextmanager
    def live(self, title: str, total: int, unit: str = "", before: int = 0) -> Iterator[LiveView]:
        """A bar with figures below it, redrawn in place; elsewhere lines."""
        if not self._console.is_terminal:
            with self._lines(title, total, unit, before) as show:
                yield _Lines(show, self.say)
            return
        bars = _bars(self._console, total, foresight=False, unit=unit)  # what is left stands among the figures
        task = bars.add_task(text(self._console, title).plain, total=total)
        drawn = Live(bars, console=self._console, transient=True, refresh_per_second=4)

        def redraw(done: int, figures: Mapping[str, str], total: int | None) -> None:
            bars.update(task, completed=done, total=total)  # None changes nothing
            drawn.update(Group(bars, self._figures(figures)))

        with drawn:
            yield _Redrawn(redraw)

    def _figures(self, figures: Mapping[str, str]) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, value in figures.items():
            table.add_row(text(self._console, name, "dim"), text(self._console, value))
        return table

    def say(self, words: str) -> None:
        """A line that stays."""
        say(self._console, words)

    def warn(self, words: str) -> None:
        """A line that stays and stands out."""
        say(self._console, f"Warning: {words}", STYLES["warning"])

    @contextmanager
    def _bar(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        outermost = self._bars is None
        bars = self._bars or _bars(self._console, total)
        if outermost:
            self._bars = bars
            bars.start()
        task = bars.add_task(text(self._console, title).plain, total=total)
        try:
            yield lambda done: bars.update(task, completed=done)
        finally:
            bars.remove_task(task)
            if outermost:
                bars.stop()
                self._bars = None

    @contextmanager
    def _lines(self, title: str, total: int | None, unit: str = "", before: int = 0) -> Iterator[_ShowLine]:
        began = last = self._clock()

        def show(done: int, new_total: int | None = None) -> None:
            nonlocal last, total
            total = total if new_total is None else new_total
            now = self._clock()
            if now - last < PLAIN_INTERVAL or done == total:
                return
            last = now
            left = ""
            if total is not None and done > before:
                left = f", about {duration((now - began) / (done - before) * (total - done))} left"
            of = "" if total is None else f" of {total}"
            self.say(f"{title}: {done}{of}{f' {unit}' if unit else ''}{left}")

        yield show


def _bars(console: Console, total: int | None, foresight: bool = True, unit: str = "") -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn() if total is not None else TaskProgressColumn(),
        *([TextColumn(unit, markup=False)] if unit else []),
        *([TimeRemainingColumn(elapsed_when_finished=True)] if foresight else []),
        console=console,
        transient=True,
        speed_estimate_period=120.0,
    )


class _ShowLine(Protocol):
    """Tells where a stage stands, now and then."""

    def __call__(self, done: int, new_total: int | None = None, /) -> None: ...


@dataclass(frozen=True)
class _Redrawn:
    """A live view on a terminal: the latest figures alone."""

    redraw: Callable[[int, Mapping[str, str], int | None], None]

    def show(self, done: int, figures: Mapping[str, str], total: int | None = None) -> None:
        self.redraw(done, figures, total)

    def line(self, words: str) -> None:
        pass


@dataclass(frozen=True)
class _Lines:
    """A live view where nothing can be redrawn: lines."""

    advance: _ShowLine
    say: Callable[[str], None]

    def show(self, done: int, figures: Mapping[str, str], total: int | None = None) -> None:  # noqa: ARG002
        self.advance(done, total)

    def line(self, words: str) -> None:
        self.say(words)


# --------------------------------------------------------------------------------------------------------- errors


def show_error(console: Console, error: AutosegError) -> None:
    """What went wrong and where, then what to do, on lines of their own."""
    say(console, f"Error: {error.what if error.where is None else f'{error.where}: {error.what}'}", STYLES["error"])
    if error.remedy:
        say(console, error.remedy.strip())
