"""Where the receipt of each kind of result is, and what its inputs and results hash to now."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from autoseg.dataset.inputs import find_inputs
from autoseg.dataset.naming import data_files
from autoseg.dataset.pairing import pair_up
from autoseg.dataset.readers import stem_of
from autoseg.errors import AutosegError, UsageError
from autoseg.evaluation.summary import RECEIPT
from autoseg.files import file_hash, parse_record, text_hash
from autoseg.inference.joining import asked_precision
from autoseg.model_file import read_header
from autoseg.pipeline.choosing_model import choose_models
from autoseg.pipeline.evaluate import evaluated_hashes
from autoseg.pipeline.mask_account import PREDICTIONS, MadeMask, made_before
from autoseg.pipeline.mask_folder import input_hash, read_receipts
from autoseg.pipeline.origin import Given, Origin, no_receipt
from autoseg.pipeline.work_origins import of_model, of_plan, of_prepared, of_run, run_of
from autoseg.records import ModelHeader, Receipt
from autoseg.workspace import Workspace


def origins(result: Path, given: Given) -> list[Origin]:
    """The receipts of a result. Raises UsageError where it has none, RecordError for one that is damaged."""
    if not result.exists():
        raise UsageError("does not exist", where=result, remedy="Name a result of autoseg, such as a folder of masks.")
    if result.is_dir():
        return _of_folder(result, given)
    if result.suffix == ".safetensors":
        return [of_model(result, given)]
    if result.name.startswith("plan") and result.suffix == ".json":
        return [of_plan(Workspace(result.parent), result, given)]
    if result.suffix == ".json":
        return [_of_evaluation(result, given)]
    raise no_receipt(result)


def _of_folder(folder: Path, given: Given) -> list[Origin]:
    whole = folder.resolve()
    if (folder / PREDICTIONS).exists():
        return _of_masks(folder, given)
    if (folder / "settings.json").exists() and len(whole.parents) > 3:
        return [of_run(run_of(whole), given)]
    if whole.parent.name == "prepared":
        return [of_prepared(whole, given)]
    if (folder / "plan.json").exists():
        return [of_plan(Workspace(folder), folder / "plan.json", given)]
    raise no_receipt(folder)


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
        raise no_receipt(masks)
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
        raise no_receipt(file)
    receipt = parse_record(json.dumps(told), Receipt, where=file)
    now: dict[str, str] = {}
    if given.data is not None:
        pairs, _ = pair_up(file.parent, given.data)
        if pairs:  # scores may lie elsewhere than the masks
            now = dict(zip(("masks", "references"), evaluated_hashes(pairs), strict=True))
    return Origin("scores", receipt, now)
