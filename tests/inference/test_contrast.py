"""What networks say at every voxel beside its reference is what their whole probabilities say."""

from __future__ import annotations

import numpy as np
import pytest
from inference_builders import LABELS, a_model, a_volume
from scores_builders import score_prepared

from autoseg.arrays.labels import encode
from autoseg.inference.contrast import Contrast, probability_of
from autoseg.inference.volume import found_labels, prepare_volume
from autoseg.inference.witness import Witness
from autoseg.preprocessing.case import probabilities_to_image_space
from autoseg.records import Labels

REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2})

AFFINES = (
    np.diag([1.0, 1.0, 1.0, 1.0]),
    np.array([[0, -1.2, 0, 0], [1, 0, 0, 0], [0, 0, -1.5, 0], [0, 0, 0, 1]], float),
)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("affine", AFFINES)
def test_it_is_what_the_whole_probabilities_say(groups: int, affine: np.ndarray) -> None:
    model, volume = a_model(groups), a_volume(affine)
    prepared = prepare_volume(model, "a", volume)
    truth = np.random.default_rng(0).integers(0, 4, volume.geometry.shape).astype(np.int16)  # 3 is not counted
    contrast = Contrast(truth, LABELS)
    mask = found_labels(model, prepared, witness=Witness(LABELS, contrast))
    np.testing.assert_array_equal(contrast.found, encode(mask, LABELS))
    assert len(np.unique(contrast.found)) == 3
    scores = score_prepared(model, prepared)
    whole = sum(
        probabilities_to_image_space(part, case.placement, LABELS) for part, case in zip(scores, prepared, strict=True)
    ) / len(scores)
    inside = whole.sum(0) > 0.5  # outside the crop nobody is asked
    best = np.take_along_axis(whole, contrast.found[None].astype(int), 0)[0]
    np.testing.assert_allclose(contrast.best[inside], best[inside], atol=1e-3)
    counted = inside & (truth < 3)
    own = np.take_along_axis(whole, np.minimum(truth, 2)[None].astype(int), 0)[0]
    np.testing.assert_allclose(contrast.own[counted], own[counted], atol=1e-3)


def test_outside_the_crop_all_is_background_for_certain() -> None:
    model = a_model(1)
    volume = a_volume(AFFINES[0])
    truth = np.ones(volume.geometry.shape, dtype=np.int16)
    truth[0, 0, 0] = 0  # the phantom's image begins at (1, 3, 2)
    contrast = Contrast(truth, LABELS)
    found_labels(model, prepare_volume(model, "a", volume), witness=Witness(LABELS, contrast))
    assert (contrast.found[0, 0, 0], contrast.own[0, 0, 0], contrast.best[0, 0, 0]) == (0, 1, 1)
    assert (contrast.found[0, 0, 1], contrast.own[0, 0, 1], contrast.best[0, 0, 1]) == (0, 0, 1)


def test_a_value_is_as_probable_as_the_least_certain_of_its_regions() -> None:
    outputs = np.array([0.9, 0.3], np.float32).reshape(2, 1, 1, 1)  # the whole, its core
    values = [np.full((1, 1, 1), value, np.int16) for value in range(3)]
    told = [float(probability_of(outputs, value, REGIONS, independent=True)[0, 0, 0]) for value in values]
    assert told == pytest.approx([0.1, 0.7, 0.3])


def test_whole_probabilities_are_taken_plane_by_plane() -> None:
    rng = np.random.default_rng(1)
    whole = rng.dirichlet(np.ones(3), (4, 5, 6)).transpose(3, 0, 1, 2).astype(np.float32)
    truth = rng.integers(0, 3, (4, 5, 6)).astype(np.int16)
    contrast = Contrast(truth, LABELS)
    contrast.put_whole(whole)
    np.testing.assert_array_equal(contrast.found, whole.argmax(0))
    np.testing.assert_allclose(contrast.best, whole.max(0), atol=1e-3)
    np.testing.assert_allclose(contrast.own, np.take_along_axis(whole, truth[None].astype(int), 0)[0], atol=1e-3)


def test_an_object_is_one_thing_wherever_its_core_begins() -> None:
    labels = Labels(
        names={"background": 0, "cell": (1, 3), "cell core": 3, "tissue": 2},
        regions_class_order=(1, 3, 2),
        things={"cell": "cell core"},
        core_margin_mm=1.0,
    )
    outputs = np.zeros((3, 1, 1, 4), np.float32)  # cell, its core, tissue
    outputs[:, 0, 0, 0] = 0.9, 0.5, 0.1  # on the edge of a core
    outputs[:, 0, 0, 1] = 0.8, 0.9, 0.1
    outputs[:, 0, 0, 2] = 0.2, 0.1, 0.7
    whole = labels.without_cores
    truth = encode(np.array([[[1, 1, 1, 0]]]), whole)
    contrast = Contrast(truth, labels)
    contrast.put_whole(outputs)
    assert [whole.values[value] for value in contrast.found.ravel()] == [1, 1, 2, 0]
    np.testing.assert_allclose(contrast.best.ravel(), [0.9, 0.8, 0.7, 1.0], atol=1e-3)
    np.testing.assert_allclose(contrast.own.ravel(), [0.9, 0.8, 0.2, 1.0], atol=1e-3)
