"""A budget of time: how much of it is left to train, after preparing and before scoring."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoseg.errors import UsageError
from autoseg.inference.members import Weights
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import build_model
from autoseg.inference.tile_grid import tile_grid
from autoseg.networks.acceleration import in_short
from autoseg.pipeline.evaluate import TOLERANCE_MM, ScoreTask, score_files
from autoseg.progress import Progress
from autoseg.records import Case, ModelHeader, PredictSettings
from autoseg.training.loop import Training
from autoseg.workspace import Run

#: Seconds that the trial of scoring may take, each way, where cases are small.
TRIAL_SECONDS = 2.0

#: What is added to the scoring time measured on some cases, for what they cannot tell of the others.
SCORING_MARGIN = 1.2

#: Seconds of a budget kept for the last state, the curves, the model file and the end of the program.
ENDING_SECONDS = 4.0

#: Share of a budget from which the time for scoring is measured twice: more is seldom so.
DOUBTFUL_SHARE = 0.1

#: Share of a time budget that mirroring may take when the held-out cases are scored.
MIRRORING_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Budget:
    """A training that a budget of wall time is given, and what its held-out cases are scored with."""

    training: Training
    header: ModelHeader
    first_stage: Weights  # the tensors of a cascade's first stage
    run: Run
    held_out: Sequence[Case]
    seconds: float  # the budget
    progress: Progress

    def scoring(self) -> tuple[float, bool]:
        """Seconds that scoring is expected to take, and whether with mirroring.

        It is measured on some held-out cases with the network as it is; mirroring is kept where it takes at most
        MIRRORING_SHARE of the budget.
        """
        if not self.held_out:
            return 0.0, True
        plain, mirrored = scoring_seconds(self.training, self.header, self.first_stage, self.run, self.held_out)
        if self.training.setup.configuration.next_stage is not None:  # they are predicted once more, for the next stage
            plain, mirrored = 2 * plain, 2 * mirrored
        mirror = mirrored - plain <= MIRRORING_SHARE * self.seconds
        return mirrored if mirror else plain, mirror

    def told(self, loop: float, scoring: float, mirror: bool) -> str:
        """How the time is shared out, in words."""
        how = "with" if mirror else "without"
        return f"{loop:.0f} s to train, about {scoring:.0f} s to score {len(self.held_out)} cases {how} mirroring"


def limit_to_budget(budget: Budget, began: float) -> Callable[[], None]:
    """Let the schedule end when just the time for scoring is left of the budget that began at this monotonic time.

    Gives what is to be called after each step: where scoring seemed to take a large share, it is measured once more in
    the middle of the training, since another program may have been busy for a moment. Raises UsageError where the
    budget is too short to train at all.
    """
    scoring, mirror = budget.scoring()
    training = budget.training
    overhead = training.state.overhead_seconds + time.monotonic() - began
    loop = budget.seconds - overhead - scoring - ENDING_SECONDS
    if loop <= 0:
        raise UsageError(
            f"a budget of {budget.seconds:.0f} s leaves no time to train: preparing took {overhead:.0f} s and scoring "
            f"takes about {scoring:.0f} s",
            remedy="Give a larger --budget.",
        )
    training.limit(loop, overhead, mirror)
    budget.progress.say(f"Budget: {budget.told(loop, scoring, mirror)}")
    looked = scoring <= DOUBTFUL_SHARE * budget.seconds or training.done >= 0.5  # a resumed run has looked just now

    def look_again() -> None:
        nonlocal looked
        if looked or not 0.5 <= training.done < 1.0 or training.cool_down is not None:
            return
        looked = True
        try:
            now, mirror_now = budget.scoring()
        except Exception as error:  # it makes a figure better, and is no reason to end
            budget.progress.say(f"Scoring could not be measured once more ({in_short(error)}): the first figure stays")
            return
        training.change_limit(loop + scoring - now, mirror_now)
        left = budget.told(training.loop_seconds or 0.0, now, mirror_now)
        budget.progress.say(f"Budget, as scoring was measured once more: {left}")

    return look_again


def scoring_seconds(
    training: Training, header: ModelHeader, first_stage: Weights, run: Run, held_out: Sequence[Case]
) -> tuple[float, float]:
    """Estimated seconds to predict and score all held-out cases, without and with mirroring.

    Cases of middling size are predicted with the network as it is, as many as take TRIAL_SECONDS: while one is in the
    network others are read and written, so that one alone would tell too much. The others take longer or shorter by
    their tiles.
    """
    setup = training.setup
    patch = setup.configuration.patch_size
    tiles = {case.case: tile_grid(case.shape, patch).tiles for case in setup.validation_cases}
    by_size = sorted(held_out, key=lambda case: tiles[case.id])
    tensors = {header.members[0].name: training.weights(), **first_stage}
    model = build_model(header, tensors, setup.device, setup.precision)
    trial = run.folder / "trial"

    def took(cases: Sequence[Case], mirror: bool) -> float:
        started = time.monotonic()
        for outcome in predict_cases(model, cases, trial, settings=PredictSettings(mirror=mirror)):
            if outcome.case.labelled:
                score_files(ScoreTask(outcome.unwrap(), outcome.case, model.labels, TOLERANCE_MM))
        return time.monotonic() - started

    try:
        one = middle(by_size, 1)
        took(one, mirror=False)  # pays for what happens once
        plain = took(one, mirror=False)
        several = middle(by_size, max(1, int(TRIAL_SECONDS / plain)))
        if len(several) > 1:
            plain = took(several, mirror=False)
        mirrored = took(several, mirror=True)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    share = sum(tiles.values()) / sum(tiles[case.id] for case in several) * SCORING_MARGIN
    return plain * share, mirrored * share


def middle(ordered: Sequence[Case], count: int) -> Sequence[Case]:
    """So many cases in the middle of an order."""
    count = min(count, len(ordered))
    start = (len(ordered) - count) // 2
    return ordered[start : start + count]
