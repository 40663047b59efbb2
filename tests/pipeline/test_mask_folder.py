"""The folder that masks are written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.errors import PredictionError
from autoseg.locks import locked
from autoseg.pipeline.mask_folder import FAILURES, LOCK, held, read_failures, tell_failures


def test_one_command_at_a_time_writes_masks_in_a_folder(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    with held(masks), pytest.raises(PredictionError, match="is writing masks here") as refused, held(masks):
        raise AssertionError("held twice")
    assert refused.value.where == str(masks)
    with held(masks):  # free again
        pass


def test_what_came_into_the_folder_stays_and_a_folder_made_in_vain_goes(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    with held(masks):
        assert (masks / LOCK).exists()
    assert not masks.exists()
    with held(masks):
        (masks / "case.nii.gz").touch()
    assert [path.name for path in masks.iterdir()] == ["case.nii.gz"]


def test_an_empty_folder_of_the_users_stays(tmp_path: Path) -> None:
    with held(tmp_path):
        pass
    assert tmp_path.exists()


def test_a_refusal_names_whose_the_folder_is(tmp_path: Path) -> None:
    with locked(tmp_path / LOCK):
        (tmp_path / LOCK).write_text("4711")
        with pytest.raises(PredictionError, match="process 4711"), held(tmp_path):
            raise AssertionError("held by another")


@pytest.mark.parametrize("held_before", ["[1]", '{"mine": [2]}', "notes"])
def test_a_file_of_failures_that_is_not_ours_stays(tmp_path: Path, held_before: str) -> None:
    (tmp_path / FAILURES).write_text(held_before)
    for failures in ({"a": "cut off"}, {}):
        tell_failures(tmp_path, failures)
        assert (tmp_path / FAILURES).read_text() == held_before
    assert read_failures(tmp_path) is None


def test_failures_are_told_and_taken_back(tmp_path: Path) -> None:
    tell_failures(tmp_path, {"a": "cut off"})
    tell_failures(tmp_path, {"b": "empty"})
    assert read_failures(tmp_path) == {"b": "empty"}
    tell_failures(tmp_path, {})
    assert not (tmp_path / FAILURES).exists()
