from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoseg.dataset.groups import patient_groups
from autoseg.errors import DatasetError

IDS = ["a1", "a2", "b1", "c1"]


def declare(root: Path, text: str) -> Path:
    (root / "groups.csv").write_text(text, encoding="utf-8")
    return root


def test_nothing_declared_and_nothing_seen(tmp_path: Path) -> None:
    assert patient_groups(tmp_path, IDS) is None
    (tmp_path / "dataset.json").write_text('{"labels": {}}')
    assert patient_groups(tmp_path, IDS) is None


@pytest.mark.parametrize(
    "text",
    [
        "case,patient\na1,anna\na2,anna\nb1,bob\nc1,carl\n",
        "\ufeffPatient; Case ;age\r\nanna;a1;40\r\nanna; a2;40\r\n\r\nbob;b1;3\r\ncarl;c1;7\r\n",
    ],
)
def test_a_table_decides(tmp_path: Path, text: str) -> None:
    groups = patient_groups(declare(tmp_path, text), IDS)
    assert groups is not None
    assert groups.shared == {"anna": ("a1", "a2")}
    assert (groups.rule, groups.notes) == ("groups.csv", ())


def test_dataset_json_decides(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"groups": {"a1": 7, "a2": 7, "b1": "8", "c1": "9"}}))
    groups = patient_groups(tmp_path, IDS)
    assert groups is not None
    assert groups.shared == {"7": ("a1", "a2")}


def test_a_declaration_overrules_the_ids(tmp_path: Path) -> None:
    ids = ["P1_visit1", "P1_visit2", "P2_visit1"]
    assert patient_groups(tmp_path, ids) is not None
    text = "case,patient\n" + "".join(f"{case_id},{case_id}\n" for case_id in ids)
    assert patient_groups(declare(tmp_path, text), ids) is None


def test_gaps_and_strangers_are_told(tmp_path: Path) -> None:
    groups = patient_groups(declare(tmp_path, "case,patient\na1,b1\na2,b1\nzz,q\n"), IDS)
    assert groups is not None
    assert groups.shared == {"b1": ("a1", "a2")}  # the case b1 is not the patient b1
    assert [note.split(" names ")[1] for note in groups.notes] == [
        "no patient for b1, c1: each is taken as a patient of its own",
        "patients of cases that are not in use: zz",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,patient\na1,x\n", "without the columns case and patient"),
        ("", "without the columns"),
        ("case,patient\na1,\n", "line 2: case 'a1' has no patient"),
        ("case,patient\na1,x\na1,y\n", "line 3: case 'a1' is given two patients, x and y"),
    ],
)
def test_broken_tables_are_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        patient_groups(declare(tmp_path, text), IDS)


def test_broken_objects_and_two_declarations_are_errors(tmp_path: Path) -> None:
    record = tmp_path / "dataset.json"
    record.write_text('{"groups": ["a1"]}')
    with pytest.raises(DatasetError, match="field groups"):
        patient_groups(tmp_path, IDS)
    record.write_text('{"groups": {"a1": "x"}}')
    declare(tmp_path, "case,patient\na1,x\n")
    with pytest.raises(DatasetError, match="Keep one"):
        patient_groups(tmp_path, IDS)
