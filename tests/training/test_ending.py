"""Runs that end before their time, and runs that are made longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from training_builders import tiny_setup, tiny_training

from autoseg.records import EpochRecord
from autoseg.training import loop
from autoseg.training.checkpoint import RunState, read_state
from autoseg.training.ending import CoolDown, cool_down_steps, out_of_patience, watched
from autoseg.training.loop import Training


def record_of(epoch: int, dice: float | None, loss: float = 0.0) -> EpochRecord:
    return EpochRecord(epoch, epoch + 1, 1.0, 0.0, 0.1, loss, dice)


def test_a_cool_down_is_short() -> None:
    assert cool_down_steps(1000, 0.1, None) == 100
    assert cool_down_steps(1_000_000, 0.1, None) == 1200  # two minutes
    assert cool_down_steps(1000, 0.1, 7) == 7
    assert cool_down_steps(10, 500.0, None) == 1


def test_the_rate_of_a_cool_down_falls_to_nothing() -> None:
    cool_down = CoolDown("Ctrl-C", first_step=100, steps=10, rate=0.5, began=50.0)
    rates = [cool_down.learning_rate(100 + step, 50.0 + step) for step in range(11)]
    assert rates[0] == 0.5
    assert rates[-1] == 0.0
    assert rates == sorted(rates, reverse=True)
    assert cool_down.share(101, 50.0 + 120.0) == 1.0  # steps that take longer than they did cannot make it longer
    assert cool_down.told(110) == "ended early at step 110 by Ctrl-C, with a cool-down from step 100"


def test_patience_counts_epochs_without_improvement() -> None:
    state = RunState()
    for epoch, dice in enumerate([0.5, 0.6, 0.6, None, 0.3, 0.3, 0.3]):
        state = watched(state, record_of(epoch, dice), held_out=True).model_copy(update={"epoch": epoch + 1})
    assert (state.best_epoch, state.epoch) == (3, 7)
    assert out_of_patience(state, 4)
    assert not out_of_patience(state, 5)
    assert not out_of_patience(state, 0)
    assert not out_of_patience(RunState(epoch=9), 4)  # nothing was seen yet


def test_patience_watches_the_loss_where_nothing_is_held_out() -> None:
    state = watched(RunState(), record_of(0, None, loss=2.0), held_out=False)
    better = watched(state, record_of(1, None, loss=1.0), held_out=False)
    worse = watched(state, record_of(1, None, loss=3.0), held_out=False)
    assert (better.best_epoch, worse.best_epoch) == (2, 1)


def asked_at(training: Training, step: int) -> str:
    return "Ctrl-C" if training.state.step >= step else ""


def test_a_run_that_is_asked_to_end_cools_down_and_can_go_on(tmp_path: Path) -> None:
    straight = tiny_training(tmp_path / "straight", epochs=10)
    wanted = [record.learning_rate for record in straight.epochs()]

    training = tiny_training(tmp_path, epochs=10)
    said: list[str] = []
    training.say = said.append
    records = list(training.epochs(asked_to_end=lambda: asked_at(training, 32)))
    assert training.state.step == 35  # a tenth of 32 steps
    assert [record.phase for record in records] == ["train"] * 6 + ["cool-down"]
    assert records[-1].learning_rate == 0.0
    assert "3 steps" in said[0]
    assert "by Ctrl-C" in training.ended_early
    training.finish()
    before = read_state(tmp_path / "state.safetensors")
    assert (before.step, before.finished_by) == (32, "")

    again = tiny_training(tmp_path, epochs=10)
    assert [record.learning_rate for record in again.epochs()] == wanted[6:]
    assert again.state.step == 50
    for name, tensor in straight.weights().items():
        assert torch.equal(tensor, again.weights()[name]), name


def test_a_person_is_known_from_patience_by_no_words(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=10)
    list(training.epochs(asked_to_end=lambda: asked_at(training, 32) and "--patience/STOP"))
    assert "by --patience/STOP" in training.ended_early
    assert not training.by_patience
    training.finish()
    assert read_state(tmp_path / "state.safetensors").finished_by == ""


@pytest.mark.parametrize("step", [4, 5, 6])
def test_a_stop_beside_the_end_of_an_epoch_moves_no_epoch(tmp_path: Path, step: int) -> None:
    (tmp_path / "straight").mkdir()
    wanted = [(record.step, record.train_loss) for record in tiny_training(tmp_path / "straight", epochs=3).epochs()]
    first = tiny_training(tmp_path, epochs=3)
    records = list(first.epochs(lambda: first.state.step >= step))
    assert first.state.step == step
    again = tiny_training(tmp_path, epochs=3)
    records += list(again.epochs())
    assert [(record.step, record.train_loss) for record in records] == wanted


def test_stopping_in_a_cool_down_keeps_the_state_from_before(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=20)
    list(training.epochs(lambda: training.state.step > 41, lambda: asked_at(training, 40)))
    assert training.state.step == 42
    assert read_state(tmp_path / "state.safetensors").step == 40


def test_a_run_without_improvement_ends_by_patience_and_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = tiny_training(tmp_path, epochs=40, patience=3, learning_rate=1e-9)
    values = iter([0.5] + [0.3] * 40)
    found = type("Dice", (), {"per_label": lambda self: {"a": next(values)}})()
    monkeypatch.setattr(training.learner, "online_dice", lambda: (found, 0.0))
    records = list(training.epochs())
    assert [record.phase for record in records][-2:] == ["train", "cool-down"]
    assert training.state.step == 22  # four epochs, and a tenth of their steps
    assert "--patience 3" in training.ended_early
    assert training.by_patience
    training.finish()
    assert read_state(tmp_path / "state.safetensors").finished_by == "patience"
    kept = read_state(tmp_path / "kept.safetensors")
    assert (kept.step, kept.finished_by) == (20, "")

    os.replace(tmp_path / "kept.safetensors", tmp_path / "state.safetensors")
    again = tiny_training(tmp_path, epochs=40, patience=3, learning_rate=1e-9)
    assert [record.phase for record in again.epochs()] == ["cool-down"]  # the same patience ends it at once
    longer = tiny_training(tmp_path, epochs=40, patience=5, learning_rate=1e-9)
    assert next(longer.epochs()).phase == "train"


@pytest.mark.parametrize(("schedule", "kept_at"), [("poly", 45), ("wsd", 40)])
def test_the_state_before_the_final_decay_is_kept(tmp_path: Path, schedule: str, kept_at: int) -> None:
    training = tiny_training(tmp_path, epochs=10, schedule=schedule)
    list(training.epochs())
    training.finish()
    assert read_state(tmp_path / "state.safetensors").finished_by == "schedule"
    assert read_state(tmp_path / "kept.safetensors").step == kept_at


def test_a_longer_run_follows_the_curve_of_its_new_length(tmp_path: Path) -> None:
    first = tiny_training(tmp_path / "first", epochs=10)
    list(first.epochs())
    assert first.kept_path is not None
    os.replace(first.kept_path, first.state_path)
    longer = tiny_training(tmp_path / "first", epochs=20)
    rates = [record.learning_rate for record in longer.epochs()]
    straight = tiny_training(tmp_path / "straight", epochs=20)
    assert rates == [record.learning_rate for record in straight.epochs()][9:]
    assert read_state(first.kept_path).step == 90


def test_a_kept_state_of_an_earlier_ending_is_replaced(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=10)
    training.save(tmp_path / "kept.safetensors")
    list(training.epochs())
    assert read_state(tmp_path / "kept.safetensors").step == 45


def test_states_are_saved_by_time_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_SECONDS", -1.0)
    training = tiny_training(tmp_path, epochs=1, steps_per_epoch=20)
    seen = []
    list(training.epochs(after_step=lambda: seen.append(training.state_path.exists())))
    assert seen[:3] == [False, True, True]


def test_a_state_from_before_the_first_step_is_no_beginning(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, seed=1)
    training.save()
    assert not tiny_training(tmp_path, seed=2).resumed
    assert tiny_setup(seed=2).settings.seed == 2


def test_an_epoch_is_logged_before_it_is_saved(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=3)
    training.save()
    saved = []
    given = list(
        training.epochs(log=lambda record: saved.append((record.epoch, read_state(training.state_path).epoch)))
    )
    # whoever is killed there goes back to the epochs before, and none is saved whose line is missing
    assert saved == [(0, 0), (1, 1), (2, 2)]
    assert [record.epoch for record in given] == [0, 1, 2]
    assert read_state(training.state_path).epoch == 3


def test_an_epoch_that_cannot_be_logged_is_saved(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=3)

    def full(_: EpochRecord) -> None:
        raise OSError("no room for a line")

    with pytest.raises(OSError, match="no room"):
        list(training.epochs(log=full))
    assert read_state(training.state_path).epoch == 1


def test_a_cool_down_is_logged_too(tmp_path: Path) -> None:
    training, logged = tiny_training(tmp_path, epochs=10), []
    given = list(training.epochs(asked_to_end=lambda: asked_at(training, 32), log=logged.append))
    assert logged == given
    assert logged[-1].phase == "cool-down"
