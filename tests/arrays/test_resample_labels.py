from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from autoseg.arrays.resample import nearest_index
from autoseg.arrays.resample_labels import resample_labels

EVEN = (1.0, 1.0, 1.0)
sizes = st.integers(1, 14)
shapes = st.tuples(sizes, sizes, sizes)


def by_every_indicator(labels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The definition: interpolate each label's indicator, the largest wins, ties as documented."""
    values = np.unique(labels)
    scores = np.stack(
        [resize((labels == v).astype(np.float64), shape, order=1, mode="edge", anti_aliasing=False) for v in values]
    )
    nearest = labels[np.ix_(*(nearest_index(a, b) for a, b in zip(labels.shape, shape, strict=True)))]
    tied = scores >= scores.max(axis=0) - 1e-9
    among = np.take_along_axis(tied, np.searchsorted(values, nearest)[None], axis=0)[0]
    return np.where(among, nearest, values[tied.argmax(axis=0)])


def blobs(shape: tuple[int, int, int], seed: int, noise: bool) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if noise:
        return generator.integers(-1, 4, size=shape).astype(np.int16)
    z, y, x = np.indices(shape)
    centre = generator.uniform(0, 1, size=3) * shape
    radius = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    return np.digitize(radius, [1.5, 3, 5]).astype(np.int16) - 1


@settings(deadline=None, max_examples=60)
@given(shape=shapes, new_shape=shapes, seed=st.integers(0, 999), noise=st.booleans())
def test_equals_the_definition(shape, new_shape, seed, noise):
    labels = blobs(shape, seed, noise)
    resampled = resample_labels(labels, new_shape, EVEN, EVEN)
    assert resampled.dtype == np.int16
    np.testing.assert_array_equal(resampled, by_every_indicator(labels, new_shape))


@settings(deadline=None, max_examples=30)
@given(shape=shapes, new_shape=shapes, apart=st.integers(0, 2), seed=st.integers(0, 999))
def test_thick_slices_are_resized_one_by_one(shape, new_shape, apart, seed):
    labels = blobs(shape, seed, noise=True)
    spacing = tuple(5.0 if axis == apart else 1.0 for axis in range(3))
    plane = tuple(1 if axis == apart else size for axis, size in enumerate(new_shape))
    slices = [by_every_indicator(labels.take([index], axis=apart), plane) for index in range(shape[apart])]
    expected = np.concatenate([slices[index] for index in nearest_index(shape[apart], new_shape[apart])], axis=apart)
    np.testing.assert_array_equal(resample_labels(labels, new_shape, spacing, spacing), expected)


@settings(deadline=None, max_examples=20)
@given(shape=shapes, new_shape=shapes, seed=st.integers(0, 999))
def test_order_zero_is_the_nearest_neighbour(shape, new_shape, seed):
    labels = blobs(shape, seed, noise=True)
    before = labels.copy()
    expected = labels[np.ix_(*(nearest_index(a, b) for a, b in zip(shape, new_shape, strict=True)))]
    np.testing.assert_array_equal(resample_labels(labels, new_shape, EVEN, EVEN, order=0), expected)
    np.testing.assert_array_equal(labels, before)


def test_recorded_values_of_nnunet():
    z, y, x = np.ogrid[:3, :4, :5]
    labels = ((z + y + x) % 3).astype(np.int16)
    resampled = resample_labels(labels, (4, 6, 8), EVEN, (0.75, 0.667, 0.625))
    assert np.bincount(resampled.ravel()).tolist() == [57, 68, 67]
    assert resampled[0, 0].tolist() == [0, 0, 1, 2, 2, 0, 1, 1]


@pytest.mark.parametrize("new_shape", [(9, 8, 7), (4, 4, 4), (8, 16, 8)])
def test_many_labels_cost_no_more(new_shape):
    labels = np.arange(8 * 8 * 8, dtype=np.int16).reshape(8, 8, 8)
    np.testing.assert_array_equal(resample_labels(labels, new_shape, EVEN, EVEN), by_every_indicator(labels, new_shape))


def test_unchanged_shape_returns_the_map_itself():
    labels = np.zeros((2, 3, 4), dtype=np.int16)
    assert resample_labels(labels, (2, 3, 4), EVEN, EVEN) is labels
