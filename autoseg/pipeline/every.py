"""`train --fold every`: each fold of each configuration, first stages of cascades before the second.

What is finished is left alone, so that the same command goes on after any interruption; a run that fails does not stop
the others.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.dataset.folds import read_splits
from autoseg.errors import AutosegError, RecordError, UsageError
from autoseg.evaluation.summary import read_summary
from autoseg.files import read_record
from autoseg.interrupts import StopSwitch
from autoseg.pipeline.cascade import is_handed_on, next_configuration
from autoseg.pipeline.plans import read_plan
from autoseg.pipeline.reports import EveryReport, RunScore
from autoseg.pipeline.runs import has_lost_its_state
from autoseg.pipeline.train import train
from autoseg.planning.costs import epoch_seconds
from autoseg.plugins import load_plugins
from autoseg.progress import Progress
from autoseg.records import Configuration, Fold, Plan, Probe, TrainSettings
from autoseg.training.checkpoint import RunState, read_state
from autoseg.training.ranks import ALONE
from autoseg.workspace import DEFAULT_PLAN, Run, Workspace

#: Settings of the command that a finished run need not be compared by: they change no weight.
_ELSEWHERE = frozenset(
    (
        "device",
        "precision",
        "log",
        "workers",
        "use",
        "init",
        "spent_seconds",
        "ranks",
        "acceleration",
        "samples_at_a_time",
    )
)


def train_every(
    work: Workspace,
    *,
    plan: str = DEFAULT_PLAN,
    configurations: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    progress: Progress,
) -> EveryReport:
    """Train each fold of the named configurations, or of all that the plan has, and tell the cost first.

    `options` are what `train` takes beside plan, configuration and fold; a budget is that of each run. A second stage
    brings its first with it. When a person ends a run early, or makes a file STOP in the work folder, the series ends.
    """
    chosen_options = dict(options or {})
    if chosen_options.get("init") is not None:
        raise UsageError(
            "--init goes with one fold", remedy="Give --fold 0, then the others: each begins with the same model."
        )
    load_plugins(chosen_options.get("use") or ())
    chosen = read_plan(work, plan)
    folds = read_splits(work.splits)
    series = [
        work.run(plan, entry.name, fold) for entry in in_order(chosen, configurations) for fold in range(len(folds))
    ]
    waiting = [run for run in series if not is_finished(run, chosen, folds, chosen_options)]
    for line in cost_lines(work, chosen, series, waiting, chosen_options):
        progress.say(line)
    failures: dict[str, str] = {}
    ended_early = ""
    asked = StopSwitch((work.stop,))  # a run heeds the file while it trains, the series also while it is scored
    for number, run in enumerate(waiting, start=1):
        progress.say(f"Run {number} of {len(waiting)}: {_name(run)}")
        failed, ended_early = _trained(work, run, chosen_options, progress)
        failures |= failed
        if not ended_early and number < len(waiting) and asked.ending():
            ended_early = f"{asked.ending()} was made before {_name(waiting[number])}"
        if ended_early:
            break
        chosen_options["spent_seconds"] = 0.0  # only the first run paid for the start of the program
    return EveryReport(tuple(_score(run) for run in series), failures, ended_early)


def _trained(work: Workspace, run: Run, options: Mapping[str, Any], progress: Progress) -> tuple[dict[str, str], str]:
    """Train one run of the series: what failed, and whether a person ended it, in words."""
    name = _name(run)
    try:
        report = train(
            work, plan=run.plan, configuration=run.configuration, fold=run.fold, progress=progress, **options
        )
    except Exception as error:
        if options.get("ranks", ALONE).several:
            raise  # the other processes are in the middle of that training
        progress.warn(f"{name} failed: {error}")
        return {name: why_it_failed(error)}, ""
    by_person = bool(report.ended_early) and not report.by_patience
    failures = {f"{name}, case {case}": why for case, why in report.failures.items()}
    return failures, f"{name} {report.ended_early}" if by_person else ""


def in_order(plan: Plan, names: Sequence[str]) -> list[Configuration]:
    """The named configurations, or all, in the plan's order, but each after the stage before it."""
    wanted = set(names) or set(plan.configurations)
    for name in sorted(wanted):
        before = plan.configuration(name).previous_stage
        if before is not None:
            wanted.add(before)
    entries = [entry for entry in plan.configurations.values() if entry.name in wanted]
    return sorted(entries, key=lambda entry: entry.previous_stage is not None)


def is_finished(run: Run, plan: Plan, folds: Sequence[Fold], options: Mapping[str, Any]) -> bool:
    """Whether a run has come to its end, is scored and handed on, and was not asked to be longer or other."""
    if not (run.model.exists() and run.summary.exists()):
        return False
    try:
        if not has_lost_its_state(run) and not read_state(run.state_tensors).finished_by:
            return False
        settings = read_record(run.settings, TrainSettings)
    except AutosegError:
        return False  # the training will tell what is wrong
    if any(value is not None and name not in _ELSEWHERE for name, value in _asked(options, settings).items()):
        return False
    entry = plan.configuration(run.configuration)
    return next_configuration(plan, entry) is None or is_handed_on(run, folds)


