"""The trainings of a diagnosis: which cases and which network each has, in a work folder of their own."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.dataset.folds import write_splits
from autoseg.dataset.groups import patient_groups
from autoseg.errors import RecordError, UsageError, WorkspaceError
from autoseg.files import read_record, write_record
from autoseg.pipeline.plans import signed
from autoseg.planning.scaling import WIDTHS, scaled
from autoseg.progress import duration
from autoseg.records import Configuration, Dataset, DiagnosisDesign, Fold, Plan, Probe, Trial
from autoseg.records.diagnosis import Kind
from autoseg.workspace import DEFAULT_PLAN, Run, Workspace

#: Shares of the training cases, each within the next.
FRACTIONS = (0.25, 0.5, 1.0)

#: Training cases at least: a quarter of them is two.
FEWEST = 8

#: The trainings with all cases.
ALL_CASES = "all cases"

#: Trainings without the cases whose references an audit found suspicious.
CLEANED = "without suspicious cases"


@dataclass(frozen=True)
class Length:
    """How long each training is: by the clock, or in epochs."""

    seconds: float | None = None
    epochs: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """As `train` takes it."""
        return {"epochs": self.epochs} if self.seconds is None else {"budget_seconds": self.seconds}

    @property
    def word(self) -> str:
        """A part of a folder's name."""
        return f"{self.epochs}-epochs" if self.seconds is None else f"{self.seconds:.0f}s"

    @property
    def told(self) -> str:
        """For people."""
        if self.seconds is not None:
            return duration(self.seconds)
        return "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"


@dataclass(frozen=True, eq=False)
class Asked:
    """A diagnosis as it was asked for, and its trainings."""

    work: Workspace
    folder: Workspace  # of the trainings
    dataset: Dataset
    plan: Plan
    entry: Configuration
    fold: str
    split: Fold
    length: Length
    more: int  # cases by which the question for more is asked
    layout: Layout
    trials: tuple[tuple[Trial, Run], ...]
    set_aside: tuple[str, ...]
    notes: tuple[str, ...]


def part_of(fraction: float) -> str:
    """What the trainings with a share of the cases are called."""
    return ALL_CASES if fraction == 1.0 else f"{100 * fraction:.0f} % of the cases"


def network_part(size: str) -> str:
    """What the trainings of a smaller or larger network are called."""
    return f"{size} network"


# ---------------------------------------------------------------------------------------------------- which cases


def shuffled(cases: Sequence[str], patient_of: Mapping[str, str], seed: int) -> list[str]:
    """The cases in an order of the seed, those of one patient one after the other: new cases are of new patients."""
    groups: dict[str, list[str]] = {}
    for case in sorted(cases):
        groups.setdefault(patient_of.get(case, case), []).append(case)
    patients = sorted(groups)
    random.Random(seed).shuffle(patients)
    return [case for patient in patients for case in groups[patient]]


def nested(order: Sequence[str]) -> dict[float, tuple[str, ...]]:
    """The first cases of an order, as many as each of FRACTIONS says, sorted; each set holds the one before it."""
    return {fraction: tuple(sorted(order[: round(fraction * len(order))])) for fraction in FRACTIONS}


def trials_of(split: Fold, patient_of: Mapping[str, str], seeds: int, set_aside: Sequence[str]) -> list[Trial]:
    """All trainings, seed by seed, so that a diagnosis that is cut short has whole ones.

    Raises UsageError for too few training cases.
    """
    if len(split.train) < FEWEST:
        raise UsageError(
            f"{len(split.train)} training cases are too few to take parts of", remedy=f"It takes {FEWEST} or more."
        )
    left_over = tuple(case for case in split.train if case not in set(set_aside))
    made = []
    for seed in range(seeds):
        parts = nested(shuffled(split.train, patient_of, seed))
        tried: list[tuple[Kind, str, str, tuple[str, ...]]]
        tried = [("cases", part_of(fraction), DEFAULT_PLAN, parts[fraction]) for fraction in reversed(FRACTIONS)]
        tried += [("network", network_part(size), size, split.train) for size in WIDTHS]
        tried += [("set aside", CLEANED, DEFAULT_PLAN, left_over)] if set_aside else []
        made += [
            Trial(kind=kind, part=part, plan=plan, seed=seed, split=Fold(train=train, val=split.val))
            for kind, part, plan, train in tried
        ]
    return made


