from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from autoseg.preprocessing import export
from autoseg.preprocessing.export import labels_on_grid
from autoseg.records import Labels

EVEN = (1.0, 1.0, 1.0)
sizes = st.integers(1, 12)
shapes = st.tuples(sizes, sizes, sizes)


def names_of(heads: int) -> Labels:
    return Labels(names={"background": 0, **{f"label_{value}": value for value in range(1, heads)}})


@settings(deadline=None, max_examples=40)
@given(shape=shapes, new_shape=shapes, heads=st.integers(2, 5), seed=st.integers(0, 999), slab=st.integers(1, 200))
def test_equals_the_whole_tensor_interpolated(shape, new_shape, heads, seed, slab):
    scores = np.random.default_rng(seed).normal(size=(heads, *shape)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_SLAB_VOXELS", slab)
        found = labels_on_grid(scores, new_shape, EVEN, EVEN, names_of(heads), 1)
    whole = np.stack(
        [resize(head.astype(np.float64), new_shape, order=1, mode="edge", anti_aliasing=False) for head in scores]
    )
    best = np.sort(whole, axis=0)
    decided = best[-1] - best[-2] > 1e-5
    np.testing.assert_array_equal(found[decided], whole.argmax(axis=0)[decided])


def test_of_equal_scores_the_first_wins():
    found = labels_on_grid(np.ones((3, 4, 4, 4), dtype=np.float32), (8, 8, 8), EVEN, EVEN, names_of(3), 1)
    assert np.all(found == 0)


def test_more_than_255_labels():
    scores = np.zeros((300, 1, 1, 300), dtype=np.float32)
    scores[np.arange(300), 0, 0, np.arange(300)] = 1
    found = labels_on_grid(scores, (1, 1, 300), EVEN, EVEN, names_of(300), 1)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[0, 0], np.arange(300))
