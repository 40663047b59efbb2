"""Curves through few trainings: exact ones are found again, and one failed training moves nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.evaluation.learning_curve import EXPONENTS, fitted

SIZES = (20, 40, 80)


def scores(limit: float, slope: float, exponent: float, seeds: int = 3) -> np.ndarray:
    """Scores (1, sizes, seeds) on a curve."""
    return np.array([[[limit - slope * size**-exponent] * seeds for size in SIZES]])


@pytest.mark.parametrize("exponent", [0.1, 0.35, 0.5, 1.0])
@pytest.mark.parametrize("slope", [0.3, -0.3])
def test_a_power_law_is_found_again(exponent: float, slope: float) -> None:
    found = fitted(SIZES, scores(0.6, slope, exponent))
    assert (found.limit[0], found.slope[0]) == pytest.approx((0.6, slope))
    assert found.exponent[0] == exponent
    assert exponent in EXPONENTS
    assert found.gain(80, 20)[0] == pytest.approx(slope * (80**-exponent - 100**-exponent))


def test_one_failed_training_moves_nothing() -> None:
    sound, spoilt = scores(0.9, 0.5, 0.5), scores(0.9, 0.5, 0.5)
    spoilt[0, 2, 1] = 0.0  # the least squares of nine points would follow it
    expected, found = (fitted(SIZES, one).gain(80, 40)[0] for one in (sound, spoilt))
    assert expected > 0.01
    assert found == pytest.approx(expected, abs=1e-9)


def test_no_score_is_above_one() -> None:
    found = fitted(SIZES, np.array([[[0.5], [0.8], [0.99]]]))
    assert found.at(10_000)[0] == 1.0
    assert found.gain(10_000, 10)[0] == 0.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(10, 80), min_size=9, max_size=9), st.integers(0, 10))
def test_curves_move_with_the_scores(values: list[int], offset: int) -> None:
    table = np.array(values, dtype=float).reshape(1, 3, 3) / 100
    plain, moved = (fitted(SIZES, one) for one in (table, table + offset / 100))
    assert moved.limit == pytest.approx(plain.limit + offset / 100, abs=1e-6)
    assert moved.slope == pytest.approx(plain.slope, abs=1e-6)


def test_each_draw_has_a_curve_of_its_own() -> None:
    rising, level = scores(0.9, 0.5, 0.5), np.full((1, 3, 3), 0.7)
    both = fitted(SIZES, np.concatenate([rising, level]))
    assert both.gain(80, 20) == pytest.approx([fitted(SIZES, rising).gain(80, 20)[0], 0.0], abs=1e-12)
