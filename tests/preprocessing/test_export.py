from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from autoseg.arrays import resample_scores_torch
from autoseg.arrays.labels import region_round_trip
from autoseg.preprocessing import export
from autoseg.preprocessing.export import in_slabs
from autoseg.records import Labels

EVEN = (1.0, 1.0, 1.0)
sizes = st.integers(1, 12)
shapes = st.tuples(sizes, sizes, sizes)


def labels_on_grid(scores, new_shape, current_spacing, new_spacing, names, order):
    return export.labels_on_grid(
        in_slabs(scores), scores.shape[1:], new_shape, current_spacing, new_spacing, names, order
    )


def names_of(heads: int) -> Labels:
    return Labels(names={"background": 0, **{f"label_{value}": value for value in range(1, heads)}})


@settings(deadline=None, max_examples=40)
@given(shape=shapes, new_shape=shapes, heads=st.integers(2, 5), seed=st.integers(0, 999), slab=st.integers(1, 200))
def test_equals_the_whole_tensor_interpolated(shape, new_shape, heads, seed, slab):
    scores = np.random.default_rng(seed).normal(size=(heads, *shape)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample_scores_torch, "CHUNK_VOXELS", slab)
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


@settings(deadline=None, max_examples=40)
@given(shape=shapes, new_shape=shapes, members=st.lists(st.sets(st.integers(1, 5), min_size=1), min_size=2, max_size=4))
def test_regions_without_an_order_give_the_most_likely_value(shape, new_shape, members):
    regions = {f"r{number}": tuple(sorted(values)) for number, values in enumerate(members)}
    names = Labels(names={"background": 0, "all": (1, 2, 3, 4, 5), **regions})
    scores = np.random.default_rng(1).normal(size=(len(members) + 1, *shape)).astype(np.float32)
    found = labels_on_grid(scores, new_shape, EVEN, EVEN, names, 1)
    wide = [resize(head.astype(float), new_shape, order=1, mode="edge", anti_aliasing=False) for head in scores]
    whole = np.stack(wide)
    # the likelihood of a value, written out: its regions are there and the others are not
    there, not_there = -np.log1p(np.exp(-whole)), -np.log1p(np.exp(whole))
    inside = [[value in values for values in ({1, 2, 3, 4, 5}, *members)] for value in names.values]
    likelihood = np.stack([sum(there[r] if yes else not_there[r] for r, yes in enumerate(row)) for row in inside])
    chosen = np.take_along_axis(likelihood, found[None].astype(int), axis=0)[0]
    np.testing.assert_allclose(chosen, likelihood.max(axis=0), atol=1e-5)


@settings(deadline=None, max_examples=100)
@given(
    members=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=6, unique=True), min_size=1, max_size=5),
    order=st.lists(st.integers(1, 6), min_size=5, max_size=5),
    ordered=st.booleans(),
)
def test_the_round_trip_is_that_of_the_masks(members, order, ordered):
    regions = {f"r{number}": tuple(values) for number, values in enumerate(members)}
    names = Labels(names={"background": 0, **regions})
    known = [value if value in names.values else names.values[-1] for value in order[: len(members)]]
    names = names.model_copy(update={"regions_class_order": tuple(known) if ordered else None})
    if not names.has_regions:
        return
    perfect = np.where(names.value_membership.T, 9, -9).astype(np.float32)[:, None, None, :]
    shape = (1, 1, len(names.values))
    positions = labels_on_grid(perfect, shape, EVEN, EVEN, names, 1)[0, 0]
    lost = [value for value, found in zip(names.values, positions, strict=True) if names.values[found] != value]
    faults = region_round_trip(names)
    assert len(faults) == len(lost)
    for value, fault in zip(lost, faults, strict=True):
        assert fault.startswith(f"value {value} ")


def test_more_than_255_labels():
    scores = np.zeros((300, 1, 1, 300), dtype=np.float32)
    scores[np.arange(300), 0, 0, np.arange(300)] = 1
    found = labels_on_grid(scores, (1, 1, 300), EVEN, EVEN, names_of(300), 1)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[0, 0], np.arange(300))
