from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from autoseg.arrays.label_volumes import label_volumes
from autoseg.records import Labels

LABELS = Labels(names={"background": 0, "a": 2, "b": 7})
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2})
SIDES = (("inferior", "superior"), ("posterior", "anterior"), ("left", "right"))


@settings(deadline=None, max_examples=60)
@given(mask=arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3), elements=st.sampled_from([0, 0, 2, 7])))
def test_against_the_definition(mask: np.ndarray) -> None:
    found = label_volumes(mask, 0.25, LABELS, SIDES)
    for name, value in (("a", 2), ("b", 7)):
        own = mask == value
        assert found[name].voxels == own.sum()
        assert found[name].ml == own.sum() * 0.25
        assert found[name].components == ndimage.label(own, np.ones((3, 3, 3)))[1]
        faces = {
            side
            for axis, names in enumerate(SIDES)
            if mask.shape[axis] > 1
            for side, plane in zip(names, (0, -1), strict=True)
            if own.take(plane, axis=axis).any()
        }
        assert set(found[name].border) == faces


def test_regions_are_unions() -> None:
    mask = np.zeros((4, 5, 6), dtype=np.uint8)
    mask[1, 1, 1:3] = (1, 2)
    mask[3, 3, 3] = 2
    found = label_volumes(mask, 1.0, REGIONS, SIDES)
    assert (found["whole"].voxels, found["whole"].components) == (3, 2)
    assert (found["core"].voxels, found["core"].components) == (2, 2)
    assert found["whole"].border == ("superior",)


def test_values_near_2_to_the_31_take_no_table_of_all_values() -> None:
    """A table of all values up to the largest would take 4 GB; a search plane by plane takes what a plane takes."""
    labels = Labels(names={"background": 0, "a": 2**31 - 1, "b": 7})
    mask = np.zeros((20, 100, 100), dtype=np.uint32)
    mask[2, 2, 2:5], mask[6:8, 3, 3] = 2**31 - 1, 7
    tracemalloc.start()
    try:
        found = label_volumes(mask, 1.0, labels, SIDES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found["a"].voxels, found["b"].voxels) == (3, 2)
    assert peak < 8 * mask.nbytes
