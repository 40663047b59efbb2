from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from autoseg.arrays.components import besides_largest, keep_largest, mask_of, pieces_of, post_processed
from autoseg.records import Labels

LABELS = Labels(names={"background": 0, "organ": 2, "spot": 7})
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))


def expected_others(mask: np.ndarray) -> np.ndarray:
    """By scipy: what is in no component of the largest size."""
    numbers, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(mask, numbers, range(1, count + 1))
    return np.isin(numbers, [number for number in range(1, count + 1) if sizes[number - 1] < sizes.max()])


@settings(deadline=None, max_examples=60)
@given(
    arrays.arrays(np.bool_, st.tuples(*[st.integers(1, 7)] * 3), elements=st.sampled_from([True, False, False, False]))
)
def test_components_are_those_of_scipy(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(besides_largest(mask), expected_others(mask))


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.bool_, st.tuples(*[st.integers(1, 7)] * 3)))
def test_pieces_are_those_of_scipy(mask: np.ndarray) -> None:
    numbers, count = pieces_of(mask)
    wanted, wanted_count = ndimage.label(mask, np.ones((3, 3, 3)))
    assert count == wanted_count
    pairs = np.unique(np.stack([numbers[mask], wanted[mask]]), axis=1)
    assert pairs.shape[1] == count
    assert not numbers[~mask].any()


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 1, 3), (3, 3, 3), (1, 9, 9)])
def test_every_other_voxel(shape: tuple[int, int, int]) -> None:
    """cc3d 4.1.1 itself gives up here."""
    mask = np.zeros(shape, dtype=np.bool_)
    mask[::2, ::2, ::2] = True
    assert not besides_largest(mask).any()


def line(*runs: int) -> np.ndarray:
    """Runs of ones with gaps between them, in one row."""
    parts = [np.repeat([1, 0], [run, 2]) for run in runs]
    return np.concatenate(parts).astype(np.uint8)[None, None]


def test_only_the_label_named_is_thinned_and_the_mask_given_stays() -> None:
    values = np.concatenate([2 * line(3, 1), 7 * line(2, 4)], axis=2)
    before = values.copy()
    kept = keep_largest(values, "organ", LABELS)
    np.testing.assert_array_equal(values, before)
    assert (kept == 2).sum() == 3
    np.testing.assert_array_equal(kept == 7, values == 7)
    assert kept.dtype == values.dtype


def test_all_foreground_together_joins_touching_labels() -> None:
    values = np.array([[[2, 7, 7, 0, 2, 2, 0, 7]]], dtype=np.uint8)
    np.testing.assert_array_equal(keep_largest(values, None, LABELS), [[[2, 7, 7, 0, 0, 0, 0, 0]]])


def test_equally_large_components_all_stay() -> None:
    values = 2 * line(3, 3, 1)
    assert (keep_largest(values, "organ", LABELS) == 2).sum() == 6


def test_what_a_region_loses_becomes_background() -> None:
    values = np.array([[[1, 2, 2, 1, 0, 2]]], dtype=np.uint8)
    np.testing.assert_array_equal(keep_largest(values, "core", REGIONS), [[[1, 2, 2, 1, 0, 0]]])
    np.testing.assert_array_equal(mask_of(values, "whole", REGIONS), values > 0)


def test_steps_follow_one_another() -> None:
    values = np.array([[[2, 7, 2, 2, 0, 2, 2, 2]]], dtype=np.uint8)
    first = keep_largest(values, None, LABELS)
    np.testing.assert_array_equal(first, [[[2, 7, 2, 2, 0, 0, 0, 0]]])
    np.testing.assert_array_equal(post_processed(values, [None, "organ"], LABELS), [[[0, 7, 2, 2, 0, 0, 0, 0]]])
    assert post_processed(values, [], LABELS) is values


@pytest.mark.parametrize("shape", [(0, 4, 4), (3, 3, 3)])
def test_an_empty_mask_stays_as_it_is(shape: tuple[int, int, int]) -> None:
    values = np.zeros(shape, dtype=np.uint8)
    assert keep_largest(values, None, LABELS) is values
