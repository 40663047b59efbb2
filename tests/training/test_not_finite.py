"""Losses and gradients that are not finite: skipped, gone back from, given up."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_builders import tiny_training

from autoseg.errors import TrainingError
from autoseg.training.checkpoint import read_state
from autoseg.training.loop import Training
from autoseg.training.recovery import LEAST_RATE_FACTOR, MOST_SKIPPED, is_worth_a_line


def spoil(training: Training, bad: Callable[[int], bool], *, gradient: bool = False) -> None:
    """Make the loss (or its gradient alone) not finite in those steps, counted as they are made."""
    backward, step, made = training.learner._backward, training.learner.step, -1

    def counted(*arguments: Any) -> float | None:
        nonlocal made
        made += 1
        return step(*arguments)

    def spoiled(totals: torch.Tensor) -> torch.Tensor:
        value = backward.loss.value(totals)
        if not bad(made):
            return value
        if not gradient:
            return value * float("inf")
        value.register_hook(lambda slope: slope * float("nan"))
        return value

    training.learner.step = counted  # type: ignore[method-assign]
    training.learner._backward = replace(backward, loss=replace(backward.loss, value=spoiled))


def weights(training: Training) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in training.learner.network.state_dict().values()]


@pytest.mark.parametrize("gradient", [False, True])
def test_a_bad_step_changes_nothing(tmp_path: Path, gradient: bool) -> None:
    training = tiny_training(tmp_path, epochs=2)
    said: list[str] = []
    training.say = said.append
    spoil(training, lambda step: step == 3, gradient=gradient)
    seen: list[list[torch.Tensor]] = []
    records = list(training.epochs(after_step=lambda: seen.append(weights(training))))
    assert all(torch.equal(left, right) for left, right in zip(seen[2], seen[3], strict=True))
    assert not all(torch.equal(left, right) for left, right in zip(seen[3], seen[4], strict=True))
    assert training.state.skipped_steps == 1
    assert training.state.step == 10
    assert len(said) == 1
    assert re.match(r"Step 4 is passed over: .* \(1 such step so far\); cases in its batch: case_\d", said[0])
    assert all(abs(record.train_loss) < 100 for record in records)


def test_a_case_that_spoils_many_steps_is_told_of_now_and_then(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=10)
    said: list[str] = []
    training.say = said.append
    spoil(training, lambda step: step % 4 == 0)
    list(training.epochs())
    assert (training.state.skipped_steps, training.state.rollbacks) == (13, 0)
    assert [line.split(":")[0] for line in said] == ["Step 1 is passed over", "Step 37 is passed over"]
    assert [number for number in range(2000) if is_worth_a_line(number)] == [1, 10, 100, 1000]


def test_several_in_a_row_go_back_with_half_the_rate(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=10)
    said: list[str] = []
    training.say = said.append
    spoil(training, lambda step: 12 <= step < 12 + MOST_SKIPPED)
    records = list(training.epochs())
    assert training.state.step == 50
    assert (training.state.rollbacks, training.state.rate_factor) == (1, 0.5)
    assert training.state.skipped_steps == MOST_SKIPPED
    assert [record.epoch for record in records] == [0, 1, 2, *range(2, 10)]  # the third epoch was made twice
    first, back = said
    assert first.startswith("Step 13 is passed over")
    assert "case_" in back
    assert "step 10" in back
    straight = tiny_training(tmp_path / "straight", epochs=10)
    wanted = [record.learning_rate for record in straight.epochs()]
    assert [record.learning_rate for record in records] == wanted[:3] + [rate / 2 for rate in wanted[2:]]
    assert tiny_training(tmp_path, epochs=10).state.rate_factor == 0.5  # a resumed run keeps it


def test_what_does_not_help_three_times_ends_with_the_names_of_the_cases(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=10)
    spoil(training, lambda step: step >= 12)
    with pytest.raises(TrainingError, match=r"case_\d.*3 times") as raised:
        list(training.epochs())
    assert "autoseg check" in str(raised.value)
    kept = read_state(tmp_path / "state.safetensors")
    assert (kept.step, kept.rollbacks, kept.rate_factor) == (10, 3, 0.125)


def several_spells(made: int) -> bool:
    """Five bad steps in the third, fifth, seventh, ninth and eleventh epoch of five, each epoch made twice."""
    return any(first <= made < first + MOST_SKIPPED for first in (10, 25, 40, 55, 70))


def test_spells_with_good_epochs_between_them_end_no_run(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=12)
    spoil(training, several_spells)
    list(training.epochs())
    assert training.state.step == 60
    assert (training.state.rollbacks, training.state.rollbacks_in_a_row) == (5, 0)
    assert training.state.rate_factor == LEAST_RATE_FACTOR == 0.125


def test_a_resumed_run_counts_on(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=10)
    spoil(training, lambda step: step >= 10)
    stop = iter([False] * (10 + 2 * MOST_SKIPPED) + [True])
    list(training.epochs(lambda: next(stop)))  # stopped in the third spell of losses that are not finite
    assert read_state(tmp_path / "state.safetensors").rollbacks_in_a_row == 2
    resumed = tiny_training(tmp_path, epochs=10)
    spoil(resumed, lambda step: True)
    with pytest.raises(TrainingError, match="3 times did not help"):
        list(resumed.epochs())
    assert resumed.state.rollbacks == 3


def test_a_run_whose_last_steps_were_skipped_is_finished(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=2)
    spoil(training, lambda step: step >= 8)
    list(training.epochs())
    assert read_state(tmp_path / "state.safetensors").step == 5  # the last epoch was not saved as it went by
    training.finish()
    kept = read_state(tmp_path / "state.safetensors")
    assert (kept.finished_by, kept.step, kept.skipped_steps) == ("schedule", 10, 2)
    again = tiny_training(tmp_path, epochs=2)
    assert again.done == 1.0
    assert all(torch.equal(left, right) for left, right in zip(weights(again), weights(training), strict=True))


def test_the_last_good_state_is_not_overwritten_while_losses_are_bad(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, epochs=10)
    spoil(training, lambda step: step >= 12)
    stop = iter([False] * 13 + [True])
    list(training.epochs(lambda: next(stop)))
    assert training.state.step == 14
    assert read_state(tmp_path / "state.safetensors").step == 10
