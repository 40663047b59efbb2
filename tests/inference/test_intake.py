from __future__ import annotations

import numpy as np

from autoseg.inference.intake import is_blank, mended
from autoseg.records import Geometry, Volume

GRID = Geometry(shape=(2, 3, 4), affine=tuple(tuple(row) for row in np.eye(4).tolist()))


def volume(*channels: np.ndarray) -> Volume:
    return Volume(np.stack(channels).astype(np.float32), GRID, ("known",))


def test_a_sound_volume_is_left_alone() -> None:
    sound = volume(np.arange(24.0).reshape(2, 3, 4))
    assert mended(sound) is sound


def test_what_is_no_number_becomes_the_smallest_value() -> None:
    first, second = np.arange(24.0).reshape(2, 3, 4) - 5, np.arange(24.0).reshape(2, 3, 4)
    second[0, 0, :2] = np.nan
    second[1, 2, 3] = np.inf
    before = volume(first, second)
    found = mended(before)
    assert np.isfinite(found.image).all()
    assert found.image[1, 0, 0].tolist() == [2.0, 2.0, 2.0, 3.0]
    assert found.image[1, 1, 2, 3] == 2.0
    assert np.array_equal(found.image[0], before.image[0])
    assert np.isnan(before.image).any()
    told = "channel 1: 3 voxels are not numbers (NaN or infinite), replaced by its smallest value 2"
    assert found.notes == ("known", told)


def test_nothing_but_nan_is_blank() -> None:
    found = mended(volume(np.full((2, 3, 4), np.nan)))
    assert is_blank(found)
    assert found.notes[-1] == "it has the value 0 everywhere: nothing can be found in it"


def test_one_empty_channel_is_told_of_and_the_volume_not_blank() -> None:
    found = mended(volume(np.arange(24.0).reshape(2, 3, 4), np.full((2, 3, 4), 7.0)))
    assert not is_blank(found)
    assert found.notes == ("known", "channel 1: it has the value 7 everywhere")
