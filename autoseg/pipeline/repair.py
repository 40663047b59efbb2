"""`check --fix`: a corrected copy of a dataset, in a new folder; the original is only read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.checks import MISPLACED, check_case, labels_place
from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.readers import read_geometry, read_image, replace_not_finite, write_labels
from autoseg.dataset.repairs import SAFE, may_be_corrected, whole_labels, why_not_corrected
from autoseg.errors import AutosegError, UsageError
from autoseg.files import ASIDE_PREFIX, left_aside, written_aside
from autoseg.locks import HeldByAnother, locked
from autoseg.progress import Progress
from autoseg.records import Case, Dataset, Labels, Problem
from autoseg.workers.pool import WorkerPool


@dataclass(frozen=True)
class Repair:
    """A finding, and what the copy does about it."""

    problem: Problem
    fixed: bool
    why: str  # what was done, or why nothing was


@dataclass(frozen=True)
class RepairTask:
    """What a worker needs to correct the files of a case in the copy."""

    case: Case
    copied: Case
    labels: Labels
    channels: int
    problems: tuple[Problem, ...]


def require_new(out: Path, root: Path | None = None) -> None:
    """Refuse a folder that holds something, or that lies in the dataset or around it. Raises UsageError."""
    place = out.resolve()
    if root is not None and (place.is_relative_to(root.resolve()) or root.resolve().is_relative_to(place)):
        raise UsageError(f"{out} lies within the dataset, or around it", remedy="Name a folder beside it.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already, and not empty", remedy="Name a new folder: nothing is overwritten.")


def corrected_copy(
    dataset: Dataset, problems: Sequence[Problem], out: Path, pool: WorkerPool, progress: Progress
) -> tuple[Repair, ...]:
    """Write a copy of a dataset with the faults corrected whose remedy is safe, and tell of each finding what was done.

    Everything is copied first, so that the copy is a dataset of its own; then files with such faults are written anew.
    The folder gets its name when all is there; what a killed command left of it goes first. Each corrected case is
    checked once more: what is still found is told as not fixed.

    Raises UsageError for a folder that is not new, DiskFullError where the copy does not fit.
    """
    require_new(out, dataset.root)
    with _alone(out), written_aside(out) as aside:
        _copy_tree(dataset.root, aside, progress)
        tasks = _tasks(dataset, problems, aside)
        done: dict[Problem, Repair] = {}
        with progress.stage("Correcting cases", len(tasks)) as advance:
            for outcome in pool.map(repair_case, tasks):
                failed = "" if outcome.error is None else str(outcome.error)
                repairs = outcome.value or tuple(Repair(one, False, failed) for one in outcome.item.problems)
                done |= {repair.problem: repair for repair in repairs}
                advance(1)
    return tuple(done.get(problem) or Repair(problem, False, _why_left(problem)) for problem in problems)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Make the place of a copy ready, which no other command makes meanwhile. Raises UsageError where one does."""
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out.with_name(f".{out.name}.lock")):
            require_new(out)
            for stale in left_aside(out):
                shutil.rmtree(stale, ignore_errors=True)
            if out.is_dir():
                out.rmdir()  # empty; a folder cannot be renamed to it everywhere
            yield
    except HeldByAnother as other:
        raise UsageError(
            f"process {other.owner or 'another'} is writing {out}", remedy="Wait for it to end, or name another folder."
        ) from None


def _why_left(problem: Problem) -> str:
    outside = may_be_corrected(problem)  # all others of these kinds were tried
    return "its files are not in the dataset's folder" if outside else why_not_corrected(problem)


def _copy_tree(root: Path, out: Path, progress: Progress) -> None:
    files: list[Path] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        # a link to a folder above would be walked for ever
        here = Path(folder).resolve()
        folders[:] = sorted(name for name in folders if not here.is_relative_to((here / name).resolve()))
        files += [Path(folder) / name for name in sorted(names) if not name.startswith(ASIDE_PREFIX)]
    with progress.stage("Copying files", len(files)) as advance:
        for file in files:
            target = out / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.exists():  # not so where a link leads nowhere
                shutil.copyfile(file, target)
            advance(1)


