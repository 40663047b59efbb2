"""A budget of time: how much of it is left to train, after preparing and before scoring."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence

from autoseg.errors import UsageError
from autoseg.inference.members import Weights
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import build_model
from autoseg.inference.tile_grid import tile_grid
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

#: Share of a time budget that mirroring may take when the held-out cases are scored.
MIRRORING_SHARE = 0.1


def limit_to_budget(
    training: Training,
    header: ModelHeader,
    first_stage: Weights,
    run: Run,
    held_out: Sequence[Case],
    budget: float,
    began: float,
    progress: Progress,
) -> None:
    """Let the schedule end when just the time for scoring is left of the budget.

    What scoring takes is measured on some held-out cases with the network as it is; mirroring is kept where it takes at
    most MIRRORING_SHARE of the budget. `first_stage` are the tensors of a cascade's first stage; `budget` and `began`
    (on the monotonic clock) are seconds. Raises UsageError where the budget is too short to train at all.
    """
    plain, mirrored = scoring_seconds(training, header, first_stage, run, held_out) if held_out else (0.0, 0.0)
    if training.setup.configuration.next_stage is not None:  # they are predicted once more, for the second stage
        plain, mirrored = 2 * plain, 2 * mirrored
    mirror = mirrored - plain <= MIRRORING_SHARE * budget
    scoring = mirrored if mirror else plain
    overhead = training.state.overhead_seconds + time.monotonic() - began
    loop = budget - overhead - scoring - ENDING_SECONDS
    if loop <= 0:
        raise UsageError(
            f"a budget of {budget:.0f} s leaves no time to train: preparing took {overhead:.0f} s and scoring takes "
            f"about {scoring:.0f} s",
            remedy="Give a larger --budget.",
        )
    training.limit(loop, overhead, mirror)
    told = "with" if mirror else "without"
    progress.say(
        f"Budget: {loop:.0f} s to train, about {scoring:.0f} s to score {len(held_out)} cases {told} mirroring"
    )


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

    one = middle(by_size, 1)
    took(one, mirror=False)  # pays for what happens once
    plain = took(one, mirror=False)
    several = middle(by_size, max(1, int(TRIAL_SECONDS / plain)))
    if len(several) > 1:
        plain = took(several, mirror=False)
    mirrored = took(several, mirror=True)
    shutil.rmtree(trial)
    share = sum(tiles.values()) / sum(tiles[case.id] for case in several) * SCORING_MARGIN
    return plain * share, mirrored * share


def middle(ordered: Sequence[Case], count: int) -> Sequence[Case]:
    """So many cases in the middle of an order."""
    count = min(count, len(ordered))
    start = (len(ordered) - count) // 2
    return ordered[start : start + count]
