"""The epochs of a run as they go by: what is shown of them, and the curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from autoseg.interrupts import StopSwitch
from autoseg.pipeline.epoch_log import add_epoch, kept_epochs
from autoseg.progress import Progress
from autoseg.records import EpochRecord
from autoseg.report.curves import draw_curves
from autoseg.report.watch import Tell
from autoseg.torchrun import Place
from autoseg.training.ending import FEWEST_STEPS
from autoseg.training.loop import Training
from autoseg.workspace import Run

#: Share of the time of a training that drawing its curves may take.
DRAWING_SHARE = 0.01

#: Seconds that the first drawing is taken to need: it loads the library that draws.
FIRST_DRAWING = 1.5

#: Seconds between two updates of the live view.
SHOW_EVERY = 0.25

#: Seconds between two lines on what epochs came to: a hundred lines in a minute are read by nobody.
LINE_EVERY = 10.0


def nothing() -> None:
    """Nothing is to be done after a step."""


def run_epochs(
    training: Training,
    run: Run,
    stop: StopSwitch,
    progress: Progress,
    tell: Tell,
    after_step: Callable[[], None] = nothing,
) -> None:
    """Train to the end, or to one that somebody asks for; each epoch goes to log, display and curves, and to `tell`.

    Raises KeyboardInterrupt or Terminated where a signal asked to stop; then the state is saved.
    """
    progress.say(opening(training, run))
    for path in stop.ignored_files:
        progress.warn(f"{path} was there before this command and is ignored; remove it, and make it anew to end a run")
    training.say = progress.say
    if not training.resumed:
        training.save()  # what the first losses that are not finite would go back to
    records = kept_epochs(run.metrics, training.state.epoch)
    curves = Curves(run.curves, f"{run.configuration}, fold {run.fold}", records)
    # under a budget the clock, not the epochs, tells how much is left
    title = "Training" if training.loop_seconds is None else "Training (seconds)"
    total = whole_length(training)
    with stop.ends(), progress.live(title, total, before=round(total * training.done)) as view:

        def shown(figures: Mapping[str, str]) -> None:
            now = whole_length(training)  # a budget may be shared out anew half way
            view.show(round(now * training.done), figures, now)

        show = shown_now_and_then(training, records, shown)

        def after_each_step() -> None:
            show()
            after_step()

        log, lines = partial(add_epoch, run.metrics, records), Lines(view.line)
        for record in training.epochs(lambda: to_stop(training, stop), stop.ending, after_each_step, log):
            tell(record)
            lines.add(record)
            curves.draw_if_cheap()
        lines.end()
    stop.raise_if_set()
    curves.draw()


def whole_length(training: Training) -> int:
    """Seconds of the training where a budget was given, else its epochs."""
    if training.loop_seconds is None:
        return training.setup.settings.epochs
    return max(1, round(training.loop_seconds))


def opening(training: Training, run: Run) -> str:
    """The first line: what is trained on what."""
    setup = training.setup
    resumed = f", going on after epoch {training.state.epoch}" if training.resumed else ""
    together = f", {shares(setup.configuration.batch_size, setup.ranks.place)}" if setup.ranks.several else ""
    return (
        f"{run.configuration}, fold {run.fold}: {len(setup.train_cases)} training cases on {setup.device}, "
        f"{setup.precision}{together}{resumed}"
    )


def shares(batch_size: int, place: Place) -> str:
    """How a batch is split, in words: "2 processes with 1 of 2 samples each"."""
    sizes = [len(replace(place, rank=rank).share(batch_size)) for rank in range(place.world)]
    each = f"{sizes[0]}" if len(set(sizes)) == 1 else f"{min(sizes)} or {max(sizes)}"
    return f"{place.world} processes with {each} of {batch_size} samples each"


def to_stop(training: Training, stop: StopSwitch) -> bool:
    """Whether to stop after this step; a run that has hardly begun is stopped rather than brought to an end."""
    if stop.ending() and training.state.step < FEWEST_STEPS:
        stop.stop()
    return stop()


# ------------------------------------------------------------------------------------------------- what is shown


def shown_now_and_then(
    training: Training, records: Sequence[EpochRecord], show: Callable[[dict[str, str]], None]
) -> Callable[[], None]:
    """What to call after each step: shows the figures a few times a second."""
    began, done_before = time.monotonic(), training.done
    last = 0.0

    def after_step() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SHOW_EVERY:
            return
        last = now
        progressed = training.done - done_before
        left = (now - began) / progressed * (1.0 - training.done) if progressed > 0 else None
        show(figures(training, records, left))

    return after_step


def figures(training: Training, records: Sequence[EpochRecord], seconds_left: float | None) -> dict[str, str]:
    """What is worth watching, by name."""
    state, latest = training.state, records[-1] if records else None
    shown = {"epoch": str(state.epoch + 1), "step": str(state.step)}
    if training.last_loss is not None:
        shown["loss"] = f"{training.last_loss:.4f}"
    if latest is not None:
        shown["loss of the last epoch"] = f"{latest.train_loss:.4f}"
        if latest.patch_dice is not None:
            shown["patch Dice (a proxy)"] = f"{latest.patch_dice:.3f}"
    shown["learning rate"] = f"{training.rate:.2e}"
    if training.seconds_per_step is not None:
        shown["seconds per step"] = f"{training.seconds_per_step:.3f}"
    waiting = state.wait_seconds / max(training.seconds - state.epoch_began, 1e-9)
    shown["waiting for data"] = f"{waiting:.1%}"
    if training.cool_down is not None:
        share = training.cool_down.share(state.step, training.seconds)
        shown["cool-down"] = f"{share:.0%}"
    elif seconds_left is not None:
        shown["left"] = _time(seconds_left)
    return shown


def _time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


class Lines:
    """Writes a line on an epoch where the last one is some seconds old, and on the first and the last."""

    def __init__(self, write: Callable[[str], None], every: float = LINE_EVERY) -> None:
        self._write = write
        self._every = every
        self._written: float | None = None  # when the last line was
        self._unwritten: EpochRecord | None = None

    def add(self, record: EpochRecord) -> None:
        """An epoch has ended."""
        now = time.monotonic()
        if self._unwritten is not None and self._unwritten.phase != record.phase:
            self.end()
        if self._written is None or now - self._written >= self._every:
            self._write(epoch_line(record))
            self._written, self._unwritten = now, None
        else:
            self._unwritten = record

    def end(self) -> None:
        """No further epoch comes, or one of another kind: the latest is written if it was not."""
        if self._unwritten is not None:
            self._write(epoch_line(self._unwritten))
            self._unwritten = None


def epoch_line(record: EpochRecord) -> str:
    """One line for the log."""
    dice = "" if record.patch_dice is None else f"patch Dice (a proxy) {record.patch_dice:.3f}  "
    pace = f"{1 / record.steps_per_second:.3f} s per step  " if record.steps_per_second > 0 else ""
    cooling = "" if record.phase == "train" else f"  {record.phase}"
    return (
        f"epoch {record.epoch + 1:4d}  step {record.step:6d}  {record.seconds:7.0f} s  loss {record.train_loss:7.4f}  "
        f"{dice}rate {record.learning_rate:.2e}  {pace}data wait {record.data_wait:.1%}{cooling}"
    )


# --------------------------------------------------------------------------------------------------- the curves


class Curves:
    """The picture of the curves: drawn after an epoch, unless that would take more than its share of the time."""

    def __init__(self, path: Path, title: str, records: Sequence[EpochRecord]) -> None:
        self._path, self._title, self._records = path, title, records
        self._began = time.monotonic()
        self._spent, self._last = 0.0, FIRST_DRAWING

    def draw_if_cheap(self) -> None:
        """Draw, if all drawings with this one stay within DRAWING_SHARE of the time."""
        if self._spent + self._last <= DRAWING_SHARE * (time.monotonic() - self._began):
            self.draw()

    def draw(self) -> None:
        """Draw."""
        if self._records:
            began = time.monotonic()
            draw_curves(self._path, self._title, self._records)
            self._last = time.monotonic() - began
            self._spent += self._last
