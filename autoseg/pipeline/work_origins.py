"""The receipts of what lies in a work folder, and what inputs and results hash to there now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from autoseg.dataset.folds import fold_of, read_splits
from autoseg.dataset.layouts import open_dataset
from autoseg.errors import AutosegError, UsageError
from autoseg.files import read_record
from autoseg.model_file import read_header
from autoseg.pipeline.origin import Given, Origin, required_receipt
from autoseg.pipeline.plan_receipt import plan_results
from autoseg.pipeline.plans import plan_digest
from autoseg.pipeline.receipts import GONE, data_hash, fold_hash, joint_hash, prepared_hash, short_hash
from autoseg.pipeline.selected import hashes
from autoseg.preprocessing.entry import entry_folder
from autoseg.records import Case, Dataset, Fold, Plan, Receipt, Selection, TrainSettings
from autoseg.workspace import Run, Workspace


def _data_now(work: Workspace, given: Given, names: Collection[str] | None = None) -> str:
    """Hash of the dataset's files as they are now: of the planned cases, or of those named."""
    try:
        known = {case.id: case for case in read_record(work.dataset, Dataset).cases}
        found = open_dataset(given.data or read_record(work.dataset, Dataset).root)
    except AutosegError:
        return GONE
    wanted = set(known) if names is None else set(names)
    cases = [_as_planned(case, known[case.id]) for case in found.cases if case.id in wanted & set(known)]
    return data_hash(cases) if len(cases) == len(wanted) else GONE


def _data_as_prepared(work: Workspace, given: Given, folder: Path, receipt: Receipt) -> str:
    """Hash of the dataset now, without the cases that could not be prepared where that is what the receipt is of."""
    whole = _data_now(work, given)
    if whole == receipt.inputs.get("data"):
        return whole
    names = [case.id for case in _planned_cases(work) if entry_folder(folder, case.id).exists()]
    part = _data_now(work, given, names)
    return part if part == receipt.inputs.get("data") else whole


def _as_planned(case: Case, known: Case) -> Case:
    return case.model_copy(update={"trust_voxels": known.trust_voxels})


def of_plan(work: Workspace, path: Path, given: Given) -> Origin:
    """A plan, and the fingerprint and folds beside it."""
    plan = read_record(path, Plan)
    receipt = required_receipt(work.receipt(plan.name))
    now = plan_results(work, plan)
    further: dict[str, tuple[str, str | None]] = {}
    if "data" in receipt.inputs:
        now["data"] = _data_now(work, given)
        further["cases"] = str(receipt.options.get("cases")), _count_now(work, given)
    return Origin(f"plan {plan.name}", receipt, now, further)


def _count_now(work: Workspace, given: Given) -> str:
    try:
        return str(len(open_dataset(given.data or read_record(work.dataset, Dataset).root).cases))
    except AutosegError:
        return GONE


def of_prepared(folder: Path, given: Given) -> Origin:
    """A folder of prepared cases."""
    receipt = required_receipt(folder.with_suffix(".json"))
    work = Workspace(folder.parents[1])
    names = [case.id for case in _planned_cases(work) if entry_folder(folder, case.id).exists()]
    now = {
        "data": _data_as_prepared(work, given, folder, receipt),
        "prepared cases": prepared_hash(folder, names) if len(names) == receipt.options.get("cases") else GONE,
    }
    return Origin(f"prepared cases {folder.name}", receipt, now)


def _planned_cases(work: Workspace) -> tuple[Case, ...]:
    return read_record(work.dataset, Dataset).cases if work.dataset.exists() else ()


def run_of(folder: Path) -> Run:
    """The run whose folder it is, an absolute path."""
    return Run(folder, folder.parts[-3], folder.parts[-2], folder.name.removeprefix("fold_"))


def of_run(run: Run, given: Given) -> Origin:
    """A training."""
    receipt = required_receipt(run.receipt)
    return Origin(
        f"{run.configuration}, fold {run.fold}",
        receipt,
        {**_run_inputs(run, receipt, given), "model": short_hash(run.model)},
        _settings_now(run, receipt),
        str(receipt.options.get("precision", "auto")),
    )


def _run_inputs(run: Run, receipt: Receipt, given: Given) -> dict[str, str]:
    """What the run would begin with now."""
    work = Workspace.of_run(run.folder)
    try:
        plan = read_record(work.plan(run.plan), Plan)
        entry = plan.configuration(run.configuration)
        cases = _planned_cases(work)
        split = fold_of(read_splits(work.splits), run.fold, [case.id for case in cases])
    except AutosegError:
        return dict.fromkeys(receipt.inputs, GONE)
    folder = work.prepared_folder(entry.preparation)
    used = split
    if fold_hash(split) != receipt.inputs.get("folds"):  # cases that could not be prepared were left out
        there = {case.id for case in cases if entry_folder(folder, case.id).exists()}
        used = Fold(train=_only(split.train, there), val=_only(split.val, there))
    now = {
        "plan": plan_digest(plan),
        "folds": fold_hash(used),
        "prepared cases": prepared_hash(folder, (*used.train, *used.val)),
    }
    if "data" in receipt.inputs:
        now["data"] = _data_as_prepared(work, given, folder, receipt)
    if entry.previous_stage is not None:
        now["first stage"] = short_hash(work.run(run.plan, entry.previous_stage, run.fold).model)
    return now


def _only(names: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in known)


def _settings_now(run: Run, receipt: Receipt) -> dict[str, tuple[str, str | None]]:
    """The seed, and training settings that are no longer as they were."""
    then = receipt.options.get("settings")
    if not isinstance(then, dict) or not run.settings.exists():
        return {}
    now = read_record(run.settings, TrainSettings).model_dump(mode="json")
    return {
        name: (str(then.get(name)), str(now[name])) for name in now if name == "seed" or then.get(name) != now[name]
    }


# ---------------------------------------------------------------------------------------------------------- models


def of_model(file: Path, given: Given) -> Origin:
    """A model file, alone or where it was made."""
    receipt = read_header(file).receipt
    if receipt is None:
        raise UsageError(
            "holds no receipt: an earlier version wrote it, or it was imported", where=file, remedy="Train it anew."
        )
    folder, now = file.resolve().parent, {}
    if receipt.stage == "train" and (folder / "settings.json").exists():
        now = _run_inputs(run_of(folder), receipt, given)
    elif Workspace(folder).selection.exists():
        now = _selected_inputs(Workspace(folder))
    asked = receipt.options.get("precision")
    return Origin(f"model {file.name}", receipt, now, precision=None if asked is None else str(asked))


def _selected_inputs(work: Workspace) -> dict[str, str]:
    members = set(read_record(work.selection, Selection).members)
    known = hashes(work, work.all_runs())
    chosen = {place: found for place, found in known.items() if place in members}
    return {"trained models": joint_hash(known), "chosen models": joint_hash(chosen)}
