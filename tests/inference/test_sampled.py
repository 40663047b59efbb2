"""Probabilities at some voxels are those of the whole image, and whoever looks on changes no mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from inference_builders import a_model, a_volume
from scores_builders import score_prepared

from autoseg.inference.maps import calibrated_probabilities
from autoseg.inference.sampled import SampledProbabilities
from autoseg.inference.volume import mask_of_prepared, prepare_volume
from autoseg.inference.witness import Witness
from autoseg.preprocessing.case import places_in_crop, probabilities_to_image_space, view_of_crop
from autoseg.records import Calibration, Labels, Placement, Reliability, Temperature

AFFINES = (
    np.diag([1.0, 1.0, 1.0, 1.0]),
    np.array([[0, -1.2, 0, 0], [1, 0, 0, 0], [0, 0, -1.5, 0], [0, 0, 0, 1]], float),
    np.array([[0, 0, 2, 0], [0, -1, 0, 3], [1, 0, 0, 0], [0, 0, 0, 1]], float),
)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("affine", AFFINES)
def test_sampled_probabilities_are_those_of_the_whole_image(groups: int, affine: np.ndarray) -> None:
    model, volume = a_model(groups), a_volume(affine)
    prepared = prepare_volume(model, "a", volume)
    rng = np.random.default_rng(0)
    places = np.stack([rng.integers(0, size, 300) for size in volume.geometry.shape], axis=1)
    sampled = SampledProbabilities(places, model.labels.heads)
    mask = mask_of_prepared(model, prepared, witness=Witness(model.labels, sampled))
    np.testing.assert_array_equal(mask, mask_of_prepared(model, prepared))
    scores = score_prepared(model, prepared)
    whole = sum(
        probabilities_to_image_space(part, case.placement, model.labels)
        for part, case in zip(scores, prepared, strict=True)
    ) / len(scores)
    expected = whole[:, *places.T].T
    np.testing.assert_allclose(sampled.probabilities[sampled.seen], expected[sampled.seen], atol=1e-5)
    _, inside = places_in_crop(places, prepared[0].placement)
    np.testing.assert_array_equal(sampled.seen, inside)
    assert 0 < inside.sum() < len(inside)


@pytest.mark.parametrize("affine", AFFINES)
def test_places_in_the_crop_are_where_the_view_has_them(affine: np.ndarray) -> None:
    prepared = prepare_volume(a_model(1), "a", a_volume(affine))
    placement = prepared[0].placement
    shape = placement.geometry.shape
    places = np.argwhere(np.ones(shape, dtype=bool))
    cropped, inside = places_in_crop(places, placement)
    numbers = np.arange(len(places)).reshape(shape)
    view = view_of_crop(numbers, placement)
    assert inside.sum() == view.size
    np.testing.assert_array_equal(view[tuple(cropped[inside].T)], np.flatnonzero(inside))


@pytest.mark.parametrize("temperature", [0.05, 0.7, 20.0])
def test_a_temperature_changes_no_mask(temperature: float) -> None:
    flat = Reliability(ece=0.0, nll=0.0, bins=())
    probabilities = torch.rand((3, 4, 5, 6), generator=torch.Generator().manual_seed(1))
    for names in ({"background": 0, "a": 1, "b": 2}, {"background": 0, "a": (1, 2), "b": 2, "c": (2, 3)}):
        labels = Labels(names=names)  # type: ignore[arg-type]
        entries = tuple(
            Temperature(name=name, value=temperature, before=flat, after=flat)
            for name in (labels.foreground if labels.has_regions else ["all labels"])
        )
        calibration = Calibration(temperatures=entries, fitted_on=2, reported_on=2, voxels=9)
        mean = probabilities if labels.has_regions else probabilities / probabilities.sum(0)
        found = calibrated_probabilities(mean, labels, calibration)
        if labels.has_regions:
            assert torch.equal(found > 0.5, mean > 0.5)
        else:
            assert torch.equal(found.argmax(0), mean.argmax(0))
            torch.testing.assert_close(found.sum(0), torch.ones(found.shape[1:]))


def test_disagreement_that_nobody_gathers_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(*_arguments: object) -> np.ndarray:
        raise AssertionError

    for name in ("between_groups_bits", "entropy_of"):
        monkeypatch.setattr(f"autoseg.inference.witness.{name}", computed)
    model, volume = a_model(2), a_volume(AFFINES[0])
    prepared = prepare_volume(model, "a", volume)
    sampled = SampledProbabilities(np.argwhere(np.ones((1, 1, 1))).astype(np.int64), model.labels.heads)
    mask_of_prepared(model, prepared, witness=Witness(model.labels, sampled))
    gathered = Gathered()
    with pytest.raises(AssertionError):
        mask_of_prepared(model, prepared, witness=Witness(model.labels, sampled, gathering=gathered))


class Gathered:
    """Takes disagreement, and nothing else."""

    def disagree(self, bits: np.ndarray, placement: Placement, first: int) -> None:
        """Not looked at."""

    def disagree_whole(self, bits: np.ndarray) -> None:
        """Not looked at."""
