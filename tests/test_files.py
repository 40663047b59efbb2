from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from autoseg.errors import DiskFullError, RecordError
from autoseg.files import aside_name, left_aside, read_record, write_json, write_record, written_aside
from autoseg.records import Fold, ModelHeader, Record


class Sample(Record):
    format: int = 2
    name: str
    size: int = 1


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})

    def fail_half_way() -> None:
        with written_aside(path) as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


def test_a_full_disk_is_told_with_the_free_space(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="MB are free"), written_aside(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with written_aside(tmp_path / "case") as aside:
        aside.mkdir()
        (aside / "one").write_text("1")
        assert not (tmp_path / "case").exists()
    assert (tmp_path / "case" / "one").read_text() == "1"


def test_what_was_left_of_a_file_is_told_from_what_was_left_of_others(tmp_path: Path) -> None:
    mine, others = aside_name(tmp_path / "b.nii.gz"), aside_name(tmp_path / "a-b.nii.gz")
    for path in (mine, others):
        path.write_text("half")
    assert list(left_aside(tmp_path / "b.nii.gz")) == [mine]
    assert list(left_aside(tmp_path / "a-b.nii.gz")) == [others]


def test_records_come_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "fold.json"
    fold = Fold(train=("a", "b"), val=("c",))
    write_record(path, fold)
    assert read_record(path, Fold) == fold


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"name": "x", "size": "large", "format": 2}', "size"),
        ('{"format": 2}', "name"),
        ('{"name": "x", "colour": 1, "format": 2}', "colour"),
        ('{"name": "x", "format": 3}', "Update autoseg"),
        ('{"name": "x", "format": 1}', "Make it anew"),
        ('{"name": ', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_broken_record_names_file_and_field(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "sample.json"
    path.write_text(text)
    with pytest.raises(RecordError) as caught:
        read_record(path, Sample)
    assert told in str(caught.value)
    assert "sample.json" in str(caught.value)


def test_a_missing_record_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="does not exist"):
        read_record(tmp_path / "none.json", ModelHeader)
