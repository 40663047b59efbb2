"""`prepare`: bring cases into network space, those that are not there yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.arrays.crop import nonzero_mask
from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.readers import read_image
from autoseg.files import read_record, write_record
from autoseg.interrupts import StopSwitch
from autoseg.machine import total_memory
from autoseg.pipeline.plans import read_dataset, read_plan
from autoseg.pipeline.receipts import data_hash, plain, prepared_hash, read_receipt, versions
from autoseg.pipeline.reports import PrepareReport
from autoseg.planning.costs import preparing_bytes
from autoseg.preprocessing.case import to_network_space
from autoseg.preprocessing.entry import entry_folder
from autoseg.preprocessing.store import is_current, remove_abandoned, remove_case, write_case
from autoseg.progress import Progress
from autoseg.records import Case, Configuration, Fingerprint, Preparation, Receipt, Shape
from autoseg.workers.pool import WorkerPool, default_workers
from autoseg.workspace import DEFAULT_PLAN, Workspace


@dataclass(frozen=True)
class PrepareTask:
    """One case, and how and where it is to be prepared."""

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
    chosen = read_plan(work, plan)
    names = configurations or tuple(chosen.configurations)
    dataset = read_dataset(work)
    return prepare_cases(work, [chosen.configuration(name) for name in names], dataset.cases, workers, progress)


def prepare_cases(
    work: Workspace,
    configurations: Sequence[Configuration],
    cases: Sequence[Case],
    workers: int | None,
    progress: Progress,
    stop: StopSwitch | None = None,
) -> PrepareReport:
    """Prepare what is missing or stale; configurations with the same preparation share one copy.

    After each case `stop` is asked, where one is given, and raises where a person wants to leave off.
    """
    began = time.monotonic()
    wanted = {work.prepared_folder(entry.preparation): entry for entry in configurations}
    for folder in wanted:
        remove_abandoned(folder)
    tasks = [
        tuple(
            PrepareTask(case, configuration.preparation, folder, full_patch(configuration))
            for folder, configuration in wanted.items()
            if not is_current(folder, case)
        )
        for case in cases
    ]
    groups = [group for group in tasks if group]
    reused = len(wanted) * len(cases) - sum(map(len, groups))
    failures: dict[str, str] = {}
    prepared = 0
    if groups:
        count = default_workers(len(groups), _bytes_per_case(work, configurations)) if workers is None else workers
        with WorkerPool(count) as pool, progress.stage("Preparing cases", len(groups)) as advance:
            for outcome in pool.map(prepare_together, groups):
                if outcome.error is None:
                    prepared += len(outcome.item)
                else:
                    failures[outcome.item[0].case.id] = str(outcome.error)
                advance(1)
                if stop is not None:
                    stop.raise_if_set()
    _keep_receipts(work, configurations, anew=prepared > 0)
    return PrepareReport(prepared, reused, failures, time.monotonic() - began)


def _keep_receipts(work: Workspace, configurations: Sequence[Configuration], anew: bool) -> None:
    """Say beside each folder what its cases were made from: where some were made anew, or a kill kept it unsaid."""
    data: str | None = None
    for entry in configurations:
        folder, path = work.prepared_folder(entry.preparation), work.prepared_receipt(entry.preparation)
        cases = [case for case in read_dataset(work).cases if entry_folder(folder, case.id).exists()]
        results = {"prepared cases": prepared_hash(folder, [case.id for case in cases])}
        known = read_receipt(path)
        if not anew and known is not None and known.results == results:
            continue
        data = data_hash(cases) if data is None else data
        receipt = Receipt(
            stage="prepare",
            versions=versions(),
            options={"preparation": plain(entry.preparation), "cases": len(cases)},
            inputs={"data": data},
            results=results,
        )
        write_record(path, receipt)


def prepare_together(tasks: tuple[PrepareTask, ...]) -> None:
    """Prepare and store one case in several ways (runs in a worker); its files are read once."""
    case, labels = tasks[0].case, tasks[0].preparation.labels
    volume = read_image(case.images)
    label_map = read_case_labels(case, labels) if case.labelled else None
    nonzero = nonzero_mask(volume.image)
    for task in tasks:
        # no name for what comes back: it must not stay in memory while the next one is made
        write_case(
            task.folder,
            to_network_space(case.id, volume, label_map, task.preparation, nonzero, most_bytes=total_memory()),
            case,
            task.patch_size,
        )


def prepare_case(task: PrepareTask) -> None:
    """Read, prepare and store one case."""
    prepare_together((task,))


def prepare_again(folder: Path, case: Case, configuration: Configuration) -> None:
    """Replace the entry of one case, which was found to be damaged."""
    remove_case(folder, case.id)
    prepare_case(PrepareTask(case, configuration.preparation, folder, full_patch(configuration)))


def full_patch(configuration: Configuration) -> Shape:
    """The patch as (Z, Y, X), Z = 1 for 2D."""
    patch = configuration.patch_size
    return (1, patch[0], patch[1]) if len(patch) == 2 else (patch[0], patch[1], patch[2])


def _bytes_per_case(work: Workspace, configurations: Sequence[Configuration]) -> int:
    """Memory that one worker needs for the most demanding case."""
    fingerprint = read_record(work.fingerprint, Fingerprint)
    return max(preparing_bytes(fingerprint, entry.preparation) for entry in configurations)
