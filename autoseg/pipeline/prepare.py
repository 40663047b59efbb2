"""`prepare`: bring cases into network space, those that are not there yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.readers import read_image, read_labels
from autoseg.files import read_record
from autoseg.pipeline.reports import PrepareReport
from autoseg.preprocessing.case import to_network_space
from autoseg.preprocessing.store import is_current, write_case
from autoseg.progress import Progress
from autoseg.records import Case, Configuration, Dataset, Fingerprint, Plan, Preparation, Shape
from autoseg.workers import WorkerPool, default_workers
from autoseg.workspace import DEFAULT_PLAN, Workspace


@dataclass(frozen=True)
class PrepareTask:
    """What a worker needs to prepare one case."""

    case: Case
    preparation: Preparation
    folder: Path
    patch_size: Shape


def prepare(
    work: Workspace,
    *,
    plan: str = DEFAULT_PLAN,
    configurations: tuple[str, ...] = (),
    workers: int | None = None,
    progress: Progress,
) -> PrepareReport:
    """Fill `prepared/` for the named configurations of a plan, or for all of them."""
    chosen = read_record(work.require_plan(plan), Plan)
    names = configurations or tuple(chosen.configurations)
    dataset = read_record(work.dataset, Dataset)
    return prepare_cases(work, [chosen.configuration(name) for name in names], dataset.cases, workers, progress)


def prepare_cases(
    work: Workspace,
    configurations: Sequence[Configuration],
    cases: Sequence[Case],
    workers: int | None,
    progress: Progress,
) -> PrepareReport:
    """Prepare what is missing or stale; configurations with the same preparation share one copy."""
    began = time.monotonic()
    wanted = {work.prepared_folder(entry.preparation): entry for entry in configurations}
    tasks, reused = [], 0
    for folder, configuration in wanted.items():
        for case in cases:
            if is_current(folder, case):
                reused += 1
            else:
                tasks.append(PrepareTask(case, configuration.preparation, folder, full_patch(configuration)))
    failures: dict[str, str] = {}
    if tasks:
        count = default_workers(len(tasks), _bytes_per_case(work, configurations)) if workers is None else workers
        with WorkerPool(count) as pool, progress.stage("Preparing cases", len(tasks)) as advance:
            for outcome in pool.map(prepare_case, tasks):
                if outcome.error is not None:
                    failures[outcome.item.case.id] = str(outcome.error)
                advance(1)
    return PrepareReport(len(tasks) - len(failures), reused, failures, time.monotonic() - began)


def prepare_case(task: PrepareTask) -> None:
    """Read, prepare and store one case (runs in a worker)."""
    volume = read_image(task.case.images)
    label_map = None if task.case.labels is None else read_labels(task.case.labels)
    prepared = to_network_space(task.case.id, volume, label_map, task.preparation)
    write_case(task.folder, prepared, task.case, task.patch_size)


def full_patch(configuration: Configuration) -> Shape:
    """The patch as (Z, Y, X), Z = 1 for 2D."""
    patch = configuration.patch_size
    return (1, patch[0], patch[1]) if len(patch) == 2 else (patch[0], patch[1], patch[2])


def _bytes_per_case(work: Workspace, configurations: Sequence[Configuration]) -> float:
    """Memory one worker needs for the largest case: image, labels and the copies that resampling makes."""
    fingerprint = read_record(work.fingerprint, Fingerprint)
    largest = 0.0
    for case in fingerprint.cases:
        voxels = float(case.shape[0] * case.shape[1] * case.shape[2])
        for configuration in configurations:
            scale = 1.0
            target = [configuration.preparation.spacing[axis] for axis in range(3)]
            source = [case.spacing[axis] for axis in configuration.preparation.axis_order]
            for new, old in zip(target, source, strict=True):
                scale *= 1.0 if new is None else max(old / new, 1.0)
            largest = max(largest, voxels * scale)
    return 200e6 + largest * (4.0 * len(configurations[0].preparation.normalization) * 4 + 16)
