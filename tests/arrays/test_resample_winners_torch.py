"""Winners on another grid equal those of interpolating every score."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpolated_scores import Shape, interpolated
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from autoseg.arrays.resample_scores_torch import grid_taps
from autoseg.arrays.resample_winners_torch import highest, last_positive, winners_on_grid


def winners(
    scores: NDArray[np.float32], shape: Shape, orders: tuple[Literal[0, 1], ...], slabs: int, regions: bool = False
) -> NDArray[np.integer]:
    parts = np.array_split(scores, min(slabs, scores.shape[1]), axis=1)
    return winners_on_grid(parts, grid_taps(scores.shape[1:], shape, orders), last_positive if regions else highest)


def check(found: NDArray[np.integer], values: NDArray[np.float64], regions: bool = False) -> None:
    """Equal wherever the decision does not hang on rounding."""
    scale = np.abs(values).max(axis=0)
    if regions:
        wanted = ((values > 0) * np.arange(1, len(values) + 1)[:, None, None, None]).max(axis=0)
        clear = (np.abs(values) > 1e-6 * np.abs(values).max()).all(axis=0)
    else:
        wanted = values.argmax(axis=0)
        best = np.sort(values, axis=0)
        clear = best[-1] - best[-2] > 1e-6 * scale if len(values) > 1 else np.ones(values.shape[1:], dtype=bool)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[clear], wanted[clear])


sizes = st.integers(1, 9)
orders = st.sampled_from([0, 1])


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(sizes, sizes, sizes),
    new=st.tuples(st.integers(1, 16), st.integers(1, 16), st.integers(1, 16)),
    order=st.tuples(orders, orders, orders),
    heads=st.integers(2, 6),
    slabs=st.integers(1, 4),
    smooth=st.sampled_from([0.0, 1.0, 2.0]),
    regions=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equal_to_interpolating_everything(
    shape: Shape,
    new: Shape,
    order: tuple[Literal[0, 1], ...],
    heads: int,
    slabs: int,
    smooth: float,
    regions: bool,
    seed: int,
) -> None:
    scores = np.random.default_rng(seed).normal(size=(heads, *shape)).astype(np.float32)
    if smooth:
        scores = gaussian_filter(scores, (0, smooth, smooth, smooth)) * 4
    check(winners(scores, new, order, slabs, regions), interpolated(scores, new, order), regions)


def test_a_label_second_at_every_corner_can_win_between() -> None:
    """The middle of the cell goes to a label that wins at none of its corners."""
    scores = np.zeros((3, 1, 1, 2), dtype=np.float32)
    scores[0, 0, 0], scores[1, 0, 0], scores[2, 0, 0] = (4.0, 0.0), (0.0, 4.0), (3.0, 3.0)
    found = winners(scores, (1, 1, 8), (1, 1, 1), slabs=1)
    assert found[0, 0].tolist() == [0, 0, 0, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("shape", [(7, 8, 9), (30, 5, 6)])
def test_the_same_shape_is_the_plain_maximum(shape: Shape) -> None:
    scores = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
    np.testing.assert_array_equal(winners(scores, shape, (1, 1, 1), slabs=3), scores.argmax(axis=0))


def test_of_equal_scores_the_first_label_wins() -> None:
    scores = np.ones((4, 3, 3, 3), dtype=np.float32)
    assert winners(scores, (5, 6, 7), (1, 1, 1), slabs=2).max() == 0
