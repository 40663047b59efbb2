"""What each command hands back to whoever shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.pipeline.repair import Repair
from autoseg.pipeline.trust import ReviewRow
from autoseg.planning.costs import ConfigurationCost
from autoseg.records import Dataset, Fingerprint, Labels, ModelHeader, Plan, Probe, Problem, Selection, Summary
from autoseg.workspace import Run


@dataclass(frozen=True)
class CheckReport:
    """Findings about a dataset."""

    dataset: Dataset
    problems: tuple[Problem, ...]
    cases_ok: int
    fingerprint: Fingerprint | None = None  # of the cases without errors
    copy: Path | None = None  # the corrected copy
    repairs: tuple[Repair, ...] = ()  # of each finding, where there is a copy
    pictures: tuple[Path, ...] = ()

    @property
    def errors(self) -> int:
        """Findings that stop a case from being used."""
        return sum(problem.severity == "error" for problem in self.problems)


@dataclass(frozen=True)
class PlanReport:
    """A plan and what it was made from."""

    dataset: Dataset | None  # None where it was planned from a fingerprint alone
    problems: tuple[Problem, ...]
    fingerprint: Fingerprint
    plan: Plan
    path: Path
    left_out: tuple[str, ...]  # cases with errors
    seconds: Mapping[str, float]
    probe: Probe | None = None
    costs: tuple[ConfigurationCost, ...] = ()
    notes: tuple[str, ...] = ()  # about the folds


@dataclass(frozen=True)
class PrepareReport:
    """Prepared cases."""

    prepared: int
    reused: int
    failures: Mapping[str, str]
    seconds: float


@dataclass(frozen=True)
class TrainReport:
    """A finished training."""

    run: Run
    epochs: int
    steps: int
    seconds: Mapping[str, float]
    summary: Summary | None
    failures: Mapping[str, str] = field(default_factory=dict)
    ended_early: str = ""  # by whom and at which step, in words; empty for a run that went to its end
    by_patience: bool = False  # whether it was ended early by patience, not by a person


@dataclass(frozen=True)
class RunScore:
    """One training of a series."""

    configuration: str
    fold: str
    mean_dice: float | None  # of its held-out cases; None where it is not scored
    model: Path | None  # None where it is not trained


@dataclass(frozen=True)
class EveryReport:
    """Each fold of each configuration."""

    runs: tuple[RunScore, ...]
    failures: Mapping[str, str]  # run, or run and case -> why
    ended_early: str = ""  # why the series ended before its last run: a person ended one, or asked for it


@dataclass(frozen=True)
class PredictReport:
    """Written masks."""

    model_description: str
    written: Mapping[str, Path]
    skipped: tuple[str, ...]  # their masks are there already, made in the same way from the same input
    masks: Mapping[str, Path]  # all masks that are there now
    failures: Mapping[str, str]
    seconds: float
    review: tuple[ReviewRow, ...] = ()  # cases of this command, worst first
    labels: Labels | None = None  # that the model knows
    images: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)  # of the cases of this command


@dataclass(frozen=True)
class SelectReport:
    """A model that was chosen and written, and how it came about."""

    header: ModelHeader
    selection: Selection
    path: Path
    notes: tuple[str, ...] = ()  # what was left out or cut short, and why


@dataclass(frozen=True)
class EvaluateReport:
    """Scores and where they were written."""

    summary: Summary
    output: Path


@dataclass(frozen=True)
class StatusReport:
    """What a work folder holds, and what to do next."""

    lines: tuple[tuple[str, str], ...]
    next_command: str


@dataclass(frozen=True)
class DemoReport:
    """The whole pipeline on the example data."""

    stages: Mapping[str, float]
    held_out: Summary
    test: Summary
    files: Mapping[str, Path]
    preview: Path
