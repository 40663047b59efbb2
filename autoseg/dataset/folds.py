"""Splits of the cases into training and validation: nnU-Net's, number for number.

nnU-Net uses scikit-learn's shuffled KFold; the few lines of it that matter are written out here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from autoseg.errors import DatasetError, RecordError
from autoseg.files import write_text
from autoseg.records import Fold

SEED = 12345  # nnU-Net's
RANDOM_TRAINING_SHARE = 0.8


def make_folds(case_ids: Sequence[str], folds: int = 5, seed: int = SEED) -> tuple[Fold, ...]:
    """Cross-validation folds of the sorted case ids, equal to nnU-Net's for its seed.

    Fewer cases than folds give one fold per case (leave one out), where nnU-Net fails.
    Raises DatasetError for fewer than two cases or for an id that occurs twice.
    """
    ids = sorted(case_ids)
    require_usable(ids)
    count = min(max(folds, 2), len(ids))
    order = np.arange(len(ids))
    np.random.RandomState(seed).shuffle(order)
    made = []
    for held_out in np.array_split(order, count):  # the first folds get the remainder, as in KFold
        made.append(held_out_fold(ids, {ids[index] for index in held_out}))
    return tuple(made)


def require_usable(ids: Sequence[str]) -> None:
    """Raise DatasetError for fewer than two case ids or for one that occurs twice."""
    if len(ids) < 2:
        raise DatasetError(
            f"{len(ids)} usable labelled case: training and validation need at least two",
            remedy="Add labelled cases, or train with fold all.",
        )
    repeated = [case_id for case_id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise DatasetError(f"case ids occur twice: {', '.join(repeated[:5])}", remedy="Rename one file of each.")


def held_out_fold(ids: Sequence[str], chosen: Collection[str]) -> Fold:
    """The fold that validates on the chosen ids and trains on the others, both in the given order."""
    return Fold(
        train=tuple(case_id for case_id in ids if case_id not in chosen),
        val=tuple(case_id for case_id in ids if case_id in chosen),
    )


def fold_of(folds: Sequence[Fold], number: int | str, case_ids: Sequence[str]) -> Fold:
    """The fold of a number or "all".

    "all" trains and validates on every case. A number beyond the folds is nnU-Net's random 80:20 split, drawn with
    seed 12345 + number; there is none beyond folds that are not nnU-Net's, since it would part what they keep together.
    Raises DatasetError for anything else.
    """
    ids = sorted(case_ids)
    if number == "all":
        return Fold(train=tuple(ids), val=tuple(ids))
    text = str(number)
    if not text.isdecimal():
        raise DatasetError(f"{text!r} is not a fold", remedy=f"Folds are 0 to {len(folds) - 1}, and all.")
    index = int(text)
    if index < len(folds):
        return folds[index]
    if len(ids) < 2:
        raise DatasetError("a split needs at least two cases", remedy="Train with fold all.")
    if folds and tuple(folds) != make_folds(ids, len(folds)):
        raise DatasetError(
            f"there is no fold {index}: these folds were not drawn at random",
            remedy=f"Folds are 0 to {len(folds) - 1}, and all.",
        )
    chosen = np.random.RandomState(SEED + index).choice(len(ids), int(len(ids) * RANDOM_TRAINING_SHARE), replace=False)
    held_out = sorted(set(range(len(ids))) - set(chosen.tolist()))
    return Fold(train=tuple(ids[position] for position in chosen), val=tuple(ids[position] for position in held_out))


def write_splits(path: Path, folds: Sequence[Fold]) -> None:
    """Write folds as nnU-Net does: a JSON list of {"train": [ids], "val": [ids]}."""
    write_text(path, splits_text(folds))


def splits_text(folds: Sequence[Fold]) -> str:
    """What `write_splits` writes."""
    return json.dumps([{"train": list(fold.train), "val": list(fold.val)} for fold in folds], indent=2) + "\n"


def read_splits(path: Path) -> tuple[Fold, ...]:
    """Folds of a splits file (ours or nnU-Net's splits_final.json). Raises RecordError."""
    remedy = 'It should be a list of {"train": [case ids], "val": [case ids]}.'
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise RecordError("does not exist", where=path) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"is not valid JSON ({error})", where=path, remedy=remedy) from error
    if not isinstance(record, list) or not record:
        raise RecordError("holds no list of folds", where=path, remedy=remedy)
    return tuple(_fold(entry, number, path, remedy) for number, entry in enumerate(record))


def _fold(entry: object, number: int, path: Path, remedy: str) -> Fold:
    parts = {}
    for part in ("train", "val"):
        ids = entry.get(part) if isinstance(entry, dict) else None
        if not isinstance(ids, list) or not all(isinstance(case_id, str) for case_id in ids):
            raise RecordError(f"field {number}.{part}: it is not a list of case ids", where=path, remedy=remedy)
        parts[part] = tuple(ids)
    return Fold(train=parts["train"], val=parts["val"])
