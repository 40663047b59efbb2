"""Ensembles of configurations, scored on cases that none of their networks had seen.

Each held-out case is predicted by the networks of the fold that held it out, and their probabilities are averaged
plane by plane: no file of probabilities is written. Masks stay in `WORK/ensembles`, so that a selection that was
interrupted goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from autoseg.dataset.mask_writers import mask_path
from autoseg.devices import Precision
from autoseg.evaluation.summary import read_summary
from autoseg.files import file_hash, text_hash
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import load_models
from autoseg.inference.writing import CaseOutcome
from autoseg.interrupts import StopSwitch
from autoseg.pipeline.candidates import Candidate, Configured, joint_name, shared_cases
from autoseg.pipeline.evaluate import TOLERANCE_MM, ScoreTask, score_cases, write_summary
from autoseg.pipeline.mask_account import made_before, settle
from autoseg.pipeline.mask_folder import masks_to_make, note_mask
from autoseg.progress import Progress
from autoseg.records import Case, Labels, PredictSettings
from autoseg.workspace import Workspace

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Trials:
    """What every ensemble is predicted and scored with."""

    work: Workspace
    cases: Mapping[str, Case]
    labels: Labels
    device: torch.device
    precision: Precision
    settings: PredictSettings
    workers: int | None
    stop: StopSwitch
    progress: Progress


def chosen_cases(parts: Sequence[Configured], per_fold: int | None) -> list[str]:
    """The cases to predict with an ensemble: all that none of its networks saw, or so many of each fold, spread."""
    by_fold: dict[str, list[str]] = {}
    for case in shared_cases(parts):
        by_fold.setdefault(parts[0].fold_of[case], []).append(case)
    chosen = [spread(cases, per_fold) for _, cases in sorted(by_fold.items())]
    return [case for cases in chosen for case in cases]


def spread(cases: Sequence[Item], count: int | None) -> list[Item]:
    """So many of the cases, evenly spread over their order; all where there are no more."""
    if count is None or count >= len(cases):
        return list(cases)
    return [cases[(2 * place + 1) * len(cases) // (2 * count)] for place in range(count)]


def expected_seconds(parts: Sequence[Configured], cases: int) -> float | None:
    """What predicting and scoring takes, from what each configuration took for its own; None where that is unknown."""
    each = [part.mean_seconds for part in parts]
    return None if None in each else cases * sum(seconds for seconds in each if seconds is not None)


def predict_ensemble(
    trials: Trials, parts: Sequence[Configured], names: Sequence[str], deadline: float | None
) -> Candidate:
    """The ensemble with masks and scores of the named cases, or of those that are done when time is up.

    `deadline` is on the clock of `time.monotonic`. A case that fails is told in `failures`.
    """
    name = joint_name(parts)
    folder = trials.work.ensemble(name.replace(" ", ""))
    settle(folder)
    masks: dict[str, Path] = {}
    failures: dict[str, str] = {}
    made_new = False
    with trials.progress.stage(f"Predicting with {name}", len(names)) as advance:
        for models, cases in by_models(parts, [trials.cases[name] for name in names]):
            if deadline is not None and time.monotonic() > deadline:
                break
            todo, present, wanted = _to_do(trials, models, cases, folder)
            masks |= {case.id: mask_path(case, folder) for case in present}
            advance(len(present))
            account = partial(note_mask, folder, made_before(folder), wanted)
            for case, mask, why in _predicted(trials, models, todo, folder, account):
                if mask is None:
                    failures[case.id] = why
                else:
                    masks[case.id], made_new = mask, True
                advance(1)
                trials.stop.raise_if_set()
                if deadline is not None and time.monotonic() > deadline:
                    break
    settle(folder)
    summary = folder / "summary.json"
    done = set(masks)
    if not made_new and summary.exists() and {score.case for score in read_summary(summary).cases} == done:
        scored = read_summary(summary)
    else:
        tasks = [ScoreTask(masks[case], trials.cases[case], trials.labels, TOLERANCE_MM) for case in sorted(masks)]
        scored = score_cases(tasks, failures, TOLERANCE_MM, trials.workers, trials.progress)
        write_summary(summary, scored, trials.labels)
    return Candidate(tuple(parts), {score.case: score for score in scored.cases}, masks, scored.failures)


def by_models(parts: Sequence[Configured], cases: Sequence[Case]) -> Iterator[tuple[list[Path], list[Case]]]:
    """The cases by the model files whose networks had not seen them."""
    groups: dict[tuple[str, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(tuple(part.fold_of[case.id] for part in parts), []).append(case)
    for folds, members in groups.items():
        yield [part.folds[fold].run.model for part, fold in zip(parts, folds, strict=True)], members


def _to_do(
    trials: Trials, models: Sequence[Path], cases: Sequence[Case], folder: Path
) -> tuple[list[Case], list[Case], dict[str, str]]:
    """The cases that have no mask of these models yet, those that have one, and how masks are accounted for."""
    wanted = {
        "model": text_hash("".join(file_hash(model) for model in models), 16),
        "options": f"{trials.settings.model_dump_json()} precision={trials.precision}",
    }
    counted = bool(trials.labels.things)
    todo, present = masks_to_make(cases, folder, made_before(folder), wanted, overwrite=False, counted=counted)
    known = set(present)
    return todo, [case for case in cases if case.id in known], wanted


def _predicted(
    trials: Trials,
    models: Sequence[Path],
    cases: Sequence[Case],
    folder: Path,
    account: Callable[[CaseOutcome, Path], None],
) -> Iterator[tuple[Case, Path | None, str]]:
    if not cases:
        return
    model = load_models(models, trials.device, trials.precision)
    for outcome in predict_cases(model, cases, folder, settings=trials.settings, before_naming=account):
        yield outcome.case, outcome.mask, "" if outcome.error is None else str(outcome.error)
