from __future__ import annotations

import pytest

from autoseg.training.checkpoint import RunState
from autoseg.training.counters import epoch_counted, epoch_record, step_counted


def after(state: RunState, *losses: float | None) -> RunState:
    """After steps of two seconds each, half a second of which is waited for data."""
    for loss in losses:
        state = step_counted(state, loss, waited=0.5, seconds=state.seconds + 2.0)
    return state


def test_skipped_steps_are_steps_without_a_loss() -> None:
    state = after(RunState(), 1.0, None, 0.0)
    assert (state.step, state.skipped_steps, state.loss_steps, state.loss_sum) == (3, 1, 2, 1.0)
    assert (state.seconds, state.wait_seconds) == (6.0, 1.5)


def test_an_epoch_is_told_by_its_own_steps() -> None:
    first = after(RunState(), 9.0, 9.0)
    state = after(epoch_counted(first, 2, first.seconds), 1.0, None, 2.0, 3.0)
    record = epoch_record(state, 4, state.seconds, 0.1, {"a": 0.5, "b": None, "c": 0.7}, cooling=False)
    assert (record.epoch, record.step, record.seconds) == (1, 6, 12.0)
    assert record.train_loss == 2.0
    assert record.data_wait == 0.25
    assert record.steps_per_second == 0.5
    assert record.patch_dice == pytest.approx(0.6)
    assert record.patch_dice_per_label["b"] is None


def test_an_epoch_of_skipped_steps_that_showed_no_label() -> None:
    state = after(RunState(), None, None)
    record = epoch_record(state, 2, state.seconds, 0.1, {"a": None}, cooling=True)
    assert (record.train_loss, record.patch_dice, record.phase) == (0.0, None, "cool-down")


@pytest.mark.parametrize(("losses", "left"), [((1.0, 1.0), 0), ((1.0, None), 2)])
def test_an_epoch_without_a_skipped_step_ends_the_row_of_rollbacks(losses: tuple[float | None, ...], left: int) -> None:
    state = after(RunState(rollbacks_in_a_row=2), *losses)
    following = epoch_counted(state, len(losses), state.seconds)
    assert following.rollbacks_in_a_row == left
    assert (following.epoch, following.step) == (1, 2)
    assert (following.loss_sum, following.loss_steps, following.wait_seconds) == (0.0, 0, 0.0)
    assert following.epoch_began == state.seconds
