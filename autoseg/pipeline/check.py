"""`check`: read every file once, say all that is wrong at once, and measure what is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.checks import check_case
from autoseg.dataset.groups import patient_groups
from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.layout_checks import check_layout
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.leaks import patient_problems, same_image_problems, same_label_problems
from autoseg.dataset.ranking import ranked
from autoseg.dataset.readers import read_image
from autoseg.dataset.split_files import read_fixed_folds
from autoseg.errors import AutosegError
from autoseg.fingerprint.annotation_gaps import annotation_gaps
from autoseg.fingerprint.case import CaseMeasurement, measure_case
from autoseg.fingerprint.merge import merge
from autoseg.fingerprint.odd_sizes import odd_sizes
from autoseg.fingerprint.unlike_others import unlike_others
from autoseg.pipeline.finding_pictures import draw_findings
from autoseg.pipeline.repair import corrected_copy, require_new
from autoseg.pipeline.reports import CheckReport
from autoseg.planning.evidence import normalization_doubts
from autoseg.planning.mirroring import side_doubts
from autoseg.progress import Progress
from autoseg.records import Case, Dataset, Fold, Labels, Problem
from autoseg.workers.pool import WorkerPool, default_workers

#: Where nnU-Net keeps the folds of a dataset.
NNUNET_SPLITS = "splits_final.json"


@dataclass(frozen=True)
class Examination:
    """One case, read once: what is wrong with it, and what it looks like if nothing is."""

    problems: tuple[Problem, ...]
    measurement: CaseMeasurement | None


@dataclass(frozen=True)
class ExamineTask:
    """What a worker needs to examine one case."""

    case: Case
    labels: Labels
    channels: int


def check(
    dataset: Path,
    *,
    splits: Path | None = None,
    fix: Path | None = None,
    pictures: Path | None = None,
    workers: int | None = None,
    progress: Progress,
) -> CheckReport:
    """Everything that is wrong with a dataset folder, at once.

    Args:
        dataset: its folder, which is only read.
        splits: folds to look for patients in; None takes nnU-Net's splits_final.json in the folder, if there is one.
        fix: a new folder for a corrected copy.
        pictures: a new folder for pictures of the costliest findings.
        workers: processes that read.
        progress: what shows how far it is.
    """
    if fix is not None:
        require_new(fix, dataset)
    if pictures is not None:
        require_new(pictures)
    found = open_dataset(dataset)
    with WorkerPool(default_workers(len(found.cases)) if workers is None else workers) as pool:
        problems, measurements = examine(found, pool, progress)
        # what planning finds in the intensities is said here as well
        fingerprint = None
        if any(measurement.intensities for measurement in measurements):
            fingerprint = merge(found, measurements)
            problems = (*problems, *normalization_doubts(fingerprint))
        problems = ranked([*problems, *_patients(found, splits)])
        repairs = () if fix is None else corrected_copy(found, problems, fix, pool, progress)
    drawn = () if pictures is None else draw_findings(found, problems, pictures)
    return CheckReport(found, problems, len(measurements), fingerprint, fix, repairs, drawn)


def _patients(dataset: Dataset, splits: Path | None) -> tuple[Problem, ...]:
    """Patients in both parts of a fold, or in training and test; a split file of the dataset that does not fit it."""
    ids, test = [case.id for case in dataset.cases], [case.id for case in dataset.test_cases]
    groups = patient_groups(dataset.root, sorted({*ids, *test}))
    path = splits or dataset.root / NNUNET_SPLITS
    folds: tuple[Fold, ...] = ()
    found: tuple[Problem, ...] = ()
    if splits is not None or path.is_file():
        try:
            folds = read_fixed_folds(path, ids)[0]
        except AutosegError as error:
            if splits is not None:
                raise
            found = (_unusable(path, error),)
    if groups is None:
        return found
    return (*found, *patient_problems(groups.shared, folds, set(test) - set(ids), groups.rule))


def _unusable(path: Path, error: AutosegError) -> Problem:
    remedy = error.remedy or "Correct it, or take it out of the folder."
    return Problem(severity="warning", kind="unusable-splits", what=error.what, remedy=remedy, file=path)


def examine(
    dataset: Dataset, pool: WorkerPool, progress: Progress
) -> tuple[tuple[Problem, ...], list[CaseMeasurement]]:
    """Findings about layout and cases, and the measurements of the cases without errors, in the dataset's order."""
    problems = list(check_layout(dataset))
    broken = {problem.case for problem in problems if problem.severity == "error" and problem.case is not None}
    tasks = [
        ExamineTask(case, dataset.labels, len(dataset.channels))
        for case in dataset.cases
        if case.id not in broken and case.labelled
    ]
    measurements: dict[int, CaseMeasurement] = {}
    with progress.stage("Reading and measuring cases", len(tasks)) as advance:
        for outcome in pool.map(examine_case, tasks):
            if outcome.error is not None:
                problems.append(_unreadable(outcome.item.case, outcome.error))
            elif outcome.value is not None:
                problems.extend(outcome.value.problems)
                if outcome.value.measurement is not None:
                    measurements[outcome.index] = outcome.value.measurement
            advance(1)
    measured = [measurements[index] for index in sorted(measurements)]
    cases = [measurement.fingerprint for measurement in measured]
    problems += same_image_problems(cases)
    problems += same_label_problems([(found.fingerprint.case, found.drawn) for found in measured], cases)
    odd = odd_sizes(cases)
    problems += odd
    problems += annotation_gaps(cases, dataset.labels)
    sides = side_doubts(cases, dataset.labels)
    problems += sides
    problems += _untold(unlike_others(cases, dataset.channels, dataset.labels), (*odd, *sides))
    return ranked(problems), measured


def examine_case(task: ExamineTask) -> Examination:
    """Read, check and measure one case (runs in a worker)."""
    case = task.case
    if not case.labelled:
        return Examination((), None)
    volume = read_image(case.images)
    label_map = read_case_labels(case, task.labels)
    problems = tuple(check_case(case, volume, label_map, task.labels, channels=task.channels))
    if any(problem.severity == "error" for problem in problems):
        return Examination(problems, None)
    return Examination(problems, measure_case(case.id, volume, label_map, task.labels, annotated=case.annotated))


def _untold(found: Sequence[Problem], told: Sequence[Problem]) -> list[Problem]:
    """The findings without those that say less than one which was told of the same case."""
    covers = {"odd-size": "odd-spacing", "sides-differ": "side-unlike-others"}
    known = {(covers.get(problem.kind), problem.case) for problem in told}
    return [problem for problem in found if (problem.kind, problem.case) not in known]


def _unreadable(case: Case, error: AutosegError) -> Problem:
    return Problem(
        severity="error",
        kind="unreadable",
        what=str(error),
        remedy=error.remedy or "Restore the file from its source, or remove the case.",
        case=case.id,
        file=Path(error.where) if error.where else None,
    )
