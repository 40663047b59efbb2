"""Where the receipt of each kind of result is, and what its inputs and results hash to now."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.dataset.folds import fold_of, read_splits
from autoseg.dataset.inputs import find_inputs
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.naming import data_files
from autoseg.dataset.readers import stem_of
from autoseg.errors import AutosegError, UsageError
from autoseg.evaluation.summary import RECEIPT
from autoseg.files import file_hash, parse_record, read_record, text_hash
from autoseg.inference.predictor import asked_precision
from autoseg.model_file import read_header
from autoseg.pipeline.choosing_model import choose_models
from autoseg.pipeline.evaluate import evaluated_hashes, pair_up
from autoseg.pipeline.mask_folder import PREDICTIONS, MadeMask, input_hash, made_before, read_receipts
from autoseg.pipeline.plan_receipt import plan_results
from autoseg.pipeline.plans import plan_digest
from autoseg.pipeline.receipts import GONE, data_hash, fold_hash, joint_hash, prepared_hash, short_hash
from autoseg.pipeline.selected import hashes
from autoseg.preprocessing.store import entry_folder
from autoseg.records import Case, Dataset, Fold, ModelHeader, Plan, Receipt, Selection, TrainSettings
from autoseg.workspace import Run, Workspace


@dataclass(frozen=True)
class Given:
    """Where things are that a receipt does not tell, for it holds no path."""

    data: Path | None = None  # the dataset, the images, or the references
    models: tuple[Path, ...] = ()
    work: Workspace | None = None  # whose model predicted


@dataclass(frozen=True)
class Origin:
    """A receipt, and what it can be compared with."""

    title: str
    receipt: Receipt
    now: Mapping[str, str] = field(default_factory=dict)  # input or result -> its hash now; what is absent is unknown
    further: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)  # what -> then, now
    precision: str | None = None  # that is asked for, by the command or the model; None: unknown


def origins(result: Path, given: Given) -> list[Origin]:
    """The receipts of a result. Raises UsageError where it has none, RecordError for one that is damaged."""
    if not result.exists():
        raise UsageError("does not exist", where=result, remedy="Name a result of autoseg, such as a folder of masks.")
    if result.is_dir():
        return _of_folder(result, given)
    if result.suffix == ".safetensors":
        return [_of_model(result, given)]
    if result.name.startswith("plan") and result.suffix == ".json":
        return [_of_plan(Workspace(result.parent), result, given)]
    if result.suffix == ".json":
        return [_of_evaluation(result, given)]
    raise _nothing(result)


def _of_folder(folder: Path, given: Given) -> list[Origin]:
    whole = folder.resolve()
    if (folder / PREDICTIONS).exists():
        return _of_masks(folder, given)
    if (folder / "settings.json").exists() and len(whole.parents) > 3:
        return [_of_run(_run_of(whole), given)]
    if whole.parent.name == "prepared":
        return [_of_prepared(whole, given)]
    if (folder / "plan.json").exists():
        return [_of_plan(Workspace(folder), folder / "plan.json", given)]
    raise _nothing(folder)


def _nothing(path: Path) -> UsageError:
    return UsageError(
        "has no receipt: it is no result of autoseg, or one of an earlier version",
        where=path,
        remedy="Name a work folder, a plan, a run, a model file, a folder of masks or of prepared cases, or a "
        "summary.json.",
    )


def _required(path: Path) -> Receipt:
    if not path.exists():
        raise _nothing(path)
    return read_record(path, Receipt)


# ----------------------------------------------------------------------------------------------------- work folder


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


def _of_plan(work: Workspace, path: Path, given: Given) -> Origin:
    plan = read_record(path, Plan)
    receipt = _required(work.receipt(plan.name))
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


def _of_prepared(folder: Path, given: Given) -> Origin:
    receipt = _required(folder.with_suffix(".json"))
    work = Workspace(folder.parents[1])
    names = [case.id for case in _planned_cases(work) if entry_folder(folder, case.id).exists()]
    now = {
        "data": _data_as_prepared(work, given, folder, receipt),
        "prepared cases": prepared_hash(folder, names) if len(names) == receipt.options.get("cases") else GONE,
    }
    return Origin(f"prepared cases {folder.name}", receipt, now)


def _planned_cases(work: Workspace) -> tuple[Case, ...]:
    return read_record(work.dataset, Dataset).cases if work.dataset.exists() else ()


def _run_of(folder: Path) -> Run:
    return Run(folder, folder.parts[-3], folder.parts[-2], folder.name.removeprefix("fold_"))


def _of_run(run: Run, given: Given) -> Origin:
    receipt = _required(run.receipt)
    return Origin(
        f"{run.configuration}, fold {run.fold}",
        receipt,
        {**_run_inputs(run, receipt, given), "model": short_hash(run.model)},
        _settings_now(run, receipt),
        str(receipt.options.get("precision", "auto")),
    )


def _run_inputs(run: Run, receipt: Receipt, given: Given) -> dict[str, str]:
    """What the run would begin with now."""
    work = Workspace(run.folder.parents[3])
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


def _of_model(file: Path, given: Given) -> Origin:
    receipt = read_header(file).receipt
    if receipt is None:
        raise UsageError(
            "holds no receipt: an earlier version wrote it, or it was imported", where=file, remedy="Train it anew."
        )
    folder, now = file.resolve().parent, {}
    if receipt.stage == "train" and (folder / "settings.json").exists():
        now = _run_inputs(_run_of(folder), receipt, given)
    elif Workspace(folder).selection.exists():
        now = _selected_inputs(Workspace(folder))
    asked = receipt.options.get("precision")
    return Origin(f"model {file.name}", receipt, now, precision=None if asked is None else str(asked))


def _selected_inputs(work: Workspace) -> dict[str, str]:
    members = set(read_record(work.selection, Selection).members)
    known = hashes(work, work.all_runs())
    chosen = {place: found for place, found in known.items() if place in members}
    return {"trained models": joint_hash(known), "chosen models": joint_hash(chosen)}


# ----------------------------------------------------------------------------------------------------------- masks


def _of_masks(masks: Path, given: Given) -> list[Origin]:
    """An origin for each receipt of a folder of masks."""
    made, receipts = made_before(masks), read_receipts(masks)
    parts = {
        name: {case: entry for case, entry in made.items() if entry.receipt == name}
        for name in dict.fromkeys(entry.receipt for entry in made.values())
    }
    without = [name for name in parts if name not in receipts]
    if without or not parts:
        raise _nothing(masks)
    model, headers = _model_now(given)
    images = _images_now(given, headers)
    found = []
    for name, entries in parts.items():
        receipt = receipts[name]
        now = {} if model is None else {"model": model}
        further = {
            "masks": _as_they_were(entries, _masks_now(masks)),
            "images": _as_they_were({case: entry.inputs for case, entry in entries.items()}, images),
        }
        asked = asked_precision(str(receipt.options.get("precision", "auto")), headers) if headers else None
        found.append(Origin(f"{len(entries)} masks", receipt, now, further, asked))
    return found


def _as_they_were(
    then: Mapping[str, str] | Mapping[str, MadeMask], now: Mapping[str, Collection[str]] | None
) -> tuple[str, str | None]:
    """How many there were, and how many of them are the same still; None where nobody said where they are."""
    if now is None:
        return str(len(then)), None
    kept = sum(
        (entry.mask if isinstance(entry, MadeMask) else entry) in now.get(case, ()) for case, entry in then.items()
    )
    return str(len(then)), str(kept)


def _masks_now(masks: Path) -> dict[str, set[str]]:
    """Hashes of the masks of each case, one per format."""
    found: dict[str, set[str]] = {}
    for path in data_files(masks):
        found.setdefault(stem_of(path), set()).add(file_hash(path, 16))
    return found


def _model_now(given: Given) -> tuple[str | None, list[ModelHeader]]:
    """Hash of the model that would predict now, and its headers; None where there is none, no headers of a broken one.

    Raises AutosegError where models are named that are not there.
    """
    try:
        files, _ = choose_models(given.models, given.work)
    except AutosegError:
        if given.models:
            raise
        return None, []
    found = text_hash("".join(file_hash(file) for file in files), 16)
    try:
        return found, [read_header(file) for file in files]
    except AutosegError:
        return found, []


def _images_now(given: Given, headers: Sequence[ModelHeader]) -> dict[str, set[str]] | None:
    if given.data is None or not headers:
        return None
    channels = headers[0].channels
    cases, _ = find_inputs(given.data, len(channels), channels, may_lack=headers[0].channel_dropout > 0)
    return {case.id: {input_hash(case)} for case in cases}


# ---------------------------------------------------------------------------------------------------------- scores


def _of_evaluation(file: Path, given: Given) -> Origin:
    try:
        told = json.loads(file.read_text(encoding="utf-8")).get(RECEIPT)
    except (OSError, ValueError, AttributeError):
        told = None
    if told is None:
        raise _nothing(file)
    receipt = parse_record(json.dumps(told), Receipt, where=file)
    now: dict[str, str] = {}
    if given.data is not None:
        pairs, _ = pair_up(file.parent, given.data)
        if pairs:  # scores may lie elsewhere than the masks
            now = dict(zip(("masks", "references"), evaluated_hashes(pairs), strict=True))
    return Origin("scores", receipt, now)
