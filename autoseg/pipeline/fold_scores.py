"""The scores of a trained network on the held-out cases of its fold."""

from __future__ import annotations

import time
from collections.abc import Sequence

from autoseg.evaluation.summary import read_summary
from autoseg.files import write_record
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import LoadedModel, load_models
from autoseg.interrupts import StopSwitch
from autoseg.pipeline.evaluate import TOLERANCE_MM, ScoreTask, score_cases, write_summary
from autoseg.progress import Progress
from autoseg.records import Case, CaseCost, CaseCosts, PredictSettings, Summary
from autoseg.training.loop import Training
from autoseg.workspace import Run


def scored(
    training: Training,
    run: Run,
    held_out: Sequence[Case],
    seconds: dict[str, float],
    stop: StopSwitch,
    workers: int | None,
    progress: Progress,
) -> tuple[Summary | None, dict[str, str]]:
    """The scores of the held-out cases, made if they are not there yet; nothing where nothing is held out."""
    if not held_out:
        return None, {}
    if run.summary.exists():  # it is written last
        progress.say(f"{run.configuration}, fold {run.fold} is trained and scored")
        return read_summary(run.summary), {}
    began = time.monotonic()
    model = load_models([run.model], training.setup.device, training.setup.precision)
    mirror = training.state.score_with_mirroring
    summary, failures = validate(model, run, held_out, mirror, stop, workers, progress)
    seconds["score"] = time.monotonic() - began
    return summary, failures


def validate(
    model: LoadedModel,
    run: Run,
    held_out: Sequence[Case],
    mirror: bool,
    stop: StopSwitch,
    workers: int | None,
    progress: Progress,
) -> tuple[Summary, dict[str, str]]:
    """Predict the held-out cases from their files and score the masks; the summary is written into the run."""
    failures: dict[str, str] = {}
    tasks: list[ScoreTask] = []
    costs: dict[str, CaseCost] = {}
    with progress.stage("Predicting held-out cases", len(held_out)) as advance:
        for outcome in predict_cases(model, held_out, run.validation, settings=PredictSettings(mirror=mirror)):
            if outcome.error is not None:
                failures[outcome.case.id] = str(outcome.error)
            elif outcome.mask is not None and outcome.case.labelled:
                tasks.append(ScoreTask(outcome.mask, outcome.case, model.labels, TOLERANCE_MM))
                costs[outcome.case.id] = outcome.cost
            advance(1)
            stop.raise_if_set()
    write_record(run.costs, CaseCosts(cases=costs))
    summary = score_cases(tasks, failures, TOLERANCE_MM, workers, progress, stop)
    write_summary(run.summary, summary, model.labels)
    return summary, failures