def _asked(options: Mapping[str, Any], settings: TrainSettings) -> dict[str, Any]:
    """The options that ask for something else than what a run has."""
    overrides = options.get("overrides") or {}
    given = {name: value for name, value in options.items() if name not in ("overrides", *_ELSEWHERE)} | dict(overrides)
    return {name: value for name, value in given.items() if str(value) != str(getattr(settings, name, None))}


# ------------------------------------------------------------------------------------------------------- the cost


@dataclass(frozen=True)
class RunCost:
    """What one run takes from its beginning to its end."""

    seconds: float | None  # None where nothing was measured
    words: str  # how they come about
    epoch_seconds: float | None = None  # of an epoch, where their number is asked for
    all_included: bool = False  # preparing and scoring too, as in a budget


def cost_lines(
    work: Workspace, plan: Plan, series: Sequence[Run], waiting: Sequence[Run], options: Mapping[str, Any]
) -> list[str]:
    """What is to be trained and how long it will take, a line per configuration and one in all."""
    done = len(series) - len(waiting)
    lines = [f"{len(waiting)} of {len(series)} runs are to be trained" + (f", {done} are finished" if done else "")]
    total: float | None = 0.0
    on_top = ""
    for entry in dict.fromkeys(run.configuration for run in waiting):
        runs = [run for run in waiting if run.configuration == entry]
        cost = _run_cost(work, plan, plan.configuration(entry), options)
        on_top = on_top if cost.all_included else "; preparing and scoring come on top"
        told = f"  {entry}: {len(runs)} x {cost.words}"
        if cost.seconds is None:
            total = None
        else:
            made = sum(min(cost.seconds, _made_seconds(run, cost)) for run in runs)
            left = len(runs) * cost.seconds - made
            total = None if total is None else total + left
            told += f" = {_hours(len(runs) * cost.seconds)}"
            told += f", {_hours(made)} of which are done" if made else ""
        lines.append(told)
    if waiting:
        told = "unknown (a step is tried by `autoseg plan`)" if total is None else f"about {_hours(total)}"
        lines.append(f"Together {told}{on_top}")
    return lines


def _made_seconds(run: Run, cost: RunCost) -> float:
    """How much of what a run takes is behind it."""
    try:
        state = read_state(run.state_tensors) if run.state_tensors.exists() else RunState()
    except AutosegError:
        return 0.0  # the training will tell what is wrong
    if cost.all_included:
        return state.seconds + state.overhead_seconds
    return state.epoch * (cost.epoch_seconds or 0.0)


def _run_cost(work: Workspace, plan: Plan, entry: Configuration, options: Mapping[str, Any]) -> RunCost:
    asked = options.get("epochs")
    budget = options.get("budget_seconds") or (plan.training.budget_seconds if asked is None else None)
    if budget is not None:
        return RunCost(float(budget), f"a budget of {_hours(float(budget))}", all_included=True)
    epochs = int(asked or (options.get("overrides") or {}).get("epochs") or entry.epochs)
    words = f"{epochs} epochs of {entry.steps_per_epoch} steps"
    per_epoch = measured_epoch_seconds(work, plan, entry)
    if per_epoch is None:
        return RunCost(None, f"{words}, of unknown length")
    words += f", {per_epoch / entry.steps_per_epoch:.2g} s per step"
    if options.get("ranks", ALONE).several:
        words += " of one process"  # how many that work together share it is not known before
    return RunCost(per_epoch * epochs, words, per_epoch)


def measured_epoch_seconds(work: Workspace, plan: Plan, entry: Configuration) -> float | None:
    """Seconds of an epoch as tried when the plan was made."""
    try:
        steps = read_record(work.probe(plan.name), Probe).steps
    except RecordError:  # it was not tried, or elsewhere: only the preview depends on it
        return None
    found = next((step for step in steps if step.configuration == entry.name), None)
    return None if found is None else epoch_seconds(entry, found)


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# ------------------------------------------------------------------------------------------------------- the end


def _name(run: Run) -> str:
    return f"{run.configuration}, fold {run.fold}"


def why_it_failed(error: Exception) -> str:
    """Why a training failed; with where in our code, unless it is an error of ours for users."""
    if isinstance(error, (AutosegError, MemoryError)):
        return str(error) or "memory ran out"
    return f"unexpected {type(error).__name__}: {error}\n{''.join(traceback.format_exception(error))}"


def _score(run: Run) -> RunScore:
    dice = read_summary(run.summary).mean_dice if run.summary.exists() else None
    model: Path | None = run.model if run.model.exists() else None
    return RunScore(run.configuration, run.fold, dice, model)
