"""`plan`: check, measure, plan; and what guards an existing work folder and plan."""

from __future__ import annotations

import time
from pathlib import Path

from autoseg.dataset.folds import make_folds, write_splits
from autoseg.dataset.layouts import open_dataset
from autoseg.errors import DatasetError, PlanError, WorkspaceError
from autoseg.files import read_record, text_hash, write_record
from autoseg.fingerprint.merge import merge
from autoseg.hardware import device_budget
from autoseg.pipeline.check import examine
from autoseg.pipeline.reports import PlanReport
from autoseg.planning.planner import make_plan
from autoseg.progress import Progress
from autoseg.records import Dataset, Plan, Problem
from autoseg.workers import WorkerPool, default_workers
from autoseg.workspace import DEFAULT_PLAN, Workspace

#: Findings written out in an error; the rest is counted (`autoseg check` prints all).
SHOWN = 20


def plan(
    dataset: Path,
    work: Workspace,
    *,
    preset: str = "auto",
    name: str = DEFAULT_PLAN,
    device: str = "auto",
    skip_bad: bool = False,
    workers: int | None = None,
    progress: Progress,
) -> PlanReport:
    """Check the dataset, measure it on all cores, plan, and write what was found into the work folder."""
    seconds = {}
    began = time.monotonic()
    found = open_dataset(dataset)
    require_same_dataset(work, found)
    for note in found.notes:
        progress.say(note)
    with WorkerPool(default_workers(len(found.cases)) if workers is None else workers) as pool:
        problems, measurements = examine(found, pool, progress)
    measured = {measurement.fingerprint.case for measurement in measurements}
    left_out = tuple(case.id for case in found.cases if case.id not in measured)
    if left_out and not skip_bad:
        raise _refusal(found, problems, left_out)
    if not measurements:
        raise DatasetError("no case can be used", where=found.root, remedy="`autoseg check` lists what is wrong.")
    seconds["check and measure"] = time.monotonic() - began
    usable = found.model_copy(update={"cases": tuple(case for case in found.cases if case.id in measured)})
    fingerprint = merge(usable, measurements)
    began = time.monotonic()
    made = signed(make_plan(fingerprint, preset, device_budget(device), name=name))
    seconds["plan"] = time.monotonic() - began
    path = work.plan(name)
    require_replaceable(work, made)
    write_record(work.dataset, usable)
    write_record(work.fingerprint, fingerprint)
    if not work.splits.exists() or _cases_changed(work, usable):
        write_splits(work.splits, make_folds([case.id for case in usable.cases]))
    write_record(path, made)
    return PlanReport(usable, problems, fingerprint, made, path, left_out, seconds)


def signed(plan: Plan) -> Plan:
    """The plan with the digest by which an edit is noticed."""
    return plan.model_copy(update={"digest": _digest(plan)})


def _decided(plan: Plan) -> Plan:
    """The plan without the words that explain it."""
    return plan.model_copy(update={"digest": "", "reasons": ()})


def _digest(plan: Plan) -> str:
    return text_hash(_decided(plan).model_dump_json(), length=16)


def require_same_dataset(work: Workspace, dataset: Dataset) -> None:
    """Refuse a work folder that belongs to another dataset."""
    if not work.dataset.exists():
        return
    before = read_record(work.dataset, Dataset)
    if before.root != dataset.root:
        raise WorkspaceError(
            f"this work folder belongs to another dataset ({before.root})",
            where=work.root,
            remedy="Name another one with --work.",
        )


def require_replaceable(work: Workspace, made: Plan) -> None:
    """Refuse to replace a plan from which something was trained, or that a person edited."""
    path = work.plan(made.name)
    if not path.exists():
        return
    before = read_record(path, Plan)
    if _decided(before) == _decided(made):
        return
    trained = any(run.plan == made.name for run in work.all_runs())
    edited = bool(before.digest) and before.digest != _digest(before)
    if trained or edited:
        raise PlanError(
            "a network was trained from this plan" if trained else "this plan was edited by hand",
            where=path,
            remedy="It is kept. Give the new plan a name of its own: --name NAME.",
        )


def _cases_changed(work: Workspace, dataset: Dataset) -> bool:
    """Whether the folds on disk speak of other cases and nothing was trained with them yet."""
    from autoseg.dataset.folds import read_splits

    split = {case for fold in read_splits(work.splits) for case in (*fold.train, *fold.val)}
    changed = split != {case.id for case in dataset.cases}
    if changed and work.all_runs():
        raise WorkspaceError(
            "the dataset has other cases than when its folds were made, and networks were trained with these folds",
            where=work.splits,
            remedy="Use a new work folder (--work), so that no held-out case becomes a training case unseen.",
        )
    return changed


def _refusal(dataset: Dataset, problems: tuple[Problem, ...], left_out: tuple[str, ...]) -> DatasetError:
    errors = [problem for problem in problems if problem.severity == "error"]
    lines = [f"  {problem.case or dataset.name}: {problem.what}" for problem in errors[:SHOWN]]
    if len(errors) > SHOWN:
        lines.append(f"  … and {len(errors) - SHOWN} more (`autoseg check` lists all)")
    return DatasetError(
        f"{len(left_out)} of {len(dataset.cases)} cases cannot be used:\n" + "\n".join(lines),
        where=dataset.root,
        remedy="\nMend or remove them, or plan with the good ones only: --skip-bad.",
    )
