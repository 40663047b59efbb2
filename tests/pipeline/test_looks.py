"""Cases turned for pictures: whatever way they are stored and prepared, a slice is drawn the same way round."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from autoseg.arrays.orientation import STORED, closest_canonical, orient
from autoseg.dataset.geometry import affine_rows
from autoseg.dataset.readers import read_image
from autoseg.pipeline.looks import lies_elsewhere, look_at, turn_of
from autoseg.records import Geometry, Placement
from autoseg.report.slices import slice_of

SHAPE = (4, 5, 6)
WAYS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def geometry(order: tuple[int, ...], signs: tuple[int, ...], placed: bool = True) -> Geometry:
    """A grid of SHAPE whose file axes (i, j, k) follow these world axes, this way."""
    matrix = np.zeros((4, 4))
    for file_axis, (world_axis, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[world_axis, file_axis] = sign
    matrix[3, 3] = 1
    return Geometry(shape=SHAPE, affine=affine_rows(matrix), placed=placed)


def placement(grid: Geometry, orientation: str, axis_order: tuple[int, int, int]) -> tuple[Placement, np.ndarray]:
    """How such a file is prepared, and its prepared voxels, each with a number of its own."""
    stored = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    way = closest_canonical(grid) if orientation == "ras" else STORED
    prepared = orient(stored, way).transpose(axis_order)
    z, y, x = prepared.shape
    told = Placement(
        geometry=grid, orientation_axes=way.axes, orientation_flips=way.flips, axis_order=axis_order,
        transposed_shape=(z, y, x), transposed_spacing=(1.0, 1.0, 1.0), box=((0, z), (0, y), (0, x)),
        prepared_shape=(z, y, x), prepared_spacing=(1.0, 1.0, 1.0),
    )  # fmt: skip
    return told, prepared


@pytest.mark.parametrize("orientation", ["ras", "stored"])
def test_prepared_slices_are_drawn_like_those_of_the_volume(orientation: str) -> None:
    stored = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    for (order, signs), axis_order in itertools.product(WAYS, ((0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0))):
        grid = geometry(order, signs)
        told, prepared = placement(grid, orientation, axis_order)
        turn = turn_of(told)
        assert turn is not None
        look = look_at("a", stored, stored.astype(np.int32), grid)
        assert look.image is not None
        size = look.image.shape[turn.axis]
        drawn = [slice_of(look, look.image, turn.axis, index) for index in range(size)]
        found = [turn(plane) for plane in prepared]
        assert any(
            all(np.array_equal(one, other) for one, other in zip(found, planes, strict=True))
            for planes in (drawn, drawn[::-1])
        ), (order, signs, axis_order)


def test_an_image_that_lies_elsewhere_is_not_drawn_beneath_a_mask() -> None:
    grid = geometry((0, 1, 2), (1, 1, 1))
    moved = grid.matrix.copy()
    moved[0, 3] += 0.4
    assert not lies_elsewhere(grid, grid.model_copy(update={"affine": affine_rows(moved)}))
    moved[0, 3] += 0.2
    assert lies_elsewhere(grid, grid.model_copy(update={"affine": affine_rows(moved)}))
    turned = geometry((0, 1, 2), (-1, 1, 1))
    assert lies_elsewhere(grid, turned)
    assert not lies_elsewhere(grid, turned.model_copy(update={"placed": False}))  # PNG masks tell nothing


def test_what_tells_no_sides_is_not_turned() -> None:
    grid = geometry((0, 1, 2), (1, 1, 1), placed=False)
    stored = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    look = look_at("a", stored, stored, grid)
    assert not look.sides
    np.testing.assert_array_equal(slice_of(look, stored, 0, 1), stored[1])
    assert turn_of(placement(grid, "ras", (0, 1, 2))[0]) is None


def test_a_bright_right_side_is_drawn_on_the_left_however_it_is_stored(tmp_path: Path) -> None:
    import nibabel

    world = np.zeros((6, 5, 4), np.float32)  # (x, y, z) = (right, anterior, superior)
    world[-1, -1, -1] = 1
    for name, flip in (("ras", (1, 1, 1)), ("lps", (-1, -1, 1)), ("lai", (-1, 1, -1))):
        array = world[tuple(slice(None, None, step) for step in flip)]
        nibabel.save(nibabel.Nifti1Image(array, np.diag([*map(float, flip), 1.0])), tmp_path / f"{name}.nii.gz")
        volume = read_image((tmp_path / f"{name}.nii.gz",))
        look = look_at(name, volume.image[0], volume.image[0], volume.geometry)
        assert look.image is not None
        assert look.sides
        for axis in range(3):
            plane = slice_of(look, look.image, axis, look.image.shape[axis] - 1)
            assert np.argwhere(plane).tolist() == [[0, 0]], (name, axis)
