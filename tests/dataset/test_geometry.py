from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.dataset.geometry import axis_codes, corner_distance_mm, smallest_voxel_edge
from autoseg.records import Geometry


def grid(matrix: np.ndarray, shape: tuple[int, int, int] = (10, 20, 30), flat: bool = False) -> Geometry:
    return Geometry(shape=shape, affine=tuple(tuple(row) for row in matrix.tolist()), flat=flat)


def test_a_shift_is_the_distance() -> None:
    moved = np.eye(4)
    moved[:3, 3] = [3, 0, 4]
    assert corner_distance_mm(grid(np.eye(4)), grid(moved)) == pytest.approx(5)


def test_a_flipped_axis_is_far_away_although_the_box_is_the_same() -> None:
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 29
    assert corner_distance_mm(grid(np.eye(4)), grid(flipped)) == pytest.approx(30)


def test_other_spacing_shows_even_in_one_slice() -> None:
    thick = np.diag([1.0, 1, 3, 1])
    assert corner_distance_mm(grid(np.eye(4), (1, 20, 30)), grid(thick, (1, 20, 30))) == pytest.approx(1)


@given(st.floats(-1e-8, 1e-8))
@settings(deadline=None, max_examples=20)
def test_rounding_of_directions_is_no_difference(noise: float) -> None:
    turned = np.eye(4)
    turned[0, 1] = noise
    a, b = grid(np.eye(4), (300, 512, 512)), grid(turned, (300, 512, 512))
    assert corner_distance_mm(a, b) <= 0.05
    assert corner_distance_mm(a, b) == corner_distance_mm(b, a)


def test_axis_codes_and_voxel_edges() -> None:
    assert axis_codes(grid(np.eye(4))) == "RAS"
    assert axis_codes(grid(np.array([[0, 0, -2.0, 0], [-1, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]]))) == "PSL"
    flat = grid(np.diag([0.5, 0.7, 0.1, 1]), (1, 5, 5), flat=True)
    assert axis_codes(flat) == "flat"
    assert smallest_voxel_edge(flat) == 0.5
    assert smallest_voxel_edge(grid(np.diag([0.5, 0.7, 0.1, 1]))) == pytest.approx(0.1)
