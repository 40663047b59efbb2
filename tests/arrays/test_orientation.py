from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.arrays.orientation import (
    STORED,
    Orientation,
    closest_canonical,
    orient,
    oriented_index,
    oriented_spacing,
    unorient,
)
from autoseg.errors import DatasetError
from autoseg.records import Geometry

ALL_ORIENTATIONS = [
    Orientation((a, b, c), (f, g, h))
    for (a, b, c) in permutations(range(3))
    for (f, g, h) in product((False, True), repeat=3)
]


def geometry_of(affine: np.ndarray, shape: tuple[int, int, int] = (4, 5, 6), flat: bool = False) -> Geometry:
    return Geometry(shape=shape, affine=tuple(tuple(float(v) for v in row) for row in affine), flat=flat)


def axis_affine(permutation: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for file_axis, world_axis in enumerate(permutation):
        affine[world_axis, file_axis] = signs[file_axis] * spacing[file_axis]
    return affine


def nibabel_canonical(stored: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """nibabel's canonical array with axes (S, A, R), and its affine."""
    image = nibabel.Nifti1Image(stored.transpose(2, 1, 0), affine)
    canonical = nibabel.as_closest_canonical(image)
    return np.asanyarray(canonical.dataobj).transpose(2, 1, 0), canonical.affine


@pytest.mark.parametrize("permutation", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((-1, 1), repeat=3)))
def test_axis_aligned_equals_nibabel(permutation, signs):
    stored = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    affine = axis_affine(permutation, signs, (0.5, 2.0, 3.0))
    orientation = closest_canonical(geometry_of(affine))
    expected, canonical_affine = nibabel_canonical(stored, affine)
    np.testing.assert_array_equal(orient(stored, orientation), expected)
    zooms = np.linalg.norm(canonical_affine[:3, :3], axis=0)[::-1]
    np.testing.assert_allclose(oriented_spacing(geometry_of(affine), orientation), zooms)


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 2**32 - 1), shear=st.floats(0, 0.6))
def test_oblique_and_sheared_equal_nibabel(seed, shear):
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = (
        rotation @ (np.eye(3) + shear * np.triu(generator.normal(size=(3, 3)), 1)) @ np.diag([0.7, 1.3, 5.0])
    )
    affine[:3, 3] = generator.normal(size=3) * 100
    stored = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    expected, _ = nibabel_canonical(stored, affine)
    np.testing.assert_array_equal(orient(stored, closest_canonical(geometry_of(affine))), expected)


@pytest.mark.parametrize("angle", [45.0, 135.0, -45.0])
def test_ties_equal_nibabel(angle):
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    stored = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    expected, _ = nibabel_canonical(stored, affine)
    np.testing.assert_array_equal(orient(stored, closest_canonical(geometry_of(affine))), expected)


@pytest.mark.parametrize("orientation", ALL_ORIENTATIONS, ids=str)
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_orient_and_back(orientation, lead):
    array = np.arange(np.prod([*lead, 3, 4, 5])).reshape(*lead, 3, 4, 5)
    oriented = orient(array, orientation)
    assert np.shares_memory(oriented, array)
    assert oriented.shape[-3:] == tuple((3, 4, 5)[axis] for axis in orientation.axes)
    np.testing.assert_array_equal(unorient(oriented, orientation), array)


def test_flat_image_stays_as_stored():
    geometry = geometry_of(np.diag([-0.5, -0.25, 1, 1]), shape=(1, 5, 6), flat=True)
    assert closest_canonical(geometry) == STORED
    assert oriented_spacing(geometry, STORED) == (999 * 0.5, 0.25, 0.5)


@pytest.mark.parametrize(
    "columns",
    [[[1, 0, 0], [0, 1, 0], [0, 0, 0]], [[1, 0, 0], [1, 0, 0], [0, 0, 1]], [[np.nan, 0, 0], [0, 1, 0], [0, 0, 1]]],
)
def test_singular_affine_is_refused(columns):
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns).T
    with pytest.raises(DatasetError, match="singular"):
        closest_canonical(geometry_of(affine))


@pytest.mark.parametrize("orientation", ALL_ORIENTATIONS)
def test_a_voxel_is_found_again_in_the_oriented_array(orientation):
    stored = np.arange(120).reshape(4, 5, 6)
    for index in ((0, 0, 0), (1, 2, 3), (3, 4, 5)):
        assert orient(stored, orientation)[oriented_index(index, stored.shape, orientation)] == stored[index]
