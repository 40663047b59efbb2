"""What each speed of the chosen model costs and brings: Dice on held-out cases, and seconds of the file itself.

Dice is that of the networks that had not seen a case, one per configuration. Seconds are those of the model that will
be used, with all its networks, on a few of the same cases.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg import devices
from autoseg.dataset.readers import read_geometry
from autoseg.evaluation.summary import summarize
from autoseg.inference.forecast import prepared_voxels
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import LoadedModel, build_model, load_models
from autoseg.inference.speeds import averaged_members, stated_modes
from autoseg.pipeline.bundle import Bundle
from autoseg.pipeline.candidates import Candidate, Configured
from autoseg.pipeline.ensembles import Trials, by_models, spread
from autoseg.pipeline.evaluate import TOLERANCE_MM, ScoreTask, score_cases
from autoseg.progress import SilentProgress
from autoseg.records import Case, CaseScore, ModelHeader, PredictSettings, SpeedMode

#: Held-out cases on which the Dice of a mode is measured, and those that are timed with the whole model.
DICE_CASES = 20
TIMED_CASES = 3


def measure_speeds(
    trials: Trials,
    chosen: Candidate,
    bundle: Bundle,
    known: Mapping[str, CaseScore],
    steps: Sequence[str | None],
    deadline: float | None,
) -> tuple[SpeedMode, ...]:
    """The modes, quickest first, with what was measured of each; those for which no time was left are missing.

    `known` are scores of the chosen model's held-out masks after post-processing: they are those of a mode that does
    what selection does anyway. `steps` are the labels whose largest component is kept.
    """
    names = spread(sorted(known), DICE_CASES)
    cases = [trials.cases[name] for name in names]
    timed = spread(_by_size(cases), TIMED_CASES)
    model = build_model(bundle.header, bundle.tensors, trials.device, trials.precision)
    modes = stated_modes([bundle.header])
    measured = []
    with trials.progress.stage("Measuring speeds", len(modes)) as advance, tempfile.TemporaryDirectory() as folder:
        if deadline is None or time.monotonic() < deadline:
            _predicted(model, timed[:1], Path(folder) / "warm-up", modes[0].settings)
        for mode in modes:
            if deadline is not None and time.monotonic() > deadline:
                break
            seconds = _timed(model, timed, Path(folder) / "timed", mode, trials)
            if _plain(mode.settings) == _plain(trials.settings) and not mode.settings.members:
                scores = [known[name] for name in names]
            else:
                scores = _scored(trials, chosen, bundle.header, cases, mode, steps, Path(folder) / mode.name)
            measured.append(_with_figures(mode, seconds, scores, trials))
            advance(1)
            trials.stop.raise_if_set()
    return tuple(measured)


def _plain(settings: PredictSettings) -> tuple[float, bool, bool]:
    return settings.step, settings.mirror, settings.roi


def _by_size(cases: Sequence[Case]) -> list[Case]:
    """From the smallest image to the largest."""

    def voxels(case: Case) -> int:
        z, y, x = read_geometry(case.images[0])[0].shape
        return z * y * x

    return sorted(cases, key=voxels)


def _predicted(
    model: LoadedModel, cases: Sequence[Case], folder: Path, settings: PredictSettings
) -> dict[str, tuple[Path, dict[str, float]]]:
    """Masks and seconds of the cases that did not fail."""
    outcomes = predict_cases(model, cases, folder, settings=settings)
    return {outcome.case.id: (outcome.mask, outcome.seconds) for outcome in outcomes if outcome.mask is not None}


def _timed(
    model: LoadedModel, cases: Sequence[Case], folder: Path, mode: SpeedMode, trials: Trials
) -> tuple[float, float] | None:
    """Seconds per case, and the network's per million prepared voxels; None where all cases failed."""
    found = _predicted(model, cases, folder, mode.settings)
    if not found:
        return None
    first = narrowed(model, mode.settings).preparing[0]
    voxels = sum(prepared_voxels(read_geometry(trials.cases[name].images[0])[0], first) for name in found)
    whole = sum(sum(seconds.values()) for _, seconds in found.values()) / len(found)
    network = sum(seconds["network"] for _, seconds in found.values())
    return whole, network / voxels * 1e6


def _scored(
    trials: Trials,
    chosen: Candidate,
    header: ModelHeader,
    cases: Sequence[Case],
    mode: SpeedMode,
    steps: Sequence[str | None],
    folder: Path,
) -> list[CaseScore]:
    """Scores of the mode, each case by the networks that had not seen it."""
    parts = _parts_of(chosen, header, mode)
    settings = mode.settings.model_copy(update={"members": ()})
    tasks = []
    for models, members in by_models(parts, cases):
        model = load_models(models, trials.device, trials.precision)
        for name, (mask, _) in _predicted(model, members, folder, settings).items():
            task = ScoreTask(mask, trials.cases[name], trials.labels, TOLERANCE_MM, post_processing=tuple(steps))
            tasks.append(task)
        trials.stop.raise_if_set()
    return list(score_cases(tasks, {}, TOLERANCE_MM, trials.workers, SilentProgress()).cases)


def _parts_of(chosen: Candidate, header: ModelHeader, mode: SpeedMode) -> tuple[Configured, ...]:
    """The configurations that a mode uses: its networks stand for the same ones of other folds."""
    if not mode.settings.members:
        return chosen.parts
    owners = [part for part in chosen.parts for _ in part.folds]
    owner = dict(zip(averaged_members(header), owners, strict=True))
    used = [owner[name] for name in mode.settings.members]
    return tuple(part for part in chosen.parts if part in used)


def _with_figures(
    mode: SpeedMode, seconds: tuple[float, float] | None, scores: Sequence[CaseScore], trials: Trials
) -> SpeedMode:
    summary = summarize(scores, TOLERANCE_MM, names=list(trials.labels.classes))
    figures = {
        "device": devices.describe(trials.device),
        "precision": mode.precision,
        "cases": len(scores),
        "seconds_per_case": None if seconds is None else seconds[0],
        "seconds_per_million_voxels": None if seconds is None else seconds[1],
        "mean_dice": summary.mean_dice,
    }
    return mode.model_copy(update=figures)
