from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.training.spatial import (
    SpatialDraw,
    is_flat,
    largest_rotation,
    rotation_matrix,
    spline_operator,
    transform,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(-3, 3), st.floats(-0.4, 0.4))
def test_images_are_interpolated_where_the_matrix_points(seed: int, first: float, second: float) -> None:
    # a linear ramp is reproduced exactly by linear interpolation
    rng = np.random.default_rng(seed)
    larger, patch = (15, 17, 16), (4, 5, 6)
    slope = rng.normal(size=3)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in larger), indexing="ij"))
    image = torch.from_numpy(np.tensordot(slope, grid, 1)).float()[None, None]
    matrix = rotation_matrix(np.array([first, second, 0.3])) * 0.9
    labels = torch.zeros((1, *larger), dtype=torch.int16)
    found, _ = transform(image, labels, [SpatialDraw(matrix, None)], patch)
    outputs = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in patch), indexing="ij"))
    read = np.tensordot(matrix, outputs, 1) + (np.array(larger)[:, None, None, None] - 1) / 2
    np.testing.assert_allclose(found[0, 0].numpy(), np.tensordot(slope, read, 1), atol=2e-4)


@pytest.mark.parametrize("patch", [(5, 7, 6), (6, 7), (2, 9, 7)])
def test_the_identity_is_the_crop_where_both_share_a_centre(patch: tuple[int, ...]) -> None:
    larger = tuple(edge if is_flat(patch) and axis == 0 else edge + 4 for axis, edge in enumerate(patch))
    images = torch.randn(2, 3, *larger)
    labels = torch.randint(-1, 3, (2, *larger)).short()
    identity = SpatialDraw(np.eye(2 if is_flat(patch) else len(patch)), None)
    turned, cropped = (transform(images, labels, [draw, draw], patch) for draw in (identity, None))
    torch.testing.assert_close(turned[0], cropped[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(turned[1], cropped[1])


def test_image_and_labels_move_together() -> None:
    labels = torch.zeros((1, 40, 40, 40), dtype=torch.int16)
    labels[:, 12:25, 15:30, 10:22] = 1
    images = labels[:, None].float()
    matrix = rotation_matrix(np.array([0.3, -0.2, 0.4])) * 1.2
    bend = np.random.default_rng(0).normal(size=(3, 6, 6, 6))
    moved_images, moved_labels = transform(images, labels, [SpatialDraw(matrix, bend)], (30, 30, 30))
    assert bool(moved_labels.any())
    agree = (moved_images[:, 0] > 0.5) == (moved_labels == 1)
    assert float(agree.float().mean()) > 0.999


def test_quarter_turns_permute_the_voxels() -> None:
    labels = torch.randint(0, 4, (1, 6, 6)).short()
    images = torch.randn(1, 1, 6, 6)
    quarter = SpatialDraw(rotation_matrix(np.array([math.pi / 2])), None)
    found_images, found_labels = transform(images, labels, [quarter], (6, 6))
    assert torch.equal(found_labels, torch.rot90(labels, -1, (1, 2)))
    torch.testing.assert_close(found_images, torch.rot90(images, -1, (2, 3)), atol=1e-4, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-3.2, 3.2), min_size=3, max_size=3))
def test_rotations_are_rotations(angles: list[float]) -> None:
    matrix = rotation_matrix(np.array(angles))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


@pytest.mark.parametrize(
    ("patch", "degrees", "flat"),
    [((40, 56, 40), 30, False), ((10, 256, 224), 180, True), ((64, 64), 180, False), ((96, 60), 15, False)],
)
def test_limits_are_nnunets(patch: tuple[int, ...], degrees: float, flat: bool) -> None:
    assert math.degrees(largest_rotation(patch)) == pytest.approx(degrees)
    assert is_flat(patch) == flat


@pytest.mark.parametrize("size", [1, 5, 40])
def test_spline_weights_are_a_partition_of_one(size: int) -> None:
    operator = spline_operator(6, size)
    assert operator.shape == (size, 6)
    np.testing.assert_allclose(operator.sum(1), 1, atol=1e-6)
    assert (operator >= 0).all()
