from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import resize

from autoseg.arrays.resample import (
    axis_operator,
    nearest_index,
    resample_image,
    resampled_shape,
    separate_axis,
)

EVEN = (1.0, 1.0, 1.0)
sizes = st.integers(1, 24)
shapes = st.tuples(sizes, sizes, sizes)


def as_skimage(channel: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    return resize(channel.astype(np.float64), shape, order=order, mode="edge", anti_aliasing=False, clip=True)


@settings(deadline=None, max_examples=60)
@given(n_in=st.integers(1, 60), n_out=st.integers(1, 60), order=st.sampled_from([0, 1, 3]))
def test_operator_equals_scipy_zoom_of_the_identity(n_in, n_out, order):
    expected = np.stack(
        [ndimage.zoom(unit, n_out / n_in, order=order, mode="nearest", grid_mode=True) for unit in np.eye(n_in)],
        axis=1,
    )
    operator = axis_operator(n_in, n_out, order)
    assert operator.shape == (n_out, n_in)
    np.testing.assert_allclose(operator, expected, atol=1e-12)
    np.testing.assert_allclose(operator.sum(axis=1), 1, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(shape=shapes, new_shape=shapes, order=st.sampled_from([0, 1, 3]), seed=st.integers(0, 99))
def test_image_equals_skimage(shape, new_shape, order, seed):
    image = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
    resampled = resample_image(image, new_shape, EVEN, EVEN, order)
    assert resampled.dtype == np.float32
    for channel, values in enumerate(image):
        np.testing.assert_allclose(resampled[channel], as_skimage(values, new_shape, order), atol=5e-6)


@settings(deadline=None, max_examples=30)
@given(shape=shapes, new_shape=shapes, apart=st.integers(0, 2), seed=st.integers(0, 99))
def test_thick_slices_are_resized_one_by_one(shape, new_shape, apart, seed):
    image = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)
    spacing = tuple(5.0 if axis == apart else 1.0 for axis in range(3))
    plane = [size for axis, size in enumerate(new_shape) if axis != apart]
    slices = [as_skimage(part, plane, 3) for part in np.moveaxis(image[0], apart, 0)]
    expected = np.stack([slices[index] for index in nearest_index(shape[apart], new_shape[apart])], axis=apart)
    resampled = resample_image(image, new_shape, spacing, spacing)
    np.testing.assert_allclose(resampled[0], expected, atol=5e-6)


def test_large_products_are_cut_into_blocks():
    # wider than a block in every direction, so that rows, columns and widths are all cut
    image = np.random.default_rng(0).normal(size=(1, 70, 90, 110)).astype(np.float32)
    np.testing.assert_allclose(
        resample_image(image, (100, 65, 130), EVEN, EVEN)[0], as_skimage(image[0], (100, 65, 130), 3), atol=5e-6
    )


def test_unchanged_shape_returns_the_image_itself():
    image = np.zeros((1, 3, 4, 5), dtype=np.float32)
    assert resample_image(image, (3, 4, 5), EVEN, (2.0, 1.0, 1.0)) is image


def waves() -> np.ndarray:
    z, y, x = np.ogrid[:3, :4, :5]
    return np.sin(z + 2 * y + 3 * x).astype(np.float32)[None]


def test_recorded_values_of_nnunet():
    fine = resample_image(waves(), (4, 6, 8), EVEN, (0.75, 0.667, 0.625))[0]
    row = [-0.2322577, 0.1487397, 0.2858939, -0.3623111, -0.1695844, 0.5957392, -0.0407539, -0.8731647]
    np.testing.assert_allclose(fine[0, 0], row, atol=1e-6)
    assert fine.mean() == pytest.approx(0.0067263716, abs=1e-7)
    assert fine[3, 5, 7] == pytest.approx(0.9906074, abs=1e-6)
    assert fine[1, 2, 3] == pytest.approx(0.36304697, abs=1e-6)
    apart = resample_image(waves(), (4, 6, 8), (5.0, 1.0, 1.0), (3.75, 0.667, 0.625))[0]
    row = [-0.1608312, 0.1427734, 0.2297349, -0.3299528, -0.1356801, 0.5420658, -0.0482403, -0.8068795]
    np.testing.assert_allclose(apart[0, 0], row, atol=1e-6)
    assert apart[1, 2, 3] == pytest.approx(0.17949471, abs=1e-6)
    linear = resample_image(waves(), (4, 6, 8), EVEN, (0.75, 0.667, 0.625), order=1)[0]
    assert linear.mean() == pytest.approx(0.012123756, abs=1e-7)
    assert linear[1, 2, 3] == pytest.approx(0.17105083, abs=1e-6)


def test_nearest_takes_halves_upwards():
    assert nearest_index(4, 2).tolist() == [1, 3]
    assert nearest_index(3, 6).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("current", "new", "axis"),
    [
        ((1, 1, 1), (1, 1, 1), None),
        ((3, 1, 1), (1, 1, 1), None),  # exactly at the limit
        ((3.1, 1, 1), (1, 1, 1), 0),
        ((1, 1, 1), (1, 4, 1), 1),
        ((1, 1, 5), (6, 1, 1), 2),  # the current one decides
        ((5, 5, 1), (6, 1, 1), None),  # two coarsest: no separation, and the second is not asked
    ],
)
def test_which_axis_lies_apart(current, new, axis):
    assert separate_axis(current, new) == axis


def test_resampled_shape_rounds_half_to_even():
    assert resampled_shape((5, 7, 1), (1.0, 1.0, 1.0), (2.0, 2.0, 5.0)) == (2, 4, 1)
    assert resampled_shape((36, 50, 35), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)) == (36, 50, 35)
