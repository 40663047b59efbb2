"""The counters of a run, step by step and epoch by epoch, and what an epoch came to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoseg.records import EpochRecord
from autoseg.training.checkpoint import RunState


def step_counted(state: RunState, loss: float | None, waited: float, seconds: float) -> RunState:
    """The counters after a step, at `seconds` of the run.

    Args:
        state: the counters before it.
        loss: None where the step was skipped, because loss or gradient were not finite.
        waited: seconds for its data.
        seconds: wall time of the run.
    """
    return state.model_copy(
        update={
            "step": state.step + 1,
            "seconds": seconds,
            "loss_sum": state.loss_sum + (loss or 0.0),
            "loss_steps": state.loss_steps + (loss is not None),
            "wait_seconds": state.wait_seconds + waited,
            "skipped_steps": state.skipped_steps + (loss is None),
        }
    )


def epoch_record(
    state: RunState,
    steps: int,
    seconds: float,
    rate: float,
    dice_per_label: Mapping[str, float | None],
    *,
    cooling: bool,
) -> EpochRecord:
    """What the epoch under way came to, of `steps` steps, ended at `seconds` of the run.

    `dice_per_label` is that of the patches, None for a label that none of them showed; `cooling` tells of a cool-down.
    """
    present = [value for value in dice_per_label.values() if value is not None]
    took = max(seconds - state.epoch_began, 1e-9)
    return EpochRecord(
        epoch=state.epoch,
        step=state.step,
        seconds=seconds,
        data_wait=state.wait_seconds / took,
        learning_rate=rate,
        train_loss=state.loss_sum / max(state.loss_steps, 1),
        patch_dice=float(np.mean(present)) if present else None,
        patch_dice_per_label=dice_per_label,
        steps_per_second=steps / took,
        phase="cool-down" if cooling else "train",
    )


def epoch_counted(state: RunState, steps: int, seconds: float) -> RunState:
    """The counters of the next epoch, after one of `steps` steps that ended at `seconds` of the run."""
    none_skipped = state.loss_steps == steps  # then what made losses bad before is over
    return state.model_copy(
        update={
            "epoch": state.epoch + 1,
            "seconds": seconds,
            "epoch_began": seconds,
            "loss_sum": 0.0,
            "loss_steps": 0,
            "wait_seconds": 0.0,
            "rollbacks_in_a_row": 0 if none_skipped else state.rollbacks_in_a_row,
        }
    )
