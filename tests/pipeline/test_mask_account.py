"""The account of a folder of masks, small or large, through kills at any moment."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from autoseg.errors import DiskFullError
from autoseg.files import read_record
from autoseg.pipeline import mask_account
from autoseg.pipeline.mask_account import JOURNAL, PREDICTIONS, MadeMask, Predictions, enter, made_before, settle


def entry(number: int) -> MadeMask:
    return MadeMask(model="m", options="o", inputs="i", mask=f"{number:04d}")


def entered(masks: Path, numbers: range) -> dict[str, MadeMask]:
    made = made_before(masks)
    for number in numbers:
        enter(masks, made, f"case_{number}", entry(number))
    return made


@pytest.fixture
def soon_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_account, "LARGE_BYTES", 1000)


def test_a_small_account_is_one_file(tmp_path: Path) -> None:
    made = entered(tmp_path, range(20))
    assert [path.name for path in tmp_path.iterdir()] == [PREDICTIONS]
    assert made_before(tmp_path) == made


def test_every_mask_stands_in_the_account_when_it_is_entered(soon_large: None, tmp_path: Path) -> None:
    made: dict[str, MadeMask] = {}
    for number in range(100):
        enter(tmp_path, made, f"case_{number % 70}", entry(number))  # some are made again
        assert made_before(tmp_path) == made
    settle(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [PREDICTIONS]
    assert read_record(tmp_path / PREDICTIONS, Predictions).masks == made


def test_what_is_written_grows_as_the_masks_do(
    soon_large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    real = mask_account.write_record
    monkeypatch.setattr(
        mask_account, "write_record", lambda path, record: (written.append(len(record.masks)), real(path, record))
    )
    entered(tmp_path, range(400))
    assert sum(written) < 4 * 400  # written whole each time it were 80,200
    assert made_before(tmp_path).keys() == {f"case_{number}" for number in range(400)}


def test_a_line_that_was_torn_is_left_out_and_the_next_ones_are_read(soon_large: None, tmp_path: Path) -> None:
    made = entered(tmp_path, range(20))
    journal = tmp_path / JOURNAL
    lines = journal.read_text().splitlines()
    assert len(lines) > 3
    last = next(case for case in made if f'"case":"{case}"' in lines[-1])
    journal.write_text("\n".join([*lines[:-1], lines[-1][:30]]))
    assert made_before(tmp_path) == {case: found for case, found in made.items() if case != last}
    made = entered(tmp_path, range(50, 52))
    assert made_before(tmp_path) == made
    settle(tmp_path)
    assert made_before(tmp_path) == made


def test_a_journal_of_another_account_says_nothing(soon_large: None, tmp_path: Path) -> None:
    entered(tmp_path, range(20))
    old = (tmp_path / JOURNAL).read_bytes()
    settle(tmp_path)
    made = entered(tmp_path, range(1))
    (tmp_path / JOURNAL).unlink(missing_ok=True)
    settled = made_before(tmp_path)
    (tmp_path / JOURNAL).write_bytes(old)  # killed between the account and the removal of its journal
    assert made_before(tmp_path) == settled
    assert settled.keys() == made.keys()
    settle(tmp_path)
    assert not (tmp_path / JOURNAL).exists()
    assert entered(tmp_path, range(30, 40)) == made_before(tmp_path)


def test_a_full_disk_is_told(soon_large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = entered(tmp_path, range(20))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="no room"):
        enter(tmp_path, made, "more", entry(1))
