"""What is shown of a run that goes on, and of one whose budget is shared out anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from training_builders import tiny_training

from autoseg.interrupts import StopSwitch
from autoseg.pipeline import epochs
from autoseg.pipeline.epochs import run_epochs
from autoseg.progress import LiveView, SilentProgress
from autoseg.training.loop import Training
from autoseg.workspace import Run


@dataclass
class Seen(SilentProgress):
    """Keeps what a live view is given."""

    opened: list[tuple[str, int, int]] = field(default_factory=list)
    shown: list[tuple[int, int | None]] = field(default_factory=list)

    @contextmanager
    def live(self, title: str, total: int, unit: str = "", before: int = 0) -> Iterator[LiveView]:
        self.opened.append((title, total, before))
        with super().live(title, total, unit, before):
            yield self

    def show(self, done: int, _: Mapping[str, str], total: int | None = None) -> None:
        self.shown.append((done, total))

    def line(self, words: str) -> None:
        """Not looked at."""


def watched(training: Training, folder: Path, **options: object) -> Seen:
    seen = Seen()
    run = Run(folder, "default", "3d_fullres", "0")
    run_epochs(training, run, StopSwitch(), seen, lambda _: None, **options)  # type: ignore[arg-type]
    return seen


@pytest.fixture(autouse=True)
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "SHOW_EVERY", 0.0)


def test_a_run_that_goes_on_tells_what_was_done_before(tmp_path: Path) -> None:
    assert watched(tiny_training(tmp_path, epochs=4), tmp_path).opened == [("Training", 4, 0)]
    assert watched(tiny_training(tmp_path, epochs=8), tmp_path).opened == [("Training", 8, 4)]


def test_the_view_follows_a_budget_that_is_shared_out_anew(tmp_path: Path) -> None:
    training, steps = tiny_training(tmp_path), count(1)
    training.limit(1000.0, 0.0, score_with_mirroring=False)

    def after_step() -> None:
        if next(steps) == 3:
            training.change_limit(0.1, score_with_mirroring=False)

    seen = watched(training, tmp_path, after_step=after_step)
    assert seen.opened == [("Training (seconds)", 1000, 0)]
    assert {total for _, total in seen.shown[:3]} == {1000}
    assert {total for _, total in seen.shown[3:]} == {1}
