"""`diagnose`: would more cases help, a larger network, or better references? Short trainings tell, or cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.dataset.folds import fold_of, read_splits
from autoseg.errors import UsageError
from autoseg.files import write_record, write_text
from autoseg.interrupts import StopSwitch
from autoseg.pipeline.every import is_finished, measured_epoch_seconds, why_it_failed
from autoseg.pipeline.pages import diagnosis_report, left
from autoseg.pipeline.plans import read_dataset, read_plan
from autoseg.pipeline.prepare import prepare_cases
from autoseg.pipeline.receipts import prepared_hash
from autoseg.pipeline.suspects import suspicious_cases
from autoseg.pipeline.train import train
from autoseg.pipeline.trial_answers import diagnosis_of
from autoseg.pipeline.trials import Asked, Length, folder_of, laid_out, lay_out, most_trials, patients_of, trials_of
from autoseg.progress import Progress, duration
from autoseg.records import Configuration, Diagnosis, Plan, Trial
from autoseg.report.diagnosis_csv import as_csv
from autoseg.workspace import DEFAULT_PLAN, Run, Workspace

#: Seeds of each kind of training, and cases by which the question for more is asked.
SEEDS, MORE = 3, 20

#: A training is so much of a whole one, within these seconds; the last where no step was tried.
SHORT, LEAST_SECONDS, MOST_SECONDS, UNKNOWN_SECONDS = 0.1, 300.0, 3600.0, 600.0

#: Seconds that a training needs to be one at all.
FEWEST_SECONDS = 10.0


@dataclass(frozen=True)
class DiagnoseReport:
    """What was found, and where its files are; None where only the cost was asked for."""

    diagnosis: Diagnosis | None
    page: Path
    table: Path
    ended_early: str = ""  # the training that a person ended, and the diagnosis with it


def diagnose(
    work: Workspace,
    *,
    plan: str = DEFAULT_PLAN,
    configuration: str | None = None,
    fold: str = "0",
    budget_seconds: float | None = None,
    epochs: int | None = None,
    seeds: int = SEEDS,
    more: int = MORE,
    device: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
    cost_only: bool = False,
    progress: Progress,
) -> DiagnoseReport:
    """Train parts of the cases, a smaller and a larger network, and without suspicious cases; tell what would help.

    All trainings are equally long and are scored with the held-out cases of one fold. The cost is told first. What is
    finished is left alone, so that the same command goes on. `budget_seconds` is shared by all trainings; preparing
    comes on top. Raises UsageError where it cannot be diagnosed: too few cases, second stages of cascades, plans that
    begin with a model, or too short a time.
    """
    asked = _asked(work, plan, configuration, fold, _length(budget_seconds, epochs, seeds), seeds, more)
    options = {**asked.length.options, "device": device, "precision": precision, "workers": workers}
    waiting = _waiting(asked, options)
    for line in cost_lines(asked, waiting):
        progress.say(line)
    page, table = asked.folder.root / "diagnosis.html", asked.folder.root / "diagnosis.csv"
    if cost_only:
        return DiagnoseReport(None, page, table)
    not_prepared = _made_ready(asked, workers, progress)
    failures, ended_early = _train_all(asked, waiting, options, progress)
    unfinished = [run for _, run in _waiting(asked, options)]
    finished = [(trial, run) for trial, run in asked.trials if run not in unfinished]
    found = diagnosis_of(asked, finished, not_prepared, failures)
    write_record(asked.folder.root / "diagnosis.json", found)
    write_text(table, as_csv(found))
    left(lambda: diagnosis_report(work, asked.folder.root), progress)
    return DiagnoseReport(found, page, table, ended_early)


def _length(budget_seconds: float | None, epochs: int | None, seeds: int) -> Length | None:
    """How long each training is, as asked for; None where the plan is to say it.

    A budget is shared by all that there may be, whether there are suspicious cases or not: what was trained before an
    audit stays as long as what comes after it.
    """
    if budget_seconds is not None and epochs is not None:
        raise UsageError("--epochs and --budget exclude each other", remedy="Give one of them.")
    if epochs is not None:
        return Length(epochs=epochs)
    if budget_seconds is None:
        return None
    count = most_trials(seeds)
    each = float(int(budget_seconds / count))
    if each < FEWEST_SECONDS:
        raise UsageError(
            f"a budget of {duration(budget_seconds)} leaves {each:.0f} s for each of {count} trainings",
            remedy=f"Give {duration(FEWEST_SECONDS * count)} at the very least; minutes for each tell more.",
        )
    return Length(seconds=each)


def _asked(
    work: Workspace, plan: str, configuration: str | None, fold: str, length: Length | None, seeds: int, more: int
) -> Asked:
    chosen = read_plan(work, plan)
    entry = chosen.configuration(configuration)
    _require_possible(chosen, entry, fold)
    dataset = read_dataset(work)
    ids = [case.id for case in dataset.cases]
    split = fold_of(read_splits(work.splits), fold, ids)
    long = length or Length(seconds=_default_seconds(work, chosen, entry))
    set_aside, note = suspicious_cases(work, split)
    trials = trials_of(split, patients_of(dataset.root, ids), seeds, set_aside)
    folder = folder_of(work, chosen.name, entry.name, fold, long.word)
    layout = laid_out(folder, chosen, entry, trials)
    placed = tuple((trial, folder.run(trial.plan, entry.name, layout.trials.index(trial))) for trial in trials)
    notes = (note,) if note else ()
    return Asked(work, folder, dataset, chosen, entry, fold, split, long, more, layout, placed, set_aside, notes)


def _require_possible(plan: Plan, entry: Configuration, fold: str) -> None:
    if fold == "all":
        raise UsageError("fold all holds no cases out to score with", remedy="Name a fold: --fold 0.")
    if entry.previous_stage is not None:
        raise UsageError(
            f"{entry.name} is the second stage of a cascade, which takes what the first finds in all cases",
            remedy=f"Diagnose its first stage: --configuration {entry.previous_stage}",
        )
    if plan.training.initial is not None:
        raise UsageError(
            f"plan {plan.name!r} begins with the weights of a model, which a smaller or larger network cannot take",
            remedy="Name a plan that begins with none: --plan NAME",
        )


def _default_seconds(work: Workspace, plan: Plan, entry: Configuration) -> float:
    """A tenth of a whole training, some minutes at least and an hour at most."""
    epoch = measured_epoch_seconds(work, plan, entry)
    if epoch is None:
        return UNKNOWN_SECONDS
    return float(round(min(MOST_SECONDS, max(LEAST_SECONDS, SHORT * epoch * entry.epochs))))


# ------------------------------------------------------------------------------------------------------- the cost


def _waiting(asked: Asked, options: Mapping[str, Any]) -> list[tuple[Trial, Run]]:
    """The trainings that are not finished."""
    plans, folds = asked.layout.plans, asked.layout.splits
    return [
        (trial, run)
        for trial, run in asked.trials
        if not is_finished(run, plans[trial.plan], folds, {**options, "seed": trial.seed})
    ]


def cost_lines(asked: Asked, waiting: Sequence[tuple[Trial, Run]]) -> Iterator[str]:
    """What is to be trained and how long it will take."""
    count, left = len(asked.trials), len(waiting)
    held_out, training = len(asked.split.val), len(asked.split.train)
    yield (
        f"{count} short trainings of {asked.entry.name}, fold {asked.fold}: {training} training cases, {held_out} held "
        f"out to score all of them with"
    )
    kinds = Counter(trial.part for trial, _ in asked.trials)
    sizes = {trial.part: len(trial.split.train) for trial, _ in asked.trials}
    for part, times in kinds.items():
        yield f"  {part} ({sizes[part]}): {times} x {asked.length.told}"
    done = f", {count - left} finished" if left < count else ""
    yield f"{left} to be trained{done}: {_together(asked, left)}" if left else "All of them are finished"


def _together(asked: Asked, count: int) -> str:
    if asked.length.seconds is not None:
        total = duration(asked.length.seconds * count)
        return f"about {total} together, scoring included; preparing comes on top. --budget bounds it"
    epoch = measured_epoch_seconds(asked.work, asked.plan, asked.entry)
    if epoch is None:
        return "how long they take is unknown (a step is tried by `autoseg plan`)"
    seconds = duration(epoch * (asked.length.epochs or 0) * count)
    return f"about {seconds} together; larger networks take longer, scoring and preparing come on top"


# -------------------------------------------------------------------------------------------------- the trainings


def _made_ready(asked: Asked, workers: int | None, progress: Progress) -> set[str]:
    """Prepare what is missing, and lay the folder out; the cases that could not be prepared."""
    used = {*asked.split.train, *asked.split.val}
    cases = [case for case in asked.dataset.cases if case.id in used]
    failures = prepare_cases(asked.work, [asked.entry], cases, workers, progress).failures
    prepared = asked.work.prepared_folder(asked.entry.preparation)
    data = prepared_hash(prepared, [case.id for case in cases if case.id not in failures])
    lay_out(asked.folder, asked.layout, data, asked.work.probe(asked.plan.name))
    return set(failures)


def _train_all(
    asked: Asked, waiting: Sequence[tuple[Trial, Run]], options: Mapping[str, Any], progress: Progress
) -> tuple[dict[str, str], str]:
    """Train what waits: what failed, and which training a person ended, with it the others."""
    failures: dict[str, str] = {}
    asked_to_end = StopSwitch((asked.folder.stop,))  # also while a training is scored
    for number, (trial, run) in enumerate(waiting, start=1):
        name = f"{trial.part}, seed {trial.seed}"
        progress.say(f"Training {number} of {len(waiting)}: {name}")
        try:
            report = train(
                asked.folder,
                plan=trial.plan,
                configuration=asked.entry.name,
                fold=run.fold,
                seed=trial.seed,
                progress=progress,
                **options,
            )
        except UsageError as error:  # the same would befall the others
            raise UsageError(f"{name}: {error.what}", where=error.where, remedy=error.remedy) from error
        except Exception as error:
            progress.warn(f"{name} failed: {error}")
            failures[name] = why_it_failed(error)
            continue
        if report.ended_early and not report.by_patience:
            return failures, f"{name} {report.ended_early}"
        if number < len(waiting) and asked_to_end.ending():
            return failures, f"{name} was the last: {asked_to_end.ending()} was made"
    return failures, ""
