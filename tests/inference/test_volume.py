from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from inference_builders import (
    LABELS,
    expected_mask,
    make_configuration,
    make_header,
    phantom,
    threshold_tensors,
)
from scores_builders import expected_passes, score_prepared

from autoseg.arrays.labels import decode
from autoseg.errors import PredictionError
from autoseg.inference.predictor import LoadedModel, build_model
from autoseg.inference.volume import (
    mask_of_prepared,
    predict_volume,
    prepare_volume,
    training_labels_of,
)
from autoseg.networks.catalog import build_network
from autoseg.records import Configuration, Geometry, Labels, PredictSettings, Volume

CPU = torch.device("cpu")


def a_model(*configurations: Configuration, biases: tuple[float, ...] = ()) -> LoadedModel:
    header = make_header(*configurations)
    return build_model(header, threshold_tensors(header, *biases), CPU, "float32")


def a_volume(affine: np.ndarray | None = None, array: np.ndarray | None = None) -> Volume:
    stored = np.transpose(phantom() if array is None else array)
    rows = tuple(tuple(float(value) for value in row) for row in (np.eye(4) if affine is None else affine))
    return Volume(np.ascontiguousarray(stored[None]), Geometry(shape=stored.shape, affine=rows))  # type: ignore[arg-type]


def orientations() -> list[np.ndarray]:
    affines = []
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        matrix = np.eye(4)
        matrix[:3, :3] = 0
        for axis, (place, sign) in enumerate(zip(order, signs, strict=True)):
            matrix[place, axis] = sign
        affines.append(matrix)
    return affines


@pytest.mark.parametrize("affine", orientations()[::5])
def test_the_mask_lies_on_the_files_grid(affine: np.ndarray) -> None:
    mask = predict_volume(a_model(make_configuration()), a_volume(affine))
    np.testing.assert_array_equal(mask, expected_mask(phantom()).T)


def test_resampling_and_back() -> None:
    model = a_model(make_configuration(spacing=(0.5, 0.5, 0.5)))
    mask = predict_volume(model, a_volume(), settings=PredictSettings(mirror=False))
    assert mask.shape == (17, 20, 14)
    assert set(np.unique(mask)) == {0, 1, 4}
    assert (mask == expected_mask(phantom()).T).mean() > 0.9


def test_a_2d_network_predicts_volumes() -> None:
    entry = make_configuration(dimensions=2, spacing=(None, 1.0, 1.0), patch=(12, 10))
    mask = predict_volume(a_model(entry), a_volume(orientations()[7]))
    np.testing.assert_array_equal(mask, expected_mask(phantom()).T)


def test_scores_of_folds_are_averaged() -> None:
    entry = make_configuration()
    both = a_model(entry, entry, biases=(-2.0, 1.0))
    prepared = prepare_volume(both, "a", a_volume())
    (scores,) = score_prepared(both, prepared)
    np.testing.assert_allclose(scores[1], -0.5, rtol=1e-5)


def test_configurations_are_averaged_on_probabilities() -> None:
    flat = make_configuration(dimensions=2, spacing=(None, 1.0, 1.0), patch=(12, 10))
    model = a_model(make_configuration(), flat, biases=(-9.0, 9.0))
    prepared = prepare_volume(model, "a", a_volume())
    mask = mask_of_prepared(model, prepared)
    image = phantom().T
    # the second network is sure of label 1 (score 9), the first of what the intensity says
    inside = image > 0
    assert mask.shape == image.shape
    assert (mask[~inside][:5] == 0).all()
    weights = []
    for bias in (-9.0, 9.0):
        logits = np.stack([1 - image, np.full_like(image, bias), 2 * image - 4])
        weights.append(np.exp(logits) / np.exp(logits).sum(0))
    expected = np.array(LABELS.values)[np.mean(weights, axis=0).argmax(0)]
    np.testing.assert_array_equal(mask[inside], expected[inside])


def test_models_that_turn_the_file_differently_are_averaged_in_its_own_space() -> None:
    """A model that sees axes as stored and one that sees them oriented: their crops are no common grid."""
    entry = make_configuration()
    stored = entry.model_copy(update={"preparation": entry.preparation.model_copy(update={"orientation": "stored"})})
    volume = a_volume(orientations()[7])
    alone = predict_volume(a_model(entry), volume)
    np.testing.assert_array_equal(predict_volume(a_model(entry, stored), volume), alone)


def test_many_labels_are_summed_as_features() -> None:
    """More scores than features: the last layer comes after the sum over tiles, and nothing else changes."""
    labels = Labels(names={"background": 0, **{f"l{value}": value for value in range(1, 9)}})
    entry = make_configuration(network="unet", patch=(8, 8, 8), labels=labels)
    header = make_header(entry, entry, labels=labels)
    torch.manual_seed(0)
    weights = {member.name: build_network(entry.network_spec(1, 9)).state_dict() for member in header.members}
    model = build_model(header, weights, torch.device("cpu"), "float32")
    prepared = prepare_volume(model, "a", a_volume())
    assert sum(network.feature_channels for network in model.groups[0].networks) < labels.heads
    (late,) = score_prepared(model, prepared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoseg.inference.scores._features", lambda group: None)
        (early,) = score_prepared(model, prepared)
    assert late.shape == early.shape
    np.testing.assert_allclose(late, early, rtol=1e-4, atol=1e-5)


def test_groups_with_one_preparation_share_the_prepared_image() -> None:
    model = a_model(make_configuration(), make_configuration(patch=(6, 6, 6)))
    first, second = prepare_volume(model, "a", a_volume())
    assert first is second


def test_regions_overwrite_in_order() -> None:
    labels = Labels(names={"background": 0, "whole": (1, 3), "core": (3,)}, regions_class_order=(1, 3))
    probabilities = np.array([[0.9, 0.9, 0.2, 0.5], [0.1, 0.8, 0.7, 0.5]], dtype=np.float32).reshape(2, 1, 2, 2)
    np.testing.assert_array_equal(decode(training_labels_of(probabilities, labels), labels).ravel(), [1, 3, 3, 0])


def test_regions_without_an_order_take_the_most_likely_value() -> None:
    labels = Labels(names={"background": 0, "whole": (1, 3), "core": (3,)})
    sure = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]], dtype=np.float32).reshape(2, 1, 2, 2)
    # a core outside the whole is as unlikely as nothing at all: the first wins
    np.testing.assert_array_equal(decode(training_labels_of(sure, labels), labels).ravel(), [1, 3, 0, 0])
    doubtful = np.array([[0.4, 0.6, 0.45], [0.7, 0.45, 0.45]], dtype=np.float32).reshape(2, 1, 1, 3)
    np.testing.assert_array_equal(decode(training_labels_of(doubtful, labels), labels).ravel(), [3, 1, 0])


def test_missing_channels_are_named() -> None:
    volume = a_volume()
    doubled = Volume(np.concatenate([volume.image] * 2), volume.geometry)
    with pytest.raises(PredictionError, match=r"2 channels, the model needs 1: MRI"):
        predict_volume(a_model(make_configuration()), doubled)


def test_the_cost_is_known_beforehand() -> None:
    model = a_model(make_configuration(), make_configuration())
    seen: list[int] = []
    full = a_volume(array=np.random.default_rng(0).uniform(1, 2, (14, 20, 17)).astype(np.float32))
    predict_volume(model, full, on_tile=seen.append)
    assert expected_passes(model, full.geometry) == sum(seen) * 8 * 2
    assert expected_passes(model, full.geometry, PredictSettings(mirror=False)) == sum(seen) * 2
