from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoseg.dataset.folds import fold_of, make_folds, write_splits
from autoseg.dataset.split_files import read_fixed_folds
from autoseg.errors import AutosegError, DatasetError
from autoseg.records import Fold

IDS = ("a", "b", "c", "d")
TWO = (Fold(train=("c", "d"), val=("a", "b")), Fold(train=("a", "b"), val=("c", "d")))


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("splits_final.json", [{"train": ["c", "d"], "val": ["a", "b"]}, {"train": ["a", "b"], "val": ["c", "d"]}]),
        ("folds.json", {"d": 1, "a": 0, "b": 0, "c": 1}),
        ("folds.csv", "case,fold\na,0\nb,0\nc,1\nd,1\n"),
        ("folds.tsv", "fold\tcase\n0\ta\n0\tb\n1\tc\n1\td\n"),
    ],
)
def test_every_form_gives_the_same_folds(tmp_path: Path, name: str, content: object) -> None:
    assert read_fixed_folds(write(tmp_path / name, content), IDS) == (TWO, ())


def test_folds_counted_from_one_and_gaps_are_told(tmp_path: Path) -> None:
    folds, notes = read_fixed_folds(write(tmp_path / "f.csv", "case,fold\na,1\nb,1\nc,2\nd,2\n"), IDS)
    assert folds == TWO
    assert notes == ("f.csv counts folds from 1: they are 0 to 1 here",)
    partial = [{"train": ["c"], "val": ["a", "b"]}, {"train": ["a", "b"], "val": ["c", "d"]}]
    _, notes = read_fixed_folds(write(tmp_path / "p.json", partial), IDS)
    assert notes == ("fold 0 of p.json leaves out 1 case: d",)


def test_cases_that_cannot_be_used_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "f.json", {"a": 0, "b": 0, "c": 1, "d": 1, "bad": 1})
    with pytest.raises(DatasetError, match="does not have: bad"):
        read_fixed_folds(path, IDS)
    assert read_fixed_folds(path, IDS, left_out=("bad",)) == (TWO, ())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.json", [{"train": ["a", "b", "x", "y"], "val": ["c", "d"]}], "2 cases that the .* does not have: x, y"),
        ("f.json", [{"train": ["a"], "val": ["c", "d"]}], "1 case of the dataset in no fold: b"),
        ("f.json", [{"train": ["a", "b", "d"], "val": ["c", "d"]}], "fold 0 has 1 case in both train and val: d"),
        ("f.json", [{"train": ["a", "b", "b"], "val": ["c", "d"]}], "lists cases twice in train: b"),
        ("f.json", [{"train": ["a", "b", "c", "d"], "val": []}], "no case in val"),
        ("f.json", [{"train": ["a", "b"]}], "0.val"),
        ("f.json", {"a": 0, "b": 1, "c": "2", "d": 1}, "'c' has fold '2'"),
        ("f.json", {"a": 0, "b": 2, "c": 2, "d": 0}, "its folds are 0, 2"),
        ("f.json", {"a": 0, "b": 0, "c": 0, "d": 0}, "its folds are 0"),
        ("f.json", "{", "not valid JSON"),
        ("f.csv", "case,fold\na,x\n", "line 2: case 'a' has fold 'x'"),
        ("f.csv", "case,fold\na,0\na,1\n", "line 3: case 'a' is listed twice"),
        ("f.csv", "case,fold\n", "its folds are none"),
        ("f.csv", "id,fold\na,1\n", "without the columns case and fold"),
    ],
)  # fmt: skip
def test_faults_are_named(tmp_path: Path, name: str, content: object, message: str) -> None:
    with pytest.raises(AutosegError, match=message):
        read_fixed_folds(write(tmp_path / name, content), IDS)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        read_fixed_folds(tmp_path / "splits.json", IDS)


def test_nnunets_own_file_is_read(shared: Path) -> None:
    path = shared / "golden/fingerprints/Dataset004_Hippocampus_splits_final.json"
    ids = [case_id for part in json.loads(path.read_text())[0].values() for case_id in part]
    folds, notes = read_fixed_folds(path, ids)
    assert folds == make_folds(ids)
    assert notes == ()


def test_random_splits_exist_only_beyond_random_folds(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.json", TWO)
    folds, _ = read_fixed_folds(tmp_path / "splits.json", IDS)
    assert fold_of(folds, 1, IDS) == TWO[1]
    with pytest.raises(DatasetError, match="no fold 2"):
        fold_of(folds, 2, IDS)
