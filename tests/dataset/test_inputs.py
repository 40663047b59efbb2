from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoseg.dataset.inputs import find_inputs
from autoseg.errors import DatasetError

Fill = Callable[..., Path]


@pytest.fixture
def fill(tmp_path: Path, save_nifti: Callable[..., Path]) -> Fill:
    def build(*names: str) -> Path:
        for name in names:
            save_nifti(tmp_path / "in" / name, np.zeros((3, 4, 5), np.int16))
        return tmp_path / "in"

    return build


def test_a_file(fill: Fill) -> None:
    cases, problems = find_inputs(fill("a.nii.gz") / "a.nii.gz", 1)
    assert [case.id for case in cases] == ["a"]
    assert problems == []
    cases, _ = find_inputs(fill("b_0000.nii.gz") / "b_0000.nii.gz", 1)
    assert [case.id for case in cases] == ["b"]


def test_a_folder_with_and_without_channel_numbers(fill: Fill) -> None:
    folder = fill("a_0000.nii.gz", "b_0000.nii")
    (folder / "._a_0000.nii.gz").write_bytes(b"x")
    (folder / "notes.doc").write_bytes(b"x")
    cases, problems = find_inputs(folder, 1)
    assert [case.id for case in cases] == ["a", "b"]
    assert [problem.kind for problem in problems] == ["unknown-file"]
    fill("c.nii.gz")
    assert [case.id for case in find_inputs(folder, 1)[0]] == ["a_0000", "b_0000", "c"]


def test_numbered_cases_of_a_single_channel_stay_cases(fill: Fill) -> None:
    cases, (note,) = find_inputs(fill("scan_0000.nii.gz", "scan_0001.nii.gz", "scan_0002.nii.gz"), 1)
    assert (note.severity, note.kind) == ("note", "file-names")
    assert [case.id for case in cases] == ["scan_0000", "scan_0001", "scan_0002"]


def test_a_missing_channel_keeps_one_case_out(fill: Fill) -> None:
    cases, (problem,) = find_inputs(fill("a_0000.nii", "a_0001.nii", "b_0001.nii"), 2, ("FLAIR", "T1"))
    assert [case.id for case in cases] == ["a"]
    assert (problem.case, problem.kind) == ("b", "missing-channel")
    assert problem.what == "the model needs FLAIR, T1; this case has only T1, and lacks FLAIR"
    assert problem.file is not None
    assert problem.file.name == "b_0000.nii"


def test_a_file_with_too_few_or_too_many_channels(fill: Fill) -> None:
    _, (problem,) = find_inputs(fill("a.nii.gz"), 2, ("FLAIR", "T1"))
    assert "this case has 1 channel" in problem.what
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(fill() / "x.png")
    cases, _ = find_inputs(fill() / "x.png", 3)
    assert [case.id for case in cases] == ["x"]
    _, (problem,) = find_inputs(fill() / "x.png", 1)
    assert problem.kind == "channel-count"


def test_unreadable_and_duplicated_files_keep_the_others(fill: Fill) -> None:
    folder = fill("a.nii", "b.nii.gz", "b.nii")
    (folder / "c.nii.gz").write_bytes(b"half a file")
    cases, problems = find_inputs(folder, 1)
    assert [case.id for case in cases] == ["a"]
    assert sorted(problem.kind for problem in problems) == ["duplicated-id", "unreadable"]


def test_patient_folders(fill: Fill) -> None:
    folder = fill("P1/P1-t1.nii.gz", "P1/P1-flair.nii.gz", "P1/P1-seg.nii.gz", "P2/P2-t1.nii.gz")
    cases, (problem,) = find_inputs(folder, 2, ("flair", "t1"))
    assert [path.name for path in cases[0].images] == ["P1-flair.nii.gz", "P1-t1.nii.gz"]
    assert problem.case == "P2"


def test_lists(fill: Fill, tmp_path: Path) -> None:
    fill("x.nii", "y.nii", "z.nii")
    table = "case,channel,path\np1,FLAIR,in/x.nii\np1,1,in/y.nii\np2,0,in/z.nii\np3,T1,in/z.nii\n"
    (tmp_path / "list.csv").write_text(table, encoding="utf-8-sig")
    cases, problems = find_inputs(tmp_path / "list.csv", 2, ("FLAIR", "T1"))
    assert [case.id for case in cases] == ["p1"]
    assert [path.name for path in cases[0].images] == ["x.nii", "y.nii"]
    assert [(problem.case, problem.kind) for problem in problems] == [
        ("p2", "missing-channel"),
        ("p3", "missing-channel"),
    ]
    entries = [
        {"case": "q", "path": str(tmp_path / "in" / "x.nii")},
        {"case": "r", "channel": 0, "path": "in/absent.nii"},
    ]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    cases, (problem,) = find_inputs(tmp_path / "list.json", 1)
    assert [case.id for case in cases] == ["q"]
    assert problem.kind == "missing-image"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,channel,path\np1,T9,x.nii\n", "not a channel"),
        ("case,channel,path\np1,0,\n", "no path"),
        ("case,channel,path\n../p1,0,x.nii\n", "case id"),
        ("case,channel,path\np1,0,x.nii\np1,T1,y.nii\n", "given twice"),
        ("case,channel,path\n", "not a list"),
    ],
)
def test_bad_lists(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        find_inputs(tmp_path / "list.csv", 1, ("T1",))


def test_nothing_to_predict(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        find_inputs(tmp_path / "absent", 1)
    with pytest.raises(DatasetError, match="no image"):
        find_inputs(tmp_path, 1)
    (tmp_path / "a.doc").write_bytes(b"x")
    with pytest.raises(DatasetError, match="ending"):
        find_inputs(tmp_path / "a.doc", 1)
    (tmp_path / "list.json").write_text("{}")
    with pytest.raises(DatasetError, match="list"):
        find_inputs(tmp_path / "list.json", 1)
