"""The clock of a training: its time budget, and when states are saved."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training_builders import tiny_training

from autoseg.training import loop
from autoseg.training.checkpoint import RunState, read_state
from autoseg.training.loop import Training


def test_a_limit_that_is_changed_leaves_time_to_come_to_an_end(tmp_path: Path) -> None:
    training = tiny_training(tmp_path)
    training.limit(100.0, 3.0, True)
    training.change_limit(200.0, False)
    assert training.loop_seconds == 200.0
    assert not training.state.score_with_mirroring
    training._clock_zero = time.monotonic() - 90.0
    training.change_limit(50.0, False)
    assert training.loop_seconds == pytest.approx(1.25 * 90.0, abs=0.5)


class Clock:
    """A clock on which a step takes a second, and saving a state as long as is told."""

    def __init__(self, training: Training, save_seconds: float) -> None:
        self.now = 0.0
        self.saved: list[int] = []  # epochs finished, of each saved state
        save = training.learner.save

        def slowly(path: Path, state: RunState) -> None:
            save(path, state)
            if path == training.state_path:
                self.now += save_seconds
                self.saved.append(state.epoch)

        training.learner.save = slowly  # type: ignore[method-assign]

    def monotonic(self) -> float:
        return self.now

    def step(self) -> None:
        self.now += 1.0


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Training, float], Clock]:
    """Puts such a clock into the loop."""

    def put(training: Training, save_seconds: float) -> Clock:
        clock = Clock(training, save_seconds)
        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=clock.monotonic))
        monkeypatch.setattr(loop, "CHEAP_SAVE", 0.03)
        return clock

    return put


@pytest.mark.parametrize(
    ("save_seconds", "saved"),
    [
        (0.02, [1, 2, 3, 4, 5, 6, 7, 8]),
        (0.29, [1, 4, 7, 8]),  # an epoch takes 5 s: two hundredths of 15
        (40.0, [1, 8]),
    ],
)
def test_saving_takes_a_small_share_of_the_time(
    tmp_path: Path, clocked: Callable[[Training, float], Clock], save_seconds: float, saved: list[int]
) -> None:
    training = tiny_training(tmp_path, epochs=8)
    clock = clocked(training, save_seconds)
    list(training.epochs(after_step=clock.step))
    assert clock.saved == saved
    assert read_state(training.state_path).step == 40


def test_what_was_not_saved_is_computed_again(tmp_path: Path, clocked: Callable[[Training, float], Clock]) -> None:
    straight = tiny_training(tmp_path / "straight", epochs=8)
    wanted = [(record.epoch, record.train_loss, record.learning_rate) for record in straight.epochs()]
    first = tiny_training(tmp_path, epochs=8)
    under_way = first.epochs(after_step=clocked(first, 0.29).step)
    before = [next(under_way) for _ in range(6)]  # killed here
    assert read_state(first.state_path).epoch == 4
    again = tiny_training(tmp_path, epochs=8)
    records = before[:4] + list(again.epochs())
    assert [(record.epoch, record.train_loss, record.learning_rate) for record in records] == wanted
    weights = straight.learner.network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.learner.network.state_dict().items())


def test_a_training_that_is_stopped_is_saved_whatever_that_takes(
    tmp_path: Path, clocked: Callable[[Training, float], Clock]
) -> None:
    training = tiny_training(tmp_path, epochs=8)
    clock = clocked(training, 40.0)
    list(training.epochs(lambda: training.state.step == 15, after_step=clock.step))
    assert clock.saved == [1, 3]
