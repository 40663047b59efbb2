"""Sums per plane are those of the whole probabilities, and places lie on the file's grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from inference_builders import LABELS, make_configuration, make_header, phantom, threshold_tensors
from scores_builders import score_prepared

from autoseg.inference.plane_doubts import PlaneDoubts
from autoseg.inference.predictor import build_model
from autoseg.inference.volume import found_labels, prepare_volume
from autoseg.inference.witness import Witness
from autoseg.preprocessing.case import place_in_file, places_in_crop, probabilities_to_image_space
from autoseg.records import Geometry, Labels, Volume

REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2})

AFFINES = (
    np.diag([1.0, 1.0, 1.0, 1.0]),
    np.array([[0, -1.2, 0, 0], [1, 0, 0, 0], [0, 0, -1.5, 0], [0, 0, 0, 1]], float),
    np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]], float),
)


def a_volume(affine: np.ndarray) -> Volume:
    stored = np.ascontiguousarray(phantom().T)
    rows = tuple(tuple(float(value) for value in row) for row in affine)
    return Volume(stored[None], Geometry(shape=stored.shape, affine=rows))  # type: ignore[arg-type]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("affine", AFFINES)
def test_sums_are_those_of_the_whole_probabilities(groups: int, affine: np.ndarray) -> None:
    entries = [make_configuration(), make_configuration(dimensions=2, spacing=(None, 1.0, 1.0), patch=(12, 10))]
    header = make_header(*entries[:groups])
    model = build_model(header, threshold_tensors(header, *(0.2, -0.4)[:groups]), torch.device("cpu"), "float32")
    prepared = prepare_volume(model, "a", a_volume(affine))
    doubts = PlaneDoubts(LABELS)
    found_labels(model, prepared, witness=Witness(LABELS, doubts))
    sums = doubts.sums()
    scores = score_prepared(model, prepared)
    whole = sum(
        probabilities_to_image_space(part, case.placement, LABELS) for part, case in zip(scores, prepared, strict=True)
    ) / len(scores)
    whole[:, whole.sum(0) < 0.5] = 0  # outside the crop
    others = tuple(axis for axis in range(3) if axis != sums.axis)
    winner = np.where(whole.sum(0) > 0, whole.argmax(0), 0)
    slices = sums.place[:, sums.axis]
    assert len(set(slices.tolist())) == len(slices)
    for label in (1, 2):
        for array, expected in (
            (sums.voxels, winner == label),
            (sums.inside, np.where(winner == label, whole[label], 0)),
            (sums.total, whole[label]),
        ):
            np.testing.assert_allclose(array[:, label - 1], expected.sum(axis=others)[slices], rtol=1e-3, atol=1e-2)
    assert sums.voxels[:, 0].sum() > 100


def test_the_place_is_the_middle_of_what_is_unsure() -> None:
    probabilities = np.zeros((3, 2, 9, 8), np.float32)
    probabilities[0] = 1
    probabilities[:, 1, 3:6, 2:5] = np.array([0.5, 0.5, 0])[:, None, None]
    doubts = PlaneDoubts(LABELS)
    doubts.put_whole(probabilities)
    assert doubts.sums().place.tolist() == [[0, 4, 4], [1, 4, 3]]
    assert doubts.sums().axis == 0


def test_regions_are_summed_each_for_itself() -> None:
    probabilities = np.stack([np.full((1, 4, 5), 0.75), np.full((1, 4, 5), 0.25)]).astype(np.float32)
    doubts = PlaneDoubts(REGIONS)
    doubts.put_whole(probabilities)
    sums = doubts.sums()
    assert sums.voxels.tolist() == [[20, 0]]
    assert sums.inside.tolist() == [[15, 0]]
    assert sums.total.tolist() == [[15, 5]]


def test_cores_of_objects_have_no_sums() -> None:
    labels = Labels(
        names={"background": 0, "cell": (1, 3), "cell core": 3, "tissue": 2},
        regions_class_order=(1, 3, 2),
        things={"cell": "cell core"},
        core_margin_mm=1.0,
    )
    probabilities = np.stack([np.full((1, 2, 2), share) for share in (0.75, 0.5, 0.25)]).astype(np.float32)
    doubts = PlaneDoubts(labels)
    doubts.put_whole(probabilities)
    assert doubts.sums().total.tolist() == [[3, 1]]


def test_without_planes_there_are_no_sums() -> None:
    sums = PlaneDoubts(LABELS).sums()
    assert sums.place.shape == (0, 3)
    assert sums.voxels.shape == (0, 2)


@pytest.mark.parametrize("affine", AFFINES)
def test_a_place_of_the_crop_is_found_in_the_file_again(affine: np.ndarray) -> None:
    header = make_header(make_configuration())
    model = build_model(header, threshold_tensors(header), torch.device("cpu"), "float32")
    placement = prepare_volume(model, "a", a_volume(affine))[0].placement
    places = np.stack(np.unravel_index(np.arange(np.prod(phantom().T.shape)), phantom().T.shape), axis=1)
    cropped, inside = places_in_crop(places, placement)
    for place, crop in zip(places[inside], cropped[inside], strict=True):
        assert place_in_file(tuple(crop.tolist()), placement) == tuple(place.tolist())
