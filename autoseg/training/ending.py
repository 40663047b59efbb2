"""How a run is ended before its time: a short cool-down of the learning rate; and when patience is at its end."""

from __future__ import annotations

from dataclasses import dataclass

from autoseg.records import EpochRecord
from autoseg.training.checkpoint import RunState
from autoseg.training.schedule import falling

#: Steps of a cool-down at most, as a share of the steps made.
COOL_DOWN_SHARE = 0.1

#: Seconds of a cool-down at most.
COOL_DOWN_SECONDS = 120.0

#: Steps below which there is nothing worth a good end: such a run is just stopped.
FEWEST_STEPS = 10

#: Weight of what was before when patience smooths what it watches (nnU-Net's smoothing of its online Dice).
SMOOTHING = 0.9


@dataclass(frozen=True)
class CoolDown:
    """A learning rate that falls to 0 from where a run was asked to end."""

    asked_by: str  # "Ctrl-C", "a file STOP", "--patience 20"
    first_step: int
    steps: int
    rate: float  # of the learning rate where it begins
    began: float  # seconds of the run when it began
    limit_seconds: float = COOL_DOWN_SECONDS
    by_patience: bool = False  # not by a person: the run is finished

    def share(self, step: int, seconds: float) -> float:
        """How much of it is done, 0 to 1: by steps, or by time where steps take longer than they did."""
        by_steps = (step - self.first_step) / self.steps if self.steps else 1.0
        return min(1.0, max(by_steps, (seconds - self.began) / self.limit_seconds))

    def learning_rate(self, step: int, seconds: float) -> float:
        """The rate for a step."""
        return self.rate * falling(self.share(step, seconds))

    def told(self, step: int) -> str:
        """What is written of a run that was ended so."""
        return f"ended early at step {step} by {self.asked_by}, with a cool-down from step {self.first_step}"


def cool_down_steps(steps_made: int, seconds_per_step: float, steps_left: int | None) -> int:
    """Steps of a cool-down: a tenth of those made, no more than two minutes, no more than were left anyway."""
    steps = min(int(steps_made * COOL_DOWN_SHARE), int(COOL_DOWN_SECONDS / max(seconds_per_step, 1e-9)))
    return max(1, steps if steps_left is None else min(steps, steps_left))


def watched(state: RunState, record: EpochRecord, held_out: bool) -> RunState:
    """The state with what patience watches: the smoothed patch Dice, or the loss where nothing is held out."""
    value = record.patch_dice if held_out else -record.train_loss
    if value is None:  # the held-out patches of this epoch showed no label
        return state
    smoothed = value if state.smoothed is None else SMOOTHING * state.smoothed + (1 - SMOOTHING) * value
    better = state.best is None or smoothed > state.best
    return state.model_copy(
        update={
            "smoothed": smoothed,
            "best": smoothed if better else state.best,
            "best_epoch": record.epoch + 1 if better else state.best_epoch,
        }
    )


def out_of_patience(state: RunState, patience: int) -> bool:
    """Whether so many epochs brought no improvement; 0 waits for ever."""
    return patience > 0 and state.best is not None and state.epoch - state.best_epoch >= patience
