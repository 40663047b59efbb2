from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion, distance_transform_edt

from autoseg.evaluation.surfaces import hd95, normalized_surface_dice, surface_distances, surface_places


def surface_voxels(mask: np.ndarray, axes: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    padded = np.pad(mask, 1)
    found = np.zeros(padded.shape, dtype=bool)
    found.reshape(-1)[surface_places(padded, axes)] = True
    return found[1:-1, 1:-1, 1:-1]


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    places = np.indices(shape)
    return sum((axis - middle) ** 2 for axis, middle in zip(places, centre, strict=True)) < radius**2


@given(seed=st.integers(0, 1000), shape=st.tuples(*[st.integers(1, 9)] * 3))
@settings(deadline=None, max_examples=60)
def test_surface_is_what_erosion_takes_away(seed: int, shape: tuple[int, int, int]) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.8
    np.testing.assert_array_equal(surface_voxels(mask), mask & ~binary_erosion(mask))


@given(
    seed=st.integers(0, 1000),
    density=st.sampled_from([0.005, 0.1, 0.5]),
    spacing=st.tuples(*[st.sampled_from([0.3, 1.0, 2.7, 40.0])] * 3),
)
@settings(deadline=None, max_examples=40)
def test_distances_are_those_of_the_distance_transform(
    seed: int, density: float, spacing: tuple[float, float, float]
) -> None:
    generator = np.random.default_rng(seed)
    reference, prediction = generator.random((12, 40, 13)) < 0.3, generator.random((12, 40, 13)) < density
    reference[:, 20:] = False  # leaves points both near and far
    found = surface_distances(reference, prediction, spacing)
    if not prediction.any() or not reference.any():
        assert found is None
        return
    assert found is not None
    first, second = surface_voxels(reference), surface_voxels(prediction)
    np.testing.assert_allclose(
        found.from_reference, distance_transform_edt(~second, spacing)[first], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        found.from_prediction, distance_transform_edt(~first, spacing)[second], rtol=1e-5, atol=1e-6
    )


def test_far_surfaces_are_exact() -> None:
    reference, prediction = np.zeros((60, 30, 30), bool), np.zeros((60, 30, 30), bool)
    reference[0], prediction[50] = True, True
    found = surface_distances(reference, prediction, (2.0, 1.0, 1.0))
    assert found is not None
    assert set(found.from_reference) == {100.0}
    assert hd95(found) == 100.0
    assert normalized_surface_dice(found, 99.0) == 0.0


def test_a_ball_of_one_voxel_more() -> None:
    small, large = ball((30, 30, 30), (15, 15, 15), 9.0), ball((30, 30, 30), (15, 15, 15), 11.0)
    found = surface_distances(small, large, (0.5, 0.5, 0.5))
    assert found is not None
    assert 0.8 < hd95(found) < 1.3
    assert normalized_surface_dice(found, 0.4) < 0.5
    assert normalized_surface_dice(found, 1.5) == 1.0


def test_tolerance_allows_for_rounding() -> None:
    reference, prediction = np.zeros((3, 3, 20), bool), np.zeros((3, 3, 20), bool)
    reference[1, 1, 2], prediction[1, 1, 9] = True, True
    found = surface_distances(reference, prediction, (1.0, 1.0, 0.1))
    assert found is not None
    assert normalized_surface_dice(found, 0.7) == 1.0


@pytest.mark.parametrize(("axes", "expected"), [((1, 2), 16), ((0, 1, 2), 25)])
def test_a_slice_has_no_surface_across_itself(axes: tuple[int, ...], expected: int) -> None:
    mask = np.zeros((1, 9, 9), bool)
    mask[0, 2:7, 2:7] = True
    assert surface_voxels(mask, axes).sum() == expected
