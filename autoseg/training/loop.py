"""The training loop: steps and epochs, resumable at any step, and brought to a good end at any step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch

from autoseg.records import EpochRecord
from autoseg.training.checkpoint import RunState, read_state
from autoseg.training.counters import epoch_counted, epoch_record, step_counted
from autoseg.training.ending import FEWEST_STEPS, CoolDown, cool_down_steps, out_of_patience, watched
from autoseg.training.learner import Learner
from autoseg.training.patches import batch_cases
from autoseg.training.ranks import Order
from autoseg.training.recovery import BadSpell, gone_back, is_worth_a_line, require_hope
from autoseg.training.schedule import find_schedule, learning_rate
from autoseg.training.setup import TrainingSetup
from autoseg.training.stream import BatchStream

#: Seconds between two saved states at most: what a kill may cost.
SAVE_EVERY_SECONDS = 300.0

#: Share of the time that saving the state after epochs may take, where one save takes more than CHEAP_SAVE seconds: a
#: small network's epoch takes a second on a fast GPU, and its state may go to a slow disk.
SAVING_SHARE = 0.02
CHEAP_SAVE = 0.03

#: A schedule that is cut short ends at this many times the seconds made at the earliest: its rate has to fall.
LEAST_TO_COME = 1.25

#: Steps over which the seconds per step are measured.
TIMED_STEPS = 50


def never() -> bool:
    """Nobody wants to stop."""
    return False


def nobody() -> str:
    """Nobody asks for an end."""
    return ""


class Training:
    """A training under way.

    `state_path` holds what an interrupted run goes on from; `kept_path`, where one is given, the state from before
    the final decay, which a finished run goes on from when it is to be longer.
    """

    def __init__(self, setup: TrainingSetup, state_path: Path, kept_path: Path | None = None) -> None:
        """Build the network with seeded weights, and take over a saved state if there is one."""
        self.setup = setup
        self.state_path = state_path
        self.kept_path = kept_path
        self.schedule = find_schedule(setup.settings.schedule)
        self.learner = Learner(setup)
        self.loop_seconds: float | None = None  # seconds of training in all, where a time budget was given
        self.cool_down: CoolDown | None = None  # once the run was asked to end
        self.last_loss: float | None = None
        self.say: Callable[[str], None] = lambda _words: None  # for what happens rarely
        self.learner.say = lambda words: self.say(words)
        # what was saved before the first step is as good as nothing
        self.resumed = state_path.exists() and read_state(state_path).step > 0
        self.state = self.learner.load(state_path) if self.resumed else RunState()
        self._spell = BadSpell()
        self._step_ends: deque[float] = deque(maxlen=TIMED_STEPS)
        self._clock_zero = time.monotonic() - self.state.seconds  # when an uninterrupted run would have begun
        self._saved = time.monotonic()
        self._save_seconds = 0.0  # what the last save took

    # ----------------------------------------------------------------------------------------- where the run stands

    @property
    def done(self) -> float:
        """Share of the run that is done, 0 to 1: of the epochs, or of the time."""
        if self.loop_seconds is not None:
            return min(1.0, self.state.seconds / max(self.loop_seconds, 1e-9))
        return min(1.0, self.state.step / self.setup.total_steps)

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, over all starts; it goes on while states are saved: a budget is wall time."""
        return time.monotonic() - self._clock_zero

    @property
    def seconds_per_step(self) -> float | None:
        """Of the last steps; None before two were made."""
        if len(self._step_ends) < 2:
            return None
        return (self._step_ends[-1] - self._step_ends[0]) / (len(self._step_ends) - 1)

    @property
    def rate(self) -> float:
        """The learning rate at this moment."""
        if self.cool_down is not None:
            return self.cool_down.learning_rate(self.state.step, self.seconds) * self.state.rate_factor
        return learning_rate(self.setup.settings, self.state.step, self.done) * self.state.rate_factor

    @property
    def ended_early(self) -> str:
        """How the run was ended before its time, in words; empty where it was not."""
        return "" if self.cool_down is None else self.cool_down.told(self.state.step)

    @property
    def by_patience(self) -> bool:
        """Whether patience ended the run before its time, not a person."""
        return self.cool_down is not None and self.cool_down.by_patience

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights to use: their running average where that is on, else the last ones."""
        return self.learner.weights(self.state.step)

    def limit(self, loop_seconds: float, overhead_seconds: float, score_with_mirroring: bool) -> None:
        """Let the clock decide: the schedule ends after so many seconds of training, over all starts."""
        self.loop_seconds = loop_seconds
        self._count(overhead_seconds=overhead_seconds, score_with_mirroring=score_with_mirroring)

    def change_limit(self, loop_seconds: float, score_with_mirroring: bool) -> None:
        """Let the schedule end at another moment, but leave it time to come to an end."""
        self.loop_seconds = max(loop_seconds, LEAST_TO_COME * self.seconds)
        self._step_ends.clear()  # the pause in which that was found out is no step
        self._count(score_with_mirroring=score_with_mirroring)

    def save(self, path: Path | None = None) -> None:
        """Write the state; what was there before stays until the new one is complete.

        While losses are not finite nothing is written: the last good state is needed then.
        """
        if self._spell.steps == 0:
            began = time.monotonic()
            self.learner.save(path or self.state_path, self.state)
            now = time.monotonic()
            self._save_seconds = now - began
            if path is None:
                self._saved = now

    def finish(self) -> None:
        """Note that the model of the whole run is written: the same command has nothing left to train.

        A run that a person ended early is not finished: what is saved of it is the state from before the cool-down.
        """
        if self.cool_down is None or self.by_patience:
            self._count(finished_by="patience" if self.by_patience else "schedule")
            self.learner.save(self.state_path, self.state)  # steps that were skipped at the end have changed no weight

    def _count(self, **counters: Any) -> None:
        self.state = self.state.model_copy(update=counters)

    # ------------------------------------------------------------------------------------------------- the epochs

    def epochs(
        self,
        should_stop: Callable[[], bool] = never,
        asked_to_end: Callable[[], str] = nobody,
        after_step: Callable[[], None] = lambda: None,
        log: Callable[[EpochRecord], None] = lambda _: None,
    ) -> Iterator[EpochRecord]:
        """Train; one record after each epoch, the state saved before it is given where that is due.

        It is due after each epoch where that takes little time, and every five minutes. `log` is given the record
        before that: whoever is killed in between computes the epoch again and writes its line anew, while the line of
        an epoch that is saved already would be missing for ever.

        After each step `should_stop` is asked: when true, the state is saved and the iteration ends. `asked_to_end`
        names who wants the run to end before its time: it cools down (`training.ending`) and the iteration ends.
        """
        self._clock_zero = time.monotonic() - self.state.seconds
        self._saved = time.monotonic()
        self._count(finished_by="")
        if self.kept_path is not None and self.done < self.schedule.final_decay:
            self.kept_path.unlink(missing_ok=True)  # of another ending than the one that will come
        self.learner.record()  # before anything else uses the device
        with ExitStack() as at_the_end:
            at_the_end.callback(self.learner.forget_graph)  # scoring needs the memory
            batches = at_the_end.enter_context(closing(self._stream()))
            while self.done < 1.0:
                if self._cools_down(asked_to_end()):
                    for record in self._cooled_down(batches, should_stop, after_step):
                        log(record)
                        yield record
                    return
                self._keep_before_final_decay()
                self._step(batches)
                after_step()
                stopping = should_stop()
                if (
                    self._epoch_is_over
                ):  # before stopping: the state would have a step of the next epoch to go in this one
                    record = self._finish_epoch()
                    try:
                        log(record)
                    except BaseException:
                        self.save()  # an epoch without its line is better than none
                        raise
                    if stopping or self.done >= 1.0 or self._save_is_due(epoch_is_over=True):
                        self.save()
                    yield record
                elif stopping or self._save_is_due():
                    self.save()
                if stopping:
                    return

    def _save_is_due(self, *, epoch_is_over: bool = False) -> bool:
        since = time.monotonic() - self._saved
        cheap = self._save_seconds <= max(CHEAP_SAVE, SAVING_SHARE * since)
        return since > SAVE_EVERY_SECONDS or (epoch_is_over and cheap)

    def _stream(self) -> BatchStream:
        return self.learner.batches.stream(self.state.step)

    @property
    def _epoch_is_over(self) -> bool:
        return self.done >= 1.0 or self.state.step >= (self.state.epoch + 1) * self.setup.configuration.steps_per_epoch

    def _keep_before_final_decay(self) -> None:
        """Keep the state from which a longer run can go on, when the next step would be of the final decay."""
        if self.kept_path is None or self.kept_path.exists():
            return
        if self.loop_seconds is None:
            share = 1.0 / self.setup.total_steps
        else:
            share = (self.seconds_per_step or 0.0) / max(self.loop_seconds, 1e-9)
        if self.done + share > self.schedule.final_decay:
            self.save(self.kept_path)

    def _cools_down(self, asked_by: str) -> bool:
        """Begin the cool-down if somebody asks for it, or patience does; not by patience in the final decay."""
        patience = self.setup.settings.patience
        stalled = self.done < self.schedule.final_decay and out_of_patience(self.state, patience)
        if not (asked_by or stalled) or self.state.step < FEWEST_STEPS:
            return False
        if not asked_by and self.kept_path is not None:
            self.save(self.kept_path)  # a run that patience ended is finished, and more patience goes on from here
        per_step = self.seconds_per_step or self.state.seconds / self.state.step
        left = None if self.loop_seconds is not None else self.setup.total_steps - self.state.step
        steps = cool_down_steps(self.state.step, per_step, left)
        rate = learning_rate(self.setup.settings, self.state.step, self.done)
        self.save()  # what the same command goes on from; nothing is saved during a cool-down
        self.cool_down = CoolDown(
            asked_by or f"--patience {patience}",
            self.state.step,
            steps,
            rate=rate,
            began=self.seconds,
            by_patience=not asked_by,
        )
        self.say(
            f"Asked to end by {self.cool_down.asked_by}: the learning rate falls to 0 in {steps} steps, about "
            f"{min(steps * per_step, self.cool_down.limit_seconds):.0f} s. Ctrl-C stops at once; the state is saved."
        )
        return True

    def _cooled_down(
        self, batches: BatchStream, should_stop: Callable[[], bool], after_step: Callable[[], None]
    ) -> Iterator[EpochRecord]:
        cool_down = self.cool_down
        while cool_down is not None and self.done < 1.0 and cool_down.share(self.state.step, self.seconds) < 1.0:
            self._step(batches)
            after_step()
            if should_stop():
                return
            if self._epoch_is_over:
                yield self._finish_epoch()
        if self.state.loss_steps:
            yield self._finish_epoch()

    # -------------------------------------------------------------------------------------------------- the steps

    def _step(self, batches: BatchStream) -> None:
        batch, waited = batches.next_timed()
        rate = self.rate
        self.setup.ranks.tell(Order.STEP, self.state.step, rate)
        loss = self.learner.step(batch, self.state.step, rate)
        self._step_ends.append(time.monotonic())
        if loss is None:
            self._spell.add(batch_cases(self.setup.train_cases, self.learner.batches.sampling, self.state.step))
            if self._spell.too_long:
                self._roll_back()
                batches.restart(self.state.step)
                return
            if is_worth_a_line(skipped := self.state.skipped_steps + 1):
                self.say(self._spell.skipped(self.state.step, skipped))
        else:
            self._spell = BadSpell()
            self.last_loss = loss
        self.state = step_counted(self.state, loss, waited, self.seconds)

    def _roll_back(self) -> None:
        """Go back to the last good state, with half the learning rate. Raises TrainingError where that is of no use."""
        before, what = self.state, self._spell.told(self.state.step)
        require_hope(what, before, self.state_path)
        self.state = gone_back(self.learner.load(self.state_path), before, self.seconds)
        self._spell = BadSpell()
        factor = self.state.rate_factor
        self.say(f"{what}. Going on from the state of step {self.state.step}, with {factor:g} of the learning rate")
        self.save()

    def _finish_epoch(self) -> EpochRecord:
        dice, waited = self.learner.online_dice()
        per_label = dice.per_label()
        state, seconds = self.state, self.seconds
        state = state.model_copy(update={"wait_seconds": state.wait_seconds + waited})
        steps = state.step - state.epoch * self.setup.configuration.steps_per_epoch
        record = epoch_record(state, steps, seconds, self.rate, per_label, cooling=self.cool_down is not None)
        state = watched(state, record, held_out=bool(self.setup.validation_cases))
        self.state = epoch_counted(state, steps, seconds)
        return record
