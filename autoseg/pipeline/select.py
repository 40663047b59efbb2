"""`select`: compare what is trained on cases that it had not seen, and write the best as one model file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from autoseg import devices
from autoseg.errors import ModelError
from autoseg.evaluation.calibration import FEWEST_CASES as CALIBRATION_CASES
from autoseg.evaluation.calibration import calibrate
from autoseg.evaluation.comparison import Choice, Yardstick, choose
from autoseg.evaluation.expected_dice import FEWEST_CASES, fit_expected_dice
from autoseg.inference.joining import asked_precision, networks_of
from autoseg.inference.speeds import SPEEDS
from autoseg.interrupts import StopSwitch, stop_switch
from autoseg.pipeline.bundle import Bundle, bundled, make_card, write_bundle
from autoseg.pipeline.candidates import (
    Candidate,
    Configured,
    Found,
    find_candidates,
    joint_name,
    possible_ensembles,
    single,
)
from autoseg.pipeline.choosing_model import known_plugins
from autoseg.pipeline.ensembles import Trials, chosen_cases, expected_seconds, predict_ensemble
from autoseg.pipeline.examining import examine, examined_cases
from autoseg.pipeline.measuring import measure_speeds
from autoseg.pipeline.plans import read_dataset, run_options
from autoseg.pipeline.post_processing import score_processed, try_steps
from autoseg.pipeline.receipts import joint_hash, versions
from autoseg.pipeline.reports import SelectReport
from autoseg.pipeline.selected import hashes, require_replaceable
from autoseg.plugins import load_plugins
from autoseg.progress import Progress
from autoseg.records import PredictSettings, Receipt, Selection, SpeedMode, Summary, TriedStep
from autoseg.words import counted
from autoseg.workspace import DEFAULT_PLAN, Workspace

#: Share of a budget after which no more ensembles are predicted, and after which no more cases are examined; what is
#: left is for the speeds.
ENSEMBLE_SHARE = 0.6
EXAMINING_SHARE = 0.8


@dataclass(frozen=True)
class SelectSettings:
    """What to compare, and how long it may take."""

    plans: tuple[str, ...] = ()  # () is all
    configurations: tuple[str, ...] = ()
    ensembles: bool = True
    cases_per_fold: int | None = None  # held-out cases of each fold that ensembles predict; None: all
    budget_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Clock:
    """How much of the time is spent, and which stage took what."""

    began: float
    budget: float | None
    seconds: dict[str, float] = field(default_factory=dict)

    def deadline(self, share: float = 1.0) -> float | None:
        """When a share of the budget is spent, on the clock of `time.monotonic`; None without a budget."""
        return None if self.budget is None else self.began + share * self.budget

    def lap(self, stage: str) -> None:
        """What was done since the last lap was this stage."""
        self.seconds[stage] = time.monotonic() - self.began - sum(self.seconds.values())


def select(
    work: Workspace,
    *,
    settings: SelectSettings = SelectSettings(),
    device: str = "auto",
    precision: str = "auto",
    use: Sequence[str] = (),
    workers: int | None = None,
    spent_seconds: float = 0.0,
    progress: Progress,
) -> SelectReport:
    """Choose a model by cross-validation, measure it, and write it to WORK/model.safetensors.

    Single configurations are compared on the masks that training wrote; ensembles are predicted. What was predicted
    stays in the work folder, so that the same command goes on after an interruption. Raises ModelError where nothing is
    trained and scored, UsageError where a model file is in the way that no selection wrote.
    """
    clock = Clock(time.monotonic() - spent_seconds, settings.budget_seconds)
    require_replaceable(work)
    load_plugins((*use, *known_plugins(work)))
    dataset = read_dataset(work)
    found = find_candidates(work, dataset, settings.plans, settings.configurations)
    _require_some(found, work)
    cases = {case.id: case for case in dataset.cases}
    target = devices.choose_device(device)
    headers = [fold.header for part in found.configured for fold in part.folds.values()]
    asked = asked_precision(precision, headers)
    mirror = all(fold.mirrored for part in found.configured for fold in part.folds.values())
    with stop_switch() as stop:
        trials = Trials(
            work=work,
            cases=cases,
            labels=dataset.labels,
            device=target,
            precision=devices.choose_precision(asked, target, networks_of(headers)),
            settings=PredictSettings(mirror=mirror),
            workers=workers,
            stop=stop,
            progress=progress,
        )
        return _selected(trials, found, settings, clock, stop)


def _selected(trials: Trials, found: Found, settings: SelectSettings, clock: Clock, stop: StopSwitch) -> SelectReport:
    """The story: candidates, choice, post-processing, measuring, the file."""
    work, labels, progress = trials.work, trials.labels, trials.progress
    notes = [f"{name} is left out: {why}" for name, why in found.left_out.items()]
    candidates = [single(part, trials.cases) for part in found.configured]
    ensembles, told = predicted_ensembles(trials, found.configured, settings, clock) if settings.ensembles else ([], [])
    notes += told
    candidates += ensembles
    clock.lap("ensembles")
    yardstick = Yardstick(list(labels.classes), labels.things)
    choice = choose([candidate.entrant() for candidate in candidates], yardstick)
    notes += [f"{name} is not compared: {why}" for name, why in choice.left_out.items()]
    chosen = next(candidate for candidate in candidates if candidate.name == choice.chosen.name)
    progress.say(f"Chosen: {chosen.name}")
    tried = try_steps(chosen, trials.cases, labels, trials.workers, progress)
    summary = score_processed(chosen, tried, trials.cases, labels, trials.workers, progress)
    clock.lap("post-processing")
    stop.raise_if_set()
    bundle, told = _measured(trials, chosen, summary, tried, choice, settings, clock)
    header = bundle.header.model_copy(update={"receipt": _receipt(trials, chosen, settings)})
    bundle = replace(bundle, header=header)
    record = write_bundle(work, bundle, _record(work, found, chosen, choice, tried, summary.failures, clock))
    return SelectReport(bundle.header, record, work.model, (*notes, *told))


def _measured(
    trials: Trials,
    chosen: Candidate,
    summary: Summary,
    tried: Sequence[TriedStep],
    choice: Choice,
    settings: SelectSettings,
    clock: Clock,
) -> tuple[Bundle, list[str]]:
    """The model with all that is measured of it, and in words what is not."""
    steps = [entry.step.label for entry in tried if entry.kept]
    names = examined_cases(chosen, settings.cases_per_fold)
    examined = examine(trials, chosen, steps, names, clock.deadline(EXAMINING_SHARE))
    clock.lap("examining")
    bundle = bundled(chosen)
    scores = {score.case: score for score in summary.cases}
    speeds = measure_speeds(trials, chosen, bundle, scores, steps, clock.deadline())
    clock.lap("speeds")
    samples = [case.sample for case in examined if case.sample is not None]
    measured = {
        "post_processing": tuple(entry.step for entry in tried if entry.kept),
        "calibration": calibrate(samples, list(trials.labels.foreground) if trials.labels.has_regions else None),
        "expected_dice": fit_expected_dice(summary.cases, {case.case: case.seen for case in examined}),
        "speeds": speeds,
        "card": make_card(chosen, summary, choice.compared),
    }
    return replace(bundle, header=bundle.header.model_copy(update=measured)), _not_measured(
        measured, speeds, len(samples)
    )


def _not_measured(measured: Mapping[str, object], speeds: Sequence[SpeedMode], examined: int) -> list[str]:
    """What the file will not tell, and why."""
    notes = []
    if measured["calibration"] is None:
        notes.append(
            f"probabilities are not calibrated: that takes {CALIBRATION_CASES} held-out cases or more, and {examined} "
            "were examined"
        )
    if measured["expected_dice"] is None:
        notes.append(
            f"Dice of new masks will not be foretold: that takes {FEWEST_CASES} examined cases with a mask of a label"
        )
    known = {mode.name for mode in speeds}
    missing = [name for name in SPEEDS if name not in known]
    if missing:
        notes.append(f"the speed of {', '.join(missing)} was not measured: no time was left in the budget")
    return notes


def _require_some(found: Found, work: Workspace) -> None:
    if found.configured:
        return
    told = "".join(f"; {name}: {why}" for name, why in found.left_out.items())
    raise ModelError(
        f"nothing is trained and scored here that could be selected{told}",
        where=work.root,
        remedy=f"Train a fold first: autoseg train --fold 0{run_options(work, DEFAULT_PLAN)}",
    )


def predicted_ensembles(
    trials: Trials, found: Sequence[Configured], settings: SelectSettings, clock: Clock
) -> tuple[list[Candidate], list[str]]:
    """All ensembles of two configurations with their held-out scores, as far as time allows; and what was left out."""
    waiting = [(parts, chosen_cases(parts, settings.cases_per_fold)) for parts in possible_ensembles(found)]
    deadline = clock.deadline(ENSEMBLE_SHARE)
    for line in preview(waiting, deadline):
        trials.progress.say(line)
    if waiting:
        trials.progress.say("Examining the chosen model and measuring its speeds come on top")
    made: list[Candidate] = []
    notes: list[str] = []
    for parts, names in waiting:
        name, likely = joint_name(parts), expected_seconds(parts, len(names))
        late = deadline is not None and time.monotonic() + (likely or 0.0) > deadline
        if late:
            notes.append(f"{name} was not predicted: no time was left for it in the budget")
            continue
        candidate = predict_ensemble(trials, parts, names, deadline)
        made.append(candidate)
        notes += [f"{name}, case {case}: {why}" for case, why in candidate.failures.items()]
        if len(candidate.scores) + len(candidate.failures) < len(names):
            notes.append(f"{name} was predicted on {len(candidate.scores)} of {len(names)} cases: the budget is spent")
    return made, notes


def preview(waiting: Sequence[tuple[Sequence[Configured], Sequence[str]]], deadline: float | None) -> list[str]:
    """What predicting the ensembles will cost, a line each and one in all."""
    if not waiting:
        return []
    lines, total = [], 0.0
    unknown = False
    for parts, names in waiting:
        seconds = expected_seconds(parts, len(names))
        unknown = unknown or seconds is None
        total += seconds or 0.0
        told = "unknown" if seconds is None else f"about {_minutes(seconds)}"
        lines.append(f"  {joint_name(parts)}: {len(names)} held-out cases, {told}")
    count = f"{counted(len(waiting), 'ensemble')} to predict"
    known = "at least " if unknown else ""
    left = "" if deadline is None else f"; the budget leaves {_minutes(max(0.0, deadline - time.monotonic()))} for them"
    return [f"{count}, {known}{_minutes(total)}, masks that are there already not counted off{left}", *lines]


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _receipt(trials: Trials, chosen: Candidate, settings: SelectSettings) -> Receipt:
    """What the bundle is made with, for its file: plans, which a person has named, are not told."""
    known = hashes(trials.work, trials.work.all_runs())
    members = hashes(trials.work, chosen.runs)
    return Receipt(
        stage="select",
        versions=versions(),
        device=devices.describe(trials.device),
        precision=trials.precision,
        threads=torch.get_num_threads(),
        options={
            "configurations": list(settings.configurations),
            "ensembles": settings.ensembles,
            "cases_per_fold": settings.cases_per_fold,
            "budget_seconds": settings.budget_seconds,
        },
        inputs={"trained models": joint_hash(known), "chosen models": joint_hash(members)},
    )


def _record(
    work: Workspace,
    found: Found,
    chosen: Candidate,
    choice: Choice,
    tried: Sequence[TriedStep],
    failures: Mapping[str, str],
    clock: Clock,
) -> Selection:
    """What was compared, and which trainings were known; the hash of the file is still to come."""
    return Selection(
        bundle="",
        chosen=chosen.name,
        members=hashes(work, chosen.runs),
        known=hashes(work, work.all_runs()),
        compared=choice.compared,
        left_out={**found.left_out, **choice.left_out},
        post_processing=tuple(tried),
        failures=dict(failures),
        seconds={stage: round(seconds, 3) for stage, seconds in clock.seconds.items()},
    )
