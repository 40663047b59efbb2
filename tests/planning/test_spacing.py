from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.planning.spacing import axis_order, resampled_shapes, target_spacing


def test_median_per_axis() -> None:
    spacings = np.array([[1.0, 0.5, 0.5], [2.0, 0.5, 0.7], [3.0, 0.6, 0.6]])
    shapes = np.full((3, 3), 100.0)
    assert target_spacing(spacings, shapes).value == (2.0, 0.5, 0.6)


def test_thin_slices_are_spared_on_a_coarse_short_axis() -> None:
    spacings = np.array([[4.0, 0.5, 0.5]] * 9 + [[1.0, 0.5, 0.5]])
    shapes = np.array([[20.0, 300, 300]] * 10)
    decision = target_spacing(spacings, shapes)
    assert decision.value[0] == np.percentile(spacings[:, 0], 10)
    assert "10th percentile" in decision.because
    # a long axis keeps its median
    assert target_spacing(spacings, np.full((10, 3), 300.0)).value[0] == 4.0


def test_the_coarse_axis_never_becomes_finer_than_the_others() -> None:
    spacings = np.array([[4.0, 0.5, 0.6]] * 8 + [[0.1, 0.5, 0.6]] * 3)
    shapes = np.array([[20.0, 300, 300]] * 11)
    assert target_spacing(spacings, shapes).value == (0.6 + 1e-5, 0.5, 0.6)


@given(st.permutations([0.5, 1.0, 4.0]))
@settings(deadline=None)
def test_axis_order_puts_the_coarsest_first(spacing: list[float]) -> None:
    order = axis_order((spacing[0], spacing[1], spacing[2])).value
    assert spacing[order[0]] == 4.0
    assert order[1] < order[2]


def test_ties_go_to_the_first_axis() -> None:
    assert axis_order((1.0, 1.0, 1.0)).value == (0, 1, 2)
    assert axis_order((3.0, 4.0, 4.0)).value == (1, 0, 2)


def test_shapes_round_half_to_even() -> None:
    shapes = resampled_shapes(np.array([[5.0, 7.0, 8.0]]), np.array([[1.0, 1.0, 1.0]]), np.array([2.0, 2.0, 2.0]))
    assert shapes.tolist() == [[2.0, 4.0, 4.0]]
