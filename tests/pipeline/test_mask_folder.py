"""The folder that masks are written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.errors import PredictionError
from autoseg.locks import locked
from autoseg.pipeline.mask_folder import LOCK, held


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
