from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.checks import check_case
from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_image
from autoseg.errors import DatasetError

Save = Callable[..., Path]
TABLE = {"background": 0, "liver": 1, "spleen": 2, "kidney": 5}


def build(root: Path, save: Save, annotated: object = None, labels: dict[str, object] | None = None) -> Path:
    values = np.zeros((4, 5, 6), np.uint8)
    values[1:3, 1:3, 1:3] = 1
    values[3, 3, 3] = 5
    for case in ("a", "b", "c"):
        save(root / "imagesTr" / f"{case}.nii.gz", np.ones((4, 5, 6), np.int16))
        save(root / "labelsTr" / f"{case}.nii.gz", values)
    record: dict[str, object] = {"channel_names": ["CT"], "labels": labels or TABLE}
    if annotated is not None:
        record["annotated"] = annotated
    (root / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    return root


def annotated_of(root: Path) -> list[tuple[str, ...] | None]:
    return [case.annotated for case in open_dataset(root).cases]


def test_in_dataset_json(tmp_path: Path, save_nifti: Save) -> None:
    told = {"a": ["kidney", "liver"], "b": ["liver", "kidney", "spleen"]}
    assert annotated_of(build(tmp_path, save_nifti, told)) == [("liver", "kidney"), None, None]


def test_in_a_table(tmp_path: Path, save_nifti: Save) -> None:
    root = build(tmp_path, save_nifti)
    (root / "annotated.csv").write_text("case,labels\na,liver; kidney\nc,\n", encoding="utf-8-sig")
    assert annotated_of(root) == [("liver", "kidney"), None, ()]


def test_unions_of_what_was_drawn_are_known(tmp_path: Path, save_nifti: Save) -> None:
    labels = {**TABLE, "organs": "liver + spleen", "all": "organs + kidney"}
    root = build(tmp_path, save_nifti, {"a": ["liver", "spleen"], "b": ["liver", "kidney"]}, labels)
    assert annotated_of(root) == [("liver", "spleen", "organs"), ("liver", "kidney"), None]


@pytest.mark.parametrize(
    ("annotated", "message"),
    [
        ({"x": ["liver"]}, "dataset.json: field annotated.x: there is no such case"),
        ({"a": ["lever"]}, "field annotated.a: 'lever' is no label; labels are liver, spleen, kidney"),
        ({"a": "liver"}, "field annotated.a: it should be a list"),
        (["a"], "field annotated: it should be"),
    ],
)
def test_mistakes_in_dataset_json(annotated: object, message: str, tmp_path: Path, save_nifti: Save) -> None:
    with pytest.raises(DatasetError, match=message):
        open_dataset(build(tmp_path, save_nifti, annotated))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,labels\nx,liver\n", "annotated.csv: case x: there is no such case"),
        ("case,labels\na,lever\n", "case a: 'lever' is no label"),
        ("case,labels\na,liver\na,liver\n", "line 3: case 'a' is there twice"),
        ("case,labels\na,liver,spleen\n", "line 2 has more than two cells"),
        ("a,liver\n", "has the columns a, liver"),
    ],
)
def test_mistakes_in_the_table(text: str, message: str, tmp_path: Path, save_nifti: Save) -> None:
    root = build(tmp_path, save_nifti)
    (root / "annotated.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        open_dataset(root)


def test_only_one_may_say_it(tmp_path: Path, save_nifti: Save) -> None:
    root = build(tmp_path, save_nifti, {"a": ["liver"]})
    (root / "annotated.csv").write_text("case,labels\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="and so does `annotated`"):
        open_dataset(root)


def test_voxels_of_what_was_not_drawn_are_an_error(tmp_path: Path, save_nifti: Save) -> None:
    dataset = open_dataset(build(tmp_path, save_nifti, {"a": ["liver"], "b": ["liver", "kidney"]}))
    problems = []
    for case in dataset.cases:
        label_map = read_case_labels(case, dataset.labels)
        found = check_case(case, read_image(case.images), label_map, dataset.labels)
        problems += [problem for problem in found if problem.severity == "error"]
    (problem,) = problems
    assert (problem.kind, problem.case) == ("not-annotated", "a")
    assert "kidney (1 voxel)" in problem.what
