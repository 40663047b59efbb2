"""Losses that are not finite: steps are skipped, then training goes back with half the rate, and then it gives up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.errors import TrainingError
from autoseg.training.checkpoint import RunState

#: Steps in a row with a loss or gradient that is not finite after which training goes back to the last good state.
MOST_SKIPPED = 5

#: Times that training goes back, with half the learning rate each time, until it gives up; a good epoch ends the count.
MOST_ROLLBACKS = 3

#: The learning rate is never halved below this share of the planned one: what then still fails has another cause.
LEAST_RATE_FACTOR = 0.5**MOST_ROLLBACKS


@dataclass
class BadSpell:
    """Steps in a row without an update, and the cases in their batches."""

    steps: int = 0
    cases: list[str] = field(default_factory=list)

    def add(self, cases: Iterable[str]) -> None:
        """One more step, with these cases in its batch."""
        self.steps += 1
        self.cases.extend(case for case in dict.fromkeys(cases) if case not in self.cases)

    @property
    def too_long(self) -> bool:
        """Whether it is time to go back."""
        return self.steps >= MOST_SKIPPED

    def skipped(self, step: int, so_far: int) -> str:
        """That the step of that number, counted from 0, changed nothing, in words; so many did in the run so far."""
        steps = "step" if so_far == 1 else "steps"
        batches = "its batch" if self.steps == 1 else "the last batches"
        return (
            f"Step {step + 1} is passed over: its loss or gradient was not finite ({so_far} such {steps} so far); "
            f"cases in {batches}: {', '.join(self.cases)}"
        )

    def told(self, step: int) -> str:
        """What happened before the step of that number, counted from 0, in words."""
        return (
            f"the loss was not finite for {self.steps} steps in a row (before step {step + 1}); "
            f"cases in these batches: {', '.join(self.cases)}"
        )


def is_worth_a_line(skipped: int) -> bool:
    """Whether the skipped step of that number is told of: the 1st, 10th, 100th. One bad case may spoil thousands."""
    return str(skipped).rstrip("0") == "1"


def require_hope(what: str, state: RunState, state_path: Path) -> None:
    """Raise TrainingError where going back has been of no use, or there is nothing to go back to."""
    times = state.rollbacks_in_a_row
    if times < MOST_ROLLBACKS and state_path.exists():
        return
    tried = f"; going back and halving the rate {times} times did not help" if times else ""
    raise TrainingError(
        what + tried,
        where=state_path.parent,
        remedy="Look at these cases with `autoseg check`, or train anew with a lower learning rate.",
    )


def gone_back(saved: RunState, before: RunState, seconds: float) -> RunState:
    """The counters of a run that goes on from a saved state, at `seconds` of its wall time, which go on."""
    return saved.model_copy(
        update={
            "rollbacks": before.rollbacks + 1,
            "rollbacks_in_a_row": before.rollbacks_in_a_row + 1,
            "rate_factor": max(before.rate_factor / 2, LEAST_RATE_FACTOR),
            "seconds": seconds,
            "skipped_steps": before.skipped_steps + 1,
        }
    )
