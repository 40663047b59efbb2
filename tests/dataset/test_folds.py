from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.dataset.folds import fold_of, make_folds, read_splits, write_splits
from autoseg.errors import DatasetError, RecordError


def test_folds_are_nnunets(shared: Path) -> None:
    golden = json.loads((shared / "golden/fingerprints/Dataset004_Hippocampus_splits_final.json").read_text())
    ids = [case_id for part in golden[0].values() for case_id in part]
    folds = make_folds(ids[::-1])
    assert [{"train": list(fold.train), "val": list(fold.val)} for fold in folds] == golden


def test_ten_cases_by_hand() -> None:
    folds = make_folds([f"c{number:02d}" for number in range(10)])
    assert [fold.val for fold in folds] == [
        ("c00", "c07"), ("c03", "c09"), ("c04", "c06"), ("c01", "c08"), ("c02", "c05"),
    ]  # fmt: skip


@given(st.integers(2, 40), st.integers(2, 8), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_each_case_is_held_out_once(cases: int, folds: int, seed: int) -> None:
    ids = [f"case_{number}" for number in range(cases)]
    made = make_folds(ids, folds, seed)
    assert len(made) == min(cases, folds)
    assert sorted(case_id for fold in made for case_id in fold.val) == sorted(ids)
    assert all(sorted(fold.train + fold.val) == sorted(ids) and fold.train for fold in made)
    assert max(len(fold.val) for fold in made) - min(len(fold.val) for fold in made) <= 1


def test_too_few_or_repeated_cases() -> None:
    with pytest.raises(DatasetError, match="at least two"):
        make_folds(["a"])
    with pytest.raises(DatasetError, match="twice: b"):
        make_folds(["a", "b", "b"])
    assert sorted(fold.val for fold in make_folds(["b", "a", "c"])) == [("a",), ("b",), ("c",)]


def test_folds_by_number() -> None:
    ids = [f"c{number:02d}" for number in range(10)]
    folds = make_folds(ids)
    assert fold_of(folds, 1, ids) == folds[1]
    assert fold_of(folds, "1", ids) == folds[1]
    assert fold_of(folds, "all", ids).train == fold_of(folds, "all", ids).val == tuple(ids)
    drawn = fold_of(folds, 7, ids)
    chosen = np.random.RandomState(12352).choice(10, 8, replace=False)
    assert drawn.train == tuple(ids[index] for index in chosen)
    assert sorted(drawn.train + drawn.val) == ids
    for wrong in ("x", "-1", -1):
        with pytest.raises(DatasetError, match="not a fold"):
            fold_of(folds, wrong, ids)


def test_splits_on_disk(tmp_path: Path) -> None:
    folds = make_folds(["a", "b", "c", "d", "e", "f"])
    write_splits(tmp_path / "splits.json", folds)
    assert read_splits(tmp_path / "splits.json") == folds
    for text in ("", "[]", "{}", '[{"train": ["a"]}]', '[{"train": ["a"], "val": [1]}]'):
        (tmp_path / "splits.json").write_text(text)
        with pytest.raises(RecordError, match=r"splits\.json"):
            read_splits(tmp_path / "splits.json")
    with pytest.raises(RecordError, match="exist"):
        read_splits(tmp_path / "absent.json")
