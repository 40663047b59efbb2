from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.arrays.objects import object_table
from autoseg.errors import PredictionError
from autoseg.inference import object_masks as module
from autoseg.inference.object_masks import object_masks, stacked_masks, write_object_masks
from autoseg.records import FoundObject, Geometry

IDS = np.zeros((3, 8, 9), np.uint32)
IDS[0:2, 1:4, 2:5], IDS[1, 6, 1:8], IDS[2, 0, 0] = 5, 2, 70_000
IDS[0, 1, 2] = 2  # in the box of another
AFFINE = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
TABLE = object_table(IDS, {5: 1, 2: 2, 70_000: 1}, {1: "cell", 2: "fibre"}, Geometry(shape=IDS.shape, affine=AFFINE))


def test_each_object_has_its_mask() -> None:
    stacked = stacked_masks(IDS, TABLE)
    assert stacked.shape == (3, *IDS.shape)
    assert stacked.dtype == np.bool_
    for mask, one in zip(stacked, TABLE, strict=True):
        np.testing.assert_array_equal(mask, np.equal(IDS, one.id))
    for mask, (number, own) in zip(stacked, object_masks(IDS), strict=True):
        np.testing.assert_array_equal(own, np.equal(IDS, number))
        np.testing.assert_array_equal(mask, own)


def test_files_hold_the_same(tmp_path: Path) -> None:
    path = tmp_path / "object_masks" / "a.npz"
    write_object_masks(path, IDS, TABLE)
    with np.load(path) as found:
        np.testing.assert_array_equal(found["masks"], stacked_masks(IDS, TABLE))
        assert found["ids"].tolist() == [2, 5, 70_000]
        assert found["labels"].tolist() == ["fibre", "cell", "cell"]
    first = path.read_bytes()
    write_object_masks(path, IDS, TABLE)
    assert path.read_bytes() == first


def test_without_objects_there_are_no_masks(tmp_path: Path) -> None:
    write_object_masks(tmp_path / "a.npz", np.zeros((1, 4, 5), np.uint32), ())
    with np.load(tmp_path / "a.npz") as found:
        assert found["masks"].shape == (0, 1, 4, 5)
        assert found["ids"].size == found["labels"].size == 0


def test_what_nobody_could_load_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 3 * IDS.size - 1)
    with pytest.raises(PredictionError, match="one mask for each of 3 objects"):
        write_object_masks(tmp_path / "a.npz", IDS, TABLE)
    assert list(tmp_path.iterdir()) == []


def test_a_row_and_its_mask_have_equal_size() -> None:
    counts = stacked_masks(IDS, TABLE).sum(axis=(1, 2, 3))
    assert counts.tolist() == [FoundObject.model_validate(one).voxels for one in TABLE]
