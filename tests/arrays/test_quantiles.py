from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.arrays import quantiles
from autoseg.arrays.quantiles import LEVELS, MEDIAN, WIDTH, channel_quantiles, shape_of


def test_zeros_do_not_count() -> None:
    image = np.zeros((2, 4, 50, 5), dtype=np.float32)
    image[1, 1:3] = np.arange(1, 501).reshape(2, 50, 5)
    empty, full = channel_quantiles(image)
    assert empty == (0.0,) * len(LEVELS)
    np.testing.assert_allclose(full, [500 * level for level in LEVELS], atol=1)


def test_what_is_not_finite_has_no_quantiles() -> None:
    image = np.ones((1, 2, 3, 4), dtype=np.float32)
    image[0, 0, 0, 0] = np.nan
    assert channel_quantiles(image) == ((),)


def test_a_large_image_is_sampled_evenly(monkeypatch: object) -> None:
    """The same lines must not be met again and again: here every line has a value of its own, and so has every row."""
    image = (np.arange(64)[:, None] * 64 + np.arange(64)[None, :] + 1).astype(np.float32)[None, None]
    whole = channel_quantiles(image)
    monkeypatch.setattr(quantiles, "MOST_VOXELS", 64)  # type: ignore[attr-defined]
    np.testing.assert_allclose(channel_quantiles(image), whole, atol=0.03 * 4096)
    columns = np.tile(np.arange(1, 65, dtype=np.float32), (64, 1))[None, None]
    assert len(set(channel_quantiles(columns)[0])) == len(LEVELS)


@settings(deadline=None)
@given(scale=st.floats(0.01, 1e4), shift=st.floats(-100, 100))
def test_shape_is_free_of_brightness_and_contrast(scale: float, shift: float) -> None:
    values = tuple(float(value) for value in (1, 2, 4, 5, 7, 11, 30))
    moved = tuple(scale * value + shift for value in values)
    np.testing.assert_allclose(shape_of(moved), shape_of(values), rtol=1e-6, atol=1e-6)
    assert shape_of(values)[MEDIAN] == 0
    assert shape_of(values)[WIDTH[1]] - shape_of(values)[WIDTH[0]] == 1


def test_no_contrast_has_no_shape() -> None:
    assert shape_of((3.0,) * len(LEVELS)) == ()
