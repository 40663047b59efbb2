from __future__ import annotations

import numpy as np
import pytest
import torch
from inference_builders import LABELS, make_configuration, make_header, phantom, threshold_tensors

from autoseg.errors import UsageError
from autoseg.inference.chosen_labels import chosen_indices, named_labels, only_chosen
from autoseg.inference.predictor import build_model
from autoseg.inference.volume import predict_volume
from autoseg.records import Geometry, Labels, PredictSettings, Volume

REGIONS = Labels(names={"background": 0, "whole": (1, 2, 3), "core": (2, 3), "edema, diffuse": 1})


def test_names_may_be_given_one_by_one_or_with_commas() -> None:
    names = Labels(names={"background": 0, "spleen": 1, "liver": 2, "left, upper": 3, "aorta": 9})
    assert named_labels(names, ["liver, spleen"]) == ("spleen", "liver")
    assert named_labels(names, ["left, upper", "aorta"]) == ("left, upper", "aorta")
    assert named_labels(names, []) == ()
    assert named_labels(names, ["spleen,liver,aorta", "left, upper"]) == ()  # all of them


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="knows no label 'gray'") as error:
        named_labels(LABELS, ["white,gray"])
    assert error.value.remedy == "Known are: grey, white. Did you mean 'grey'?"
    with pytest.raises(UsageError, match="'background'"):
        named_labels(LABELS, ["background"])


def test_a_region_is_all_its_values() -> None:
    assert chosen_indices(REGIONS, ["core"]) == (2, 3)
    assert chosen_indices(REGIONS, ["core", "edema, diffuse"]) == (1, 2, 3)
    assert chosen_indices(REGIONS, []) == (1, 2, 3)
    mask = np.array([[[0, 1, 2, 3]]], np.uint8)
    np.testing.assert_array_equal(only_chosen(mask, REGIONS, ["core"]), [[[0, 0, 2, 3]]])
    assert only_chosen(mask, REGIONS, []) is mask


@pytest.mark.parametrize("name", ["grey", "white"])
def test_chosen_voxels_are_those_of_the_whole_mask(name: str) -> None:
    header = make_header(make_configuration())
    model = build_model(header, threshold_tensors(header), torch.device("cpu"), "float32")
    stored = np.ascontiguousarray(phantom().T)
    affine = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    volume = Volume(stored[None], Geometry(shape=stored.shape, affine=affine))  # type: ignore[arg-type]
    whole = predict_volume(model, volume)
    value = LABELS.names[name]
    mask = predict_volume(model, volume, settings=PredictSettings(labels=(name,)))
    assert mask.dtype == whole.dtype
    assert (mask == value).any()
    np.testing.assert_array_equal(mask, np.where(whole == value, value, 0))
