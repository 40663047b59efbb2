"""metrics.jsonl is kept: only a torn last line is cut off, and what a newer version wrote stays in its lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoseg.errors import RecordError
from autoseg.pipeline.epoch_log import add_epoch, kept_epochs, read_epochs
from autoseg.records import EpochRecord

TORN = '{"epoch": 2, "ste'


def record_of(epoch: int, loss: float = 1.0) -> EpochRecord:
    return EpochRecord(epoch, epoch + 1, 1.0, 0.01, 0.1, loss, 0.5, {"a": 0.5}, 4.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of two epochs."""
    records: list[EpochRecord] = []
    for epoch in range(2):
        add_epoch(tmp_path / "metrics.jsonl", records, record_of(epoch))
    return tmp_path / "metrics.jsonl"


def with_field(line: str, **fields: object) -> str:
    return json.dumps(json.loads(line) | fields)


def test_an_epoch_that_is_made_again_replaces_its_line(path: Path) -> None:
    records = kept_epochs(path, 9)
    for epoch, loss in ((2, 3.0), (1, 4.0)):
        add_epoch(path, records, record_of(epoch, loss))
    assert [(record.epoch, record.train_loss) for record in records] == [(0, 1.0), (1, 4.0)]
    assert [record.train_loss for record in read_epochs(path)] == [1.0, 4.0]


def test_a_line_torn_by_a_kill_is_cut_off(path: Path) -> None:
    whole = path.read_text()
    path.write_text(whole + TORN)
    assert [record.epoch for record in read_epochs(path)] == [0, 1]
    assert path.read_text() == whole + TORN  # reading changes nothing
    records = kept_epochs(path, 9)
    assert path.read_text() == whole
    add_epoch(path, records, record_of(2))
    assert [record.epoch for record in read_epochs(path)] == [0, 1, 2]


def test_epochs_after_the_saved_state_are_cut_off(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert [record.epoch for record in kept_epochs(path, 1)] == [0]
    assert path.read_text() == first + "\n"


def test_what_a_newer_version_wrote_stays_and_is_passed_over(path: Path) -> None:
    first, second = path.read_text().splitlines()
    path.write_text(f"{with_field(first, gradient_norm=3.5)}\n{second}\n")
    assert [record.epoch for record in read_epochs(path)] == [0, 1]
    records = kept_epochs(path, 9)
    add_epoch(path, records, record_of(1, 4.0))  # training went back an epoch
    assert [record.train_loss for record in read_epochs(path)] == [1.0, 4.0]
    assert json.loads(path.read_text().splitlines()[0])["gradient_norm"] == 3.5


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (TORN, "is not valid JSON"),
        ('{"epoch": 0}', "is no record of an epoch (step: Field required)"),
        ("12", "is no record of an epoch"),
    ],
)
def test_any_other_broken_line_is_named_and_nothing_is_lost(path: Path, line: str, why: str) -> None:
    first, second = path.read_text().splitlines()
    content = f"{first}\n{line}\n{second}\n"
    path.write_text(content)
    for reading in (read_epochs, lambda path: kept_epochs(path, 9)):
        with pytest.raises(RecordError) as caught:
            reading(path)
        assert str(caught.value).startswith(f"{path}: line 2 {why}")
    assert path.read_text() == content


def test_a_whole_last_line_that_is_no_record_is_no_torn_one(path: Path) -> None:
    path.write_text(path.read_text() + '{"epoch": 2}\n')
    with pytest.raises(RecordError, match="line 3 is no record of an epoch"):
        read_epochs(path)


def test_no_log_is_no_epoch(tmp_path: Path) -> None:
    assert read_epochs(tmp_path / "metrics.jsonl") == []
    assert kept_epochs(tmp_path / "metrics.jsonl", 3) == []
    assert not (tmp_path / "metrics.jsonl").exists()
