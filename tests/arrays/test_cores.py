from __future__ import annotations

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import touching
from scipy import ndimage

from autoseg.arrays.components import pieces_of
from autoseg.arrays.cores import deepest, depths, object_cores

SQUARE = (1.0, 1.0, 1.0)
ALL_NEIGHBOURS = np.ones((3, 3, 3))


def parts(mask: NDArray[np.bool_]) -> int:
    return int(ndimage.label(mask, ALL_NEIGHBOURS)[1])


def test_a_square_keeps_what_is_deep_in_it() -> None:
    ids = np.zeros((1, 11, 11), np.uint8)
    ids[0, 1:10, 1:10] = 4
    core = object_cores(ids, SQUARE, margin=2.0)
    expected = np.zeros_like(ids, dtype=np.bool_)
    expected[0, 3:8, 3:8] = True
    np.testing.assert_array_equal(core, expected)


def test_depth_is_in_millimetres() -> None:
    ids = np.zeros((1, 11, 21), np.uint8)
    ids[0, 1:10, 1:20] = 1
    core = object_cores(ids, (5.0, 1.0, 0.5), margin=1.5)
    assert (core[0].any(0).argmax(), core[0].any(1).argmax()) == (4, 2)  # depths of 2.0 mm each


def test_the_end_of_the_image_is_no_surface() -> None:
    ids = np.ones((3, 6, 6), np.uint16)
    assert object_cores(ids, SQUARE, margin=2.0).all()
    ids[:, :, 3:] = 2
    core = object_cores(ids, SQUARE, margin=2.0)
    assert core[0, 0].tolist() == [True, True, False, False, True, True]  # half of the depth of 3 is less than 2


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_small_object_has_a_core(size: int) -> None:
    ids = np.zeros((5, 5, 5), np.uint8)
    ids[1 : 1 + size, 1 : 1 + size, 1 : 1 + size] = 9
    assert object_cores(ids, SQUARE, margin=10.0).any()


def test_thin_objects_that_touch_have_cores_that_do_not() -> None:
    ids = np.zeros((1, 4, 12), np.uint8)
    ids[0, 0:2], ids[0, 2:4] = 1, 2
    core = object_cores(ids, SQUARE, margin=1.0)
    assert core[0, 0].all()
    assert not core[0, 1:3].any()
    assert core[0, 3].all()


def test_of_objects_that_touch_everywhere_some_keep_a_core() -> None:
    """Lines of one voxel: there is no room for two cores."""
    ids = np.zeros((1, 4, 8), np.uint8)
    ids[0, 1], ids[0, 2] = 1, 2
    core = object_cores(ids, SQUARE, margin=1.0)
    assert core[0, 1].all()
    assert not core[0, 2].any()


def test_a_neck_does_not_part_a_core() -> None:
    ids = np.zeros((1, 13, 30), np.uint8)
    ids[0, 1:12, 1:12], ids[0, 1:12, 18:29] = 1, 1
    ids[0, 4:9, 12:18] = 1  # a neck of five: deeper than 2, not than 3
    core = object_cores(ids, SQUARE, margin=3.5)
    assert parts(core) == 1
    assert core[0, 6, 15]


def test_a_core_with_a_neck_keeps_its_distance_to_others() -> None:
    ids = np.zeros((1, 13, 40), np.uint8)
    ids[0, 1:12, 1:12], ids[0, 1:12, 18:29] = 1, 1
    ids[0, 5:8, 12:18] = 1
    ids[0, 1:12, 29:39] = 2
    core = object_cores(ids, SQUARE, margin=3.0)
    assert parts(core & (ids == 1)) == 1
    assert not core[0, :, 26:31].any()
    assert core[0, 6, 25]
    assert core[0, 6, 32]


def test_what_cannot_be_joined_keeps_its_largest_part() -> None:
    """A neck that lies along another object is no core, however thin the margin."""
    ids = np.zeros((1, 12, 30), np.uint8)
    ids[0, 1:9, 1:9], ids[0, 1:8, 20:27] = 1, 1
    ids[0, 5, 9:20] = 1
    ids[0, 4, 10:19], ids[0, 6, 10:19] = 2, 3
    core = object_cores(ids, SQUARE, margin=2.0)
    assert parts(core & (ids == 1)) == 1
    assert core[0, 5, 5]
    assert not core[0, 5, 23]


def test_pieces_of_one_id_have_a_core_each() -> None:
    ids = np.zeros((1, 7, 20), np.int64)
    ids[0, 1:6, 1:6], ids[0, 1:6, 12:17] = 2**40, 2**40
    assert parts(object_cores(ids, SQUARE, margin=1.0)) == 2


def test_nothing_has_no_core() -> None:
    assert not object_cores(np.zeros((2, 3, 4), np.uint16), SQUARE, 1.0).any()


def test_depths_are_those_of_scipy() -> None:
    ids = touching(3, (1, 60, 60), 12, (6, 12))
    pieces, count = pieces_of(ids)
    depth = depths(pieces, (1.0, 0.7, 1.3))
    most = deepest(pieces, depth, count)
    assert count > 5
    for number in range(1, count + 1):
        own = np.pad(pieces[0] == number, 40, mode="edge")  # beyond the end the image goes on
        theirs = ndimage.distance_transform_edt(own, sampling=(0.7, 1.3))[40:-40, 40:-40]
        inside = pieces[0] == number
        np.testing.assert_allclose(depth[0][inside], theirs[inside], rtol=1e-5)
        assert most[number] == depth[0][inside].max()


@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(1, 70, 80), (20, 24, 28)]),
    margin=st.sampled_from([1.0, 1.5, 2.0, 3.0]),
)
@settings(max_examples=30, deadline=None)
def test_each_object_has_one_core_and_no_two_touch(seed: int, shape: tuple[int, int, int], margin: float) -> None:
    ids = touching(seed, shape, 14, (4, 9))
    core = object_cores(ids, SQUARE, margin)
    assert not core[ids == 0].any()
    numbered = cc3d.connected_components(np.pad(core, 1), connectivity=26)[1:-1, 1:-1, 1:-1]
    owners = [np.unique(ids[numbered == number]) for number in range(1, int(numbered.max()) + 1)]
    assert all(len(owner) == 1 for owner in owners)
    assert sorted(int(owner[0]) for owner in owners) == sorted(np.unique(ids[ids > 0]).tolist())
    named = np.where(ids > 0, ids.max() + 1 - ids, 0).astype(np.uint64) * 2**33
    np.testing.assert_array_equal(object_cores(named, SQUARE, margin), core)
