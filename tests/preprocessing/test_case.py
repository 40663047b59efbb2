from __future__ import annotations

from itertools import permutations, product
from math import ceil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter, minimum_filter

from autoseg.errors import DatasetError, PlanError
from autoseg.preprocessing.case import probabilities_to_image_space, to_image_space, to_network_space
from autoseg.records import OUTSIDE, LabelMap, Labels, Volume

WAYS = [(p, s) for p in permutations(range(3)) for s in product((1, -1), repeat=3)]
SHAPE = (12, 14, 16)


def one_hot(labels: np.ndarray, heads: int) -> np.ndarray:
    """Scores whose arg-max is the label map; OUTSIDE counts as background."""
    return np.stack([np.maximum(labels, 0) == head for head in range(heads)]).astype(np.float32)


def stored_as(ras: np.ndarray, permutation, signs) -> np.ndarray:
    """An RAS array (Z, Y, X) as a file with these axes would hold it, (k, j, i)."""
    turned = ras.transpose(*range(ras.ndim - 3), *(ras.ndim - 1 - permutation[2 - axis] for axis in range(3)))
    flips = tuple(slice(None, None, signs[2 - axis]) for axis in range(3))
    return np.ascontiguousarray(turned[(..., *flips)])


@pytest.mark.parametrize(("permutation", "signs"), WAYS, ids=str)
def test_all_orientations_give_the_same_prepared_case(permutation, signs, geometry, preparation, case):
    volume, label_map = case(geometry(SHAPE, (1.5, 1.0, 0.8)))
    wanted = preparation(spacing=(1.2, 1.1, 1.0), axis_order=(1, 0, 2))
    expected = to_network_space("a", volume, label_map, wanted)
    image = stored_as(volume.image, permutation, signs)
    spacing = tuple((0.8, 1.0, 1.5)[permutation[2 - axis]] for axis in range(3))
    turned = geometry(image.shape[1:], spacing, permutation, signs)
    labels = stored_as(label_map.labels, permutation, signs)
    prepared = to_network_space("a", Volume(image, turned), LabelMap(labels, turned), wanted)
    np.testing.assert_array_equal(prepared.image, expected.image)
    np.testing.assert_array_equal(prepared.labels, expected.labels)
    for name, voxels in expected.locations.items():
        np.testing.assert_array_equal(prepared.locations[name], voxels)
    scores = one_hot(prepared.labels, 3)
    mask = to_image_space(scores, prepared.placement, wanted.labels)
    expected_mask = to_image_space(scores, expected.placement, wanted.labels)
    np.testing.assert_array_equal(mask, stored_as(expected_mask, permutation, signs))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*[st.integers(3, 12)] * 3),
    way=st.sampled_from(WAYS),
    axis_order=st.permutations(range(3)),
    mode=st.sampled_from(["ras", "stored"]),
    seed=st.integers(0, 99),
)
def test_labels_come_back_exactly_where_nothing_is_resampled(
    shape, way, axis_order, mode, seed, geometry, preparation, case
):
    volume, label_map = case(geometry(shape, permutation=way[0], signs=way[1]), seed=seed)
    wanted = preparation(orientation=mode, axis_order=tuple(axis_order))
    prepared = to_network_space("a", volume, label_map, wanted)
    mask = to_image_space(one_hot(prepared.labels, 3), prepared.placement, wanted.labels)
    np.testing.assert_array_equal(mask, label_map.labels)
    assert mask.dtype == np.uint8
    assert mask.flags.c_contiguous


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spacing=st.tuples(*[st.floats(0.6, 1.6)] * 3),
    new_spacing=st.tuples(*[st.floats(0.6, 1.4)] * 3),
    way=st.sampled_from(WAYS),
)
def test_labels_come_back_nearly_after_resampling(spacing, new_spacing, way, geometry, preparation, case):
    volume, label_map = case(geometry((24, 26, 28), spacing, way[0], way[1]))
    wanted = preparation(spacing=new_spacing)
    prepared = to_network_space("a", volume, label_map, wanted)
    mask = to_image_space(one_hot(prepared.labels, 3), prepared.placement, wanted.labels)
    assert mask.shape == label_map.labels.shape
    for value in (5, 200):
        ours, theirs = mask == value, label_map.labels == value
        # A border on the coarser grid moves by up to half a network voxel, here 1.4 / 0.6 / 2 = 1.17 voxels of the
        # file, 0.58 in the mean. A ball of radius r whose surface moves by e loses 3 e / 2 r of its Dice: of the core's
        # (r = 4.2 voxels) 0.21. Two linear interpolations by scipy lose as much: 0.82 is left of it at these ratios.
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.75
    # A voxel depends on network voxels nearer than one of their own size, and these on voxels nearer than one: where
    # all that are so near are alike nothing may change.
    reach = ceil(max(new_spacing) / min(spacing) + 1)
    alike = maximum_filter(label_map.labels, 2 * reach + 1) == minimum_filter(label_map.labels, 2 * reach + 1)
    assert alike.any()
    np.testing.assert_array_equal(mask[alike], label_map.labels[alike])