def most_trials(seeds: int) -> int:
    """How many trainings there are with suspicious cases, whether any are known yet or not."""
    return seeds * (len(FRACTIONS) + len(WIDTHS) + 1)


def patients_of(root: Path, cases: Sequence[str]) -> Mapping[str, str]:
    """The patient of each case, where several are of one."""
    groups = patient_groups(root, cases)
    return {} if groups is None else groups.patient_of


# -------------------------------------------------------------------------------------------------- their folder


def folder_of(work: Workspace, plan: str, configuration: str, fold: str, length: str) -> Workspace:
    """The work folder of a diagnosis, within that of the dataset, whose prepared cases it shares."""
    return work.diagnosis(f"{plan}-{configuration}-fold_{fold}-{length}")


@dataclass(frozen=True, eq=False)
class Layout:
    """What a diagnosis's folder holds beside its runs."""

    plans: Mapping[str, Plan]
    trials: tuple[Trial, ...]  # those of earlier commands first; the number of a trial's fold is its place
    data: str  # hash of the prepared cases that it began with; empty before the first training

    @property
    def splits(self) -> list[Fold]:
        """The folds, by their numbers."""
        return [trial.split for trial in self.trials]


def laid_out(folder: Workspace, plan: Plan, entry: Configuration, trials: Sequence[Trial]) -> Layout:
    """What the folder is to hold for these trials; those that are there keep their numbers. Writes nothing.

    Raises WorkspaceError where the folder was begun by another plan, or with other held-out cases.
    """
    plans = plans_of(plan, entry)
    for name, made in plans.items():
        if folder.plan(name).exists() and read_record(folder.plan(name), Plan) != made:
            raise _begun_otherwise("by another plan", folder)
    path = design_path(folder)
    design = read_record(path, DiagnosisDesign) if path.exists() else DiagnosisDesign(trials=())
    if design.trials and design.trials[0].split.val != trials[0].split.val:
        raise _begun_otherwise("with other held-out cases", folder)
    added = [trial for trial in trials if trial not in design.trials]
    return Layout(plans, (*design.trials, *added), design.data)


def lay_out(folder: Workspace, layout: Layout, data: str, probe: Path) -> None:
    """Write plans, folds and design; `data` is the hash of the prepared cases, `probe` what was measured for the plan.

    Raises WorkspaceError where the folder was begun with other images or labels.
    """
    if layout.data not in ("", data):
        raise _begun_otherwise("with other images or labels", folder)
    for name, made in layout.plans.items():
        if not folder.plan(name).exists():
            write_record(folder.plan(name), made)
    if not folder.probe().exists() and probe.exists():
        with suppress(RecordError):  # it belongs to the moment: only speed and the place of the cases depend on it
            write_record(folder.probe(), read_record(probe, Probe))
    write_record(design_path(folder), DiagnosisDesign(trials=layout.trials, data=data))
    write_splits(folder.splits, layout.splits)


def design_path(folder: Workspace) -> Path:
    """Where the trials of a diagnosis are kept."""
    return folder.root / "design.json"


def plans_of(plan: Plan, entry: Configuration) -> dict[str, Plan]:
    """The planned network, and a smaller and a larger one: plans of one configuration each, by name."""
    alone = entry.model_copy(update={"next_stage": None})
    entries = {DEFAULT_PLAN: alone, **{name: scaled(alone, factor) for name, factor in WIDTHS.items()}}
    return {
        name: signed(
            plan.model_copy(update={"name": name, "configurations": {entry.name: made}, "reasons": (), "digest": ""})
        )
        for name, made in entries.items()
    }


def _begun_otherwise(how: str, folder: Workspace) -> WorkspaceError:
    return WorkspaceError(
        f"this diagnosis was begun {how}",
        where=folder.root,
        remedy="It is kept. Rename the folder to begin anew.",
    )
