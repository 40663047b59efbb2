from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from autoseg.arrays.tiles import axis_weights, gaussian_window, padding, tile_starts


def test_the_recorded_example() -> None:
    assert tile_starts(110, 64, 0.5) == [0, 23, 46]
    assert tile_starts(64, 64, 0.5) == [0]
    assert tile_starts(65, 64, 0.5) == [0, 1]


@given(patch=st.integers(1, 200), extra=st.integers(0, 500), step=st.floats(0.1, 1.0))
@settings(deadline=None, max_examples=200)
def test_tiles_cover_the_axis_evenly(patch: int, extra: int, step: float) -> None:
    size = patch + extra
    starts = tile_starts(size, patch, step)
    assert starts[0] == 0
    assert starts[-1] + patch == size
    gaps = np.diff(starts)
    assert (gaps > 0).all()
    assert (gaps <= max(1, int(np.ceil(patch * step)))).all()
    assert (axis_weights(size, patch, starts) > 0).all()


@pytest.mark.parametrize(("size", "patch", "step"), [(10, 11, 0.5), (10, 5, 0.0), (10, 5, 1.5), (10, 0, 0.5)])
def test_impossible_tilings_are_refused(size: int, patch: int, step: float) -> None:
    with pytest.raises(ValueError, match="tile"):
        tile_starts(size, patch, step)


def test_slices_of_one_voxel_are_visited_once() -> None:
    assert tile_starts(7, 1, 0.5) == list(range(7))


@pytest.mark.parametrize("patch", [(40, 56, 40), (7, 12, 9), (33, 64)])
def test_the_window_is_a_filtered_impulse(patch: tuple[int, ...]) -> None:
    impulse = np.zeros(patch)
    impulse[tuple(size // 2 for size in patch)] = 1
    filtered = gaussian_filter(impulse, [size / 8 for size in patch], mode="constant")
    window = gaussian_window(patch)
    assert window.dtype == np.float32
    assert window.max() == 1
    assert window.min() > 0
    np.testing.assert_allclose(window, filtered / filtered.max(), rtol=0, atol=2e-4)


def test_weights_are_a_product_over_axes() -> None:
    sizes, patch = (17, 23), (8, 10)
    starts = [tile_starts(size, length, 0.5) for size, length in zip(sizes, patch, strict=True)]
    total = np.zeros(sizes)
    for y in starts[0]:
        for x in starts[1]:
            total[y : y + patch[0], x : x + patch[1]] += gaussian_window(patch)
    product = np.multiply.outer(
        *(axis_weights(size, length, begin) for size, length, begin in zip(sizes, patch, starts, strict=True))
    )
    np.testing.assert_allclose(total, product, rtol=1e-5)


def test_padding_is_centred_with_the_odd_voxel_after() -> None:
    assert padding((10, 3, 5), (8, 8, 8)) == ((0, 0), (2, 3), (1, 2))