def _tasks(dataset: Dataset, problems: Sequence[Problem], out: Path) -> list[RepairTask]:
    """The cases with something to correct."""
    wanted: dict[str, list[Problem]] = {}
    for problem in problems:
        if may_be_corrected(problem) and problem.case is not None:
            wanted.setdefault(problem.case, []).append(problem)
    tasks = []
    for case in dataset.cases:
        if case.id in wanted and _within(case, dataset.root):
            found = tuple(wanted.pop(case.id))
            tasks.append(
                RepairTask(case, _moved(case, dataset.root, out), dataset.labels, len(dataset.channels), found)
            )
    return tasks


def _within(case: Case, root: Path) -> bool:
    return all(path.is_relative_to(root) for path in (*case.images, *case.label_paths))


def _moved(case: Case, root: Path, out: Path) -> Case:
    def moved(path: Path) -> Path:
        return out / path.relative_to(root)

    return case.model_copy(
        update={
            "images": tuple(moved(path) for path in case.images),
            "labels": None if case.labels is None else moved(case.labels),
            "instances": None if case.instances is None else moved(case.instances),
            "label_files": tuple((name, moved(path)) for name, path in case.label_files),
        }
    )


# -------------------------------------------------------------------------------------------------------- one case


def repair_case(task: RepairTask) -> tuple[Repair, ...]:
    """Correct the copied files of one case, and look at them once more (runs in a worker)."""
    of_labels = [problem for problem in task.problems if problem.file == labels_place(task.case)]
    of_images = [problem for problem in task.problems if problem not in of_labels]
    failed: dict[Problem, str] = {}
    for problem in of_images:
        try:
            place = task.case.images.index(problem.file) if problem.file is not None else 0
            replace_not_finite(task.case.images[place], task.copied.images[place])
        except AutosegError as error:
            failed[problem] = error.what
    if of_labels:
        try:
            _write_labels_of(task, {problem.kind for problem in of_labels})
        except AutosegError as error:
            failed |= dict.fromkeys(of_labels, error.what)
    still = _still_found(task)
    return tuple(_told(problem, failed, still, problem in of_labels) for problem in task.problems)


def _write_labels_of(task: RepairTask, kinds: set[str]) -> None:
    case, path = task.case, task.copied.labels
    if path is None or case.labels is None or case.instances is not None:
        raise UsageError("its labels are in several files, which are not rewritten")
    label_map = whole_labels(read_case_labels(case, task.labels), task.labels)
    if MISPLACED in kinds:
        grid, like = read_geometry(case.images[0])[0], case.images[0]
    else:
        grid, like = label_map.geometry, case.labels
    write_labels(path, label_map.labels, grid, like)


def _still_found(task: RepairTask) -> Mapping[str, set[bool]] | str:
    """Kinds of the findings in the copy, with whether they are of its labels; in words where it cannot be read."""
    copied = task.copied
    try:
        volume, label_map = read_image(copied.images), read_case_labels(copied, task.labels)
    except AutosegError as error:
        return str(error)
    found: dict[str, set[bool]] = {}
    for problem in check_case(copied, volume, label_map, task.labels, channels=task.channels):
        found.setdefault(problem.kind, set()).add(problem.file == labels_place(copied))
    return found


def _told(
    problem: Problem, failed: Mapping[Problem, str], still: Mapping[str, set[bool]] | str, labels: bool
) -> Repair:
    if problem in failed:
        return Repair(problem, False, failed[problem])
    if isinstance(still, str):
        return Repair(problem, False, f"the copy cannot be checked: {still}")
    if labels in still.get(problem.kind, ()):
        return Repair(problem, False, "it is still found in the copy")
    return Repair(problem, True, SAFE[problem.kind])