def test_stored_mode_keeps_the_axes_of_the_file(geometry, preparation, case):
    volume, label_map = case(geometry(SHAPE, permutation=(2, 0, 1), signs=(-1, 1, -1)))
    volume = Volume(volume.image + 1, volume.geometry)  # no zeros, so no crop
    prepared = to_network_space(
        "a", volume, label_map, preparation(orientation="stored", normalization=("NoNormalization",))
    )
    np.testing.assert_array_equal(prepared.image, volume.image)


@pytest.mark.parametrize("turned", [False, True])
def test_an_image_that_may_be_written_over_gives_the_same(turned, geometry, preparation, case):
    volume, _ = case(geometry(SHAPE, permutation=(2, 0, 1)) if turned else geometry(SHAPE))
    image = volume.image + 1  # no zeros, so no crop
    mine = image.copy()
    wanted = preparation()
    expected = to_network_space("a", Volume(image, volume.geometry), None, wanted)
    np.testing.assert_array_equal(image, mine)
    found = to_network_space("a", Volume(mine, volume.geometry), None, wanted, owned=True)
    np.testing.assert_array_equal(found.image, expected.image)
    assert np.shares_memory(found.image, mine) is not turned


def test_outside_and_masked_normalization(geometry, preparation, case):
    volume, label_map = case(geometry(SHAPE))
    label_map.labels[0, 0, 0] = 5  # a label where the image is zero and far from the rest
    wanted = preparation(use_mask_for_normalization=(True,), normalization=("ZScoreNormalization",))
    prepared = to_network_space("a", volume, label_map, wanted)
    assert prepared.labels.min() == OUTSIDE
    np.testing.assert_array_equal(prepared.image[0][prepared.labels == OUTSIDE], 0)
    inside = prepared.image[0][prepared.labels >= 0]
    assert inside.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert inside.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    unlabelled = to_network_space("a", volume, None, wanted)
    assert unlabelled.labels is None
    assert unlabelled.locations == {}
    np.testing.assert_allclose(unlabelled.image, prepared.image, atol=1e-5)


def test_an_empty_image_keeps_its_full_box(geometry, preparation):
    grid = geometry(SHAPE)
    volume = Volume(np.zeros((1, *SHAPE), dtype=np.float32), grid)
    label_map = LabelMap(np.zeros(SHAPE, dtype=np.uint8), grid)
    prepared = to_network_space("a", volume, label_map, preparation(use_mask_for_normalization=(True,)))
    assert prepared.image.shape == (1, *SHAPE)
    assert np.isfinite(prepared.image).all()
    assert np.all(prepared.labels == OUTSIDE)
    assert all(len(voxels) == 0 for voxels in prepared.locations.values())


def test_two_dimensional_plans_keep_the_slices(geometry, preparation, case):
    volume, label_map = case(geometry(SHAPE, (4.0, 1.0, 1.0)))
    prepared = to_network_space("a", volume, label_map, preparation(spacing=(None, 0.5, 0.5)))
    assert prepared.placement.prepared_spacing == (4.0, 0.5, 0.5)
    cropped = prepared.placement.cropped_shape
    assert prepared.image.shape[1:] == (cropped[0], 2 * cropped[1], 2 * cropped[2])


