"""Fixed splits that a person gives: nnU-Net's splits_final.json, or the fold of every case as JSON or CSV."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from autoseg.dataset.folds import held_out_fold, read_splits
from autoseg.dataset.groups import read_columns
from autoseg.dataset.leaks import listed
from autoseg.errors import DatasetError
from autoseg.records import Fold

_COLUMNS = ("case", "fold")
_REMEDY = (
    'Give nnU-Net\'s list [{"train": [case ids], "val": [case ids]}, …], an object {"case id": fold, …}, '
    "or a CSV with the columns case and fold."
)


def read_fixed_folds(
    path: Path, case_ids: Collection[str], left_out: Collection[str] = ()
) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """The folds in a file, checked against the cases of the dataset, and notes on them.

    Args:
        path: a JSON or CSV file.
        case_ids: the cases that the folds are for.
        left_out: cases of the dataset that cannot be used; the file may name them.

    Raises:
        DatasetError: the file has no such form, a fold has a case in both parts or twice or an empty part, a case is
            unknown, or one is in no fold at all. The cases are named.
        RecordError: the file is not valid JSON, or a fold of its list is broken.
    """
    if not path.is_file():
        raise DatasetError("does not exist", where=path, remedy="Give the file with the splits.")
    if path.suffix.lower() in (".csv", ".tsv"):
        folds, notes = _from_numbers(_numbers_in_table(path), path)
    else:
        folds, notes = _from_json(path)
    _require_known(folds, {*case_ids, *left_out}, path)
    kept = tuple(_without(fold, left_out) for fold in folds)
    for number, fold in enumerate(kept):
        _require_sound(fold, number, case_ids, path)
    return kept, notes + _completeness(kept, case_ids, path)


def require_sound(fold: Fold, number: int, case_ids: Collection[str], path: Path) -> None:
    """Raise DatasetError where a fold of a file names an unknown case, has one in both parts or twice, or lacks a part.

    A person may have edited it: a held-out case that is trained on as well would be scored far too well.
    """
    _require_known((fold,), case_ids, path)
    _require_sound(fold, number, case_ids, path)


def _from_json(path: Path) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"is not valid JSON ({error})", where=path, remedy=_REMEDY) from error
    if not isinstance(record, dict) or not record:
        return read_splits(path), ()
    numbers = {}
    for case_id, number in record.items():
        if not isinstance(number, int) or isinstance(number, bool):
            raise DatasetError(f"case {case_id!r} has fold {number!r}, which is no number", where=path, remedy=_REMEDY)
        numbers[case_id] = number
    return _from_numbers(numbers, path)


def _numbers_in_table(path: Path) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for line, (case_id, text) in read_columns(path, _COLUMNS):
        if not text.isdecimal():
            raise DatasetError(f"line {line}: case {case_id!r} has fold {text!r}, which is no number", where=path)
        if case_id in numbers:
            raise DatasetError(f"line {line}: case {case_id!r} is listed twice", where=path, remedy="Remove one line.")
        numbers[case_id] = int(text)
    return numbers


def _from_numbers(numbers: Mapping[str, int], path: Path) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Folds that hold out the cases with their number."""
    found = sorted(set(numbers.values()))
    first = found[0] if found else 0
    if len(found) < 2 or first not in (0, 1) or found != list(range(first, first + len(found))):
        raise DatasetError(
            f"its folds are {', '.join(map(str, found)) or 'none'}",
            where=path,
            remedy="Number at least two folds 0, 1, 2, … without gaps.",
        )
    ids = sorted(numbers)
    folds = tuple(held_out_fold(ids, {case_id for case_id in ids if numbers[case_id] == number}) for number in found)
    return folds, (f"{path.name} counts folds from 1: they are 0 to {len(found) - 1} here",) if first else ()


def _require_known(folds: tuple[Fold, ...], known: Collection[str], path: Path) -> None:
    named = {case_id for fold in folds for case_id in (*fold.train, *fold.val)}
    unknown = tuple(sorted(named - set(known)))
    if unknown:
        raise DatasetError(
            f"it names {_cases(unknown)} that the dataset does not have: {listed(unknown)}",
            where=path,
            remedy="Use the ids that `autoseg check` shows: file names without channel number and ending.",
        )


def _without(fold: Fold, left_out: Collection[str]) -> Fold:
    return Fold(
        train=tuple(case_id for case_id in fold.train if case_id not in left_out),
        val=tuple(case_id for case_id in fold.val if case_id not in left_out),
    )


def _require_sound(fold: Fold, number: int, case_ids: Collection[str], path: Path) -> None:
    both = tuple(sorted(set(fold.train) & set(fold.val)))
    if both:
        raise DatasetError(
            f"fold {number} has {_cases(both)} in both train and val: {listed(both)}",
            where=path,
            remedy="Keep each case in one of them.",
        )
    for part, ids in (("train", fold.train), ("val", fold.val)):
        repeated = tuple(sorted(case_id for case_id, count in Counter(ids).items() if count > 1))
        if repeated:
            raise DatasetError(f"fold {number} lists cases twice in {part}: {listed(repeated)}", where=path)
        if not ids and (part == "train" or len(case_ids) > 1):  # of a single case nothing can be held out
            raise DatasetError(f"fold {number} has no case in {part}", where=path, remedy="Give it at least one.")


def _completeness(folds: tuple[Fold, ...], case_ids: Collection[str], path: Path) -> tuple[str, ...]:
    """Notes on folds that leave cases out; raises DatasetError for cases that no fold has."""
    used = [{*fold.train, *fold.val} for fold in folds]
    absent = tuple(sorted(set(case_ids).difference(*used)))
    if absent:
        raise DatasetError(
            f"{_cases(absent)} of the dataset in no fold: {listed(absent)}",
            where=path,
            remedy="Add them, or take their files out of the dataset.",
        )
    gaps = [(number, tuple(sorted(set(case_ids) - ids))) for number, ids in enumerate(used)]
    return tuple(
        f"fold {number} of {path.name} leaves out {_cases(missing)}: {listed(missing)}"
        for number, missing in gaps
        if missing
    )


def _cases(names: tuple[str, ...]) -> str:
    return "1 case" if len(names) == 1 else f"{len(names)} cases"
