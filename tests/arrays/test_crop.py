from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from scipy import ndimage

from autoseg.arrays import crop as cropping
from autoseg.arrays.crop import bounding_box, crop, cropped_in_place, fill_holes, full_box, nonzero_mask, uncrop

shapes = array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9)
seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=150)
@given(shape=shapes, seed=seeds, density=st.sampled_from([0.0, 0.1, 0.5, 0.8, 0.95, 1.0]))
def test_fill_holes_equals_scipy(shape, seed, density):
    mask = np.random.default_rng(seed).random(shape) < density
    before = mask.copy()
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("shape", [(3, 3, 3), (5, 3, 3), (3, 3, 5), (5, 7, 9), (1, 9, 9)])
@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("turned", [False, True])
def test_holes_in_every_other_voxel(shape, every, turned):
    """cc3d 4.1.1 itself fails at some of these patterns where voxels that touch by a corner are joined."""
    mask = np.indices(shape)[-every:].sum(axis=0) % 2 == turned
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))
    mask = ~np.all(np.indices(shape) % 2 == turned, axis=0)
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


@settings(deadline=None, max_examples=100)
@given(shape=shapes, seed=seeds, density=st.sampled_from([0.0, 0.02, 0.3, 1.0]))
def test_box_is_the_smallest_that_holds_the_mask(shape, seed, density):
    mask = np.random.default_rng(seed).random(shape) < density
    box = bounding_box(mask)
    if not mask.any():
        assert box == full_box(shape)
        return
    assert box == tuple((int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(mask))
    assert crop(mask, box).sum() == mask.sum()


@settings(deadline=None, max_examples=60)
@given(shape=shapes, seed=seeds)
def test_uncrop_undoes_crop(shape, seed):
    generator = np.random.default_rng(seed)
    mask = generator.random(shape) < 0.05
    array = generator.normal(size=(2, *shape)) * mask
    box = bounding_box(mask)
    np.testing.assert_array_equal(uncrop(crop(array, box), box, shape, 0), array)
    outside = uncrop(crop(array, box), box, shape, 7)
    inside = np.zeros(shape, dtype=bool)
    crop(inside, box)[...] = True
    assert np.all(outside[:, ~inside] == 7)


def test_mask_joins_channels_and_fills_holes():
    image = np.zeros((2, 5, 5, 5), dtype=np.float32)
    image[0, 1:4, 1:4, 1:4] = 1
    image[0, 2, 2, 2] = 0
    image[1, 0, 0, 0] = -3
    mask = nonzero_mask(image)
    assert mask.dtype == np.bool_
    assert mask.sum() == 28
    assert mask[2, 2, 2]
    assert mask[0, 0, 0]


def test_no_hole_is_filled_in_a_single_slice():
    image = np.zeros((1, 1, 7, 7), dtype=np.float32)
    image[0, 0, 1:6, 1:6] = 1
    image[0, 0, 2:5, 2:5] = 0
    assert nonzero_mask(image).sum() == 16


@pytest.mark.parametrize("lead", [(), (3,)])
def test_crop_is_a_view(lead):
    array = np.zeros((*lead, 4, 5, 6))
    assert np.shares_memory(crop(array, ((1, 3), (0, 5), (2, 4))), array)


@settings(deadline=None, max_examples=150)
@given(shape=shapes, channels=st.integers(1, 3), moved=st.integers(1, 40), data=st.data())
def test_a_crop_in_place_holds_what_a_copy_holds(shape, channels, moved, data):
    box = tuple(
        (low, data.draw(st.integers(low + 1, size)))
        for size, low in ((size, data.draw(st.integers(0, size - 1))) for size in shape)
    )
    array = np.arange(channels * np.prod(shape), dtype=np.float32).reshape(channels, *shape)
    wanted = crop(array, box).copy()
    whole = array.copy()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cropping, "_MOVED_VOXELS", moved)
        found = cropped_in_place(array, box)
        turned = cropped_in_place(np.asfortranarray(whole), box)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(turned, wanted)
    assert found.flags.c_contiguous
    assert turned.flags.c_contiguous
    if 2 * found.size >= array.size:
        assert np.shares_memory(found, array)
    elif not crop(whole, box).flags.c_contiguous:
        assert not np.shares_memory(found, array)  # the rest of the memory can go