def test_flat_images_stay_flat(geometry, preparation, case):
    volume, label_map = case(geometry((1, 20, 24), (1.0, 0.5, 0.5), signs=(-1, -1, 1), flat=True), channels=3)
    wanted = preparation(
        spacing=(None, 1.0, 1.0),
        normalization=("RescaleTo01Normalization",) * 3,
        use_mask_for_normalization=(False,) * 3,
        intensities=preparation().intensities * 3,
    )
    prepared = to_network_space("a", volume, label_map, wanted)
    assert prepared.image.shape[:2] == (3, 1)
    assert prepared.placement.orientation_flips == (False, False, False)
    mask = to_image_space(one_hot(prepared.labels, 3), prepared.placement, wanted.labels)
    assert mask.shape == (1, 20, 24)
    assert (mask == label_map.labels).mean() > 0.9


def test_regions_write_in_their_order(geometry, preparation, case):
    names = Labels(names={"background": 0, "whole": (5, 200), "core": 200}, regions_class_order=(5, 200))
    volume, label_map = case(geometry(SHAPE))
    wanted = preparation(labels=names)
    prepared = to_network_space("a", volume, label_map, wanted)
    scores = np.stack([prepared.labels > 0, prepared.labels == 2]).astype(np.float32) - 0.5
    np.testing.assert_array_equal(to_image_space(scores, prepared.placement, names), label_map.labels)
    probabilities = probabilities_to_image_space(scores, prepared.placement, names)
    outside = np.ones(SHAPE, dtype=bool)
    (z0, z1), (y0, y1), (x0, x1) = prepared.placement.box
    outside[z0:z1, y0:y1, x0:x1] = False
    assert np.all(probabilities[:, outside] == 0)
    np.testing.assert_allclose(probabilities[0][~outside].max(), 1 / (1 + np.exp(-0.5)), rtol=1e-6)
    unknown = names.model_copy(update={"regions_class_order": (5, 7)})
    with pytest.raises(PlanError, match=r"\[7\]"):
        to_image_space(scores, prepared.placement, unknown)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[13], WAYS[47]], ids=str)
def test_probabilities_lie_on_the_file_grid(way, geometry, preparation, case):
    volume, label_map = case(geometry(SHAPE, (1.5, 1.0, 0.8), way[0], way[1]))
    wanted = preparation(spacing=(1.0, 1.1, 1.0))
    prepared = to_network_space("a", volume, label_map, wanted)
    scores = np.random.default_rng(0).normal(size=(3, *prepared.image.shape[1:])).astype(np.float32) * 100
    probabilities = probabilities_to_image_space(scores, prepared.placement, wanted.labels)
    assert probabilities.shape == (3, *SHAPE)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, rtol=1e-5)
    mask = to_image_space(scores, prepared.placement, wanted.labels)
    np.testing.assert_array_equal(np.array([0, 5, 200])[probabilities.argmax(axis=0)], mask)


@pytest.mark.parametrize("wrong", [(2, 5, 5, 5), (3, 4, 5, 5)])
def test_scores_of_another_shape_are_refused(wrong, geometry, preparation, case):
    volume, _ = case(geometry(SHAPE))
    prepared = to_network_space("a", volume, None, preparation())
    with pytest.raises(ValueError, match="do not fit"):
        to_image_space(np.zeros(wrong, dtype=np.float32), prepared.placement, preparation().labels)


def test_what_does_not_fit_is_named(geometry, preparation, case):
    volume, label_map = case(geometry(SHAPE))
    two_channels, _ = case(geometry(SHAPE), channels=2)
    with pytest.raises(DatasetError, match="2 channels, the plan expects 1"):
        to_network_space("a", two_channels, None, preparation())
    short = LabelMap(label_map.labels[:-1], label_map.geometry)
    with pytest.raises(DatasetError, match="label map has"):
        to_network_space("a", volume, short, preparation())
    with pytest.raises(DatasetError, match="not declared"):
        to_network_space("a", volume, label_map, preparation(labels=Labels(names={"background": 0, "shell": 5})))
    with pytest.raises(PlanError, match="unknown normalization 'Magic'"):
        to_network_space("a", volume, None, preparation(normalization=("Magic",)))
