from __future__ import annotations

import pytest
import torch
from inference_builders import make_configuration, make_header, threshold_tensors

from autoseg.errors import ModelError, UsageError
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import build_model
from autoseg.inference.speeds import SPEEDS, speed_mode, speed_modes
from autoseg.records import BEST_PREDICTION, ModelHeader, PredictSettings, SpeedMode


def a_cascade() -> ModelHeader:
    low = make_configuration().model_copy(update={"name": "low"})
    second = make_configuration().model_copy(update={"previous_stage": "low"})
    header = make_header(low, second, second)
    below, *above = header.members
    linked = tuple(member.model_copy(update={"previous_stage": below.name}) for member in above)
    return header.model_copy(update={"members": (below, *linked)})


def test_modes_that_were_not_measured_are_stated() -> None:
    entry = make_configuration()
    modes = speed_modes([make_header(entry, entry)])
    assert tuple(mode.name for mode in modes) == SPEEDS
    fast, balanced, best = (mode.settings for mode in modes)
    assert best == BEST_PREDICTION
    assert balanced == PredictSettings(mirror=False)
    assert fast == PredictSettings(step=0.8, mirror=False, members=("3d.fold_0",))
    assert all(mode.mean_dice is None and mode.cases == 0 for mode in modes)


def test_one_network_is_not_named() -> None:
    (fast, *_) = speed_modes([make_header(make_configuration())])
    assert fast.settings.members == ()


def test_several_files_are_one_network_in_fast() -> None:
    header = make_header(make_configuration())
    (fast, *_) = speed_modes([header, header])
    assert fast.settings.members == ("3d.fold_0",)


def test_the_first_stage_of_a_cascade_is_not_the_one_network() -> None:
    header = a_cascade()
    (fast, *_) = speed_modes([header])
    assert fast.settings.members == ("3d.fold_1",)
    model = build_model(header, threshold_tensors(header), torch.device("cpu"), "float32")
    chosen = narrowed(model, fast.settings)
    assert [group.names for group in chosen.groups] == [("3d.fold_1",)]
    assert chosen.groups[0].first_stage is not None


def test_what_was_measured_is_taken() -> None:
    entry = make_configuration()
    measured = SpeedMode(name="fast", settings=PredictSettings(step=0.7), seconds_per_case=3.0, cases=5, mean_dice=0.9)
    header = make_header(entry).model_copy(update={"speeds": (measured,)})
    assert speed_mode([header], "fast") == measured
    assert speed_mode([header], "best").cases == 0
    assert speed_mode([header, header], "fast").cases == 0  # of one file alone it holds
    with pytest.raises(UsageError, match="'quick'") as error:
        speed_mode([header], "quick")
    assert error.value.remedy == "Known are: fast, balanced, best."


def test_networks_are_chosen_by_name() -> None:
    entry = make_configuration()
    flat = make_configuration(dimensions=2, spacing=(None, 1.0, 1.0), patch=(12, 10))
    header = make_header(entry, entry, flat)
    model = build_model(header, threshold_tensors(header), torch.device("cpu"), "float32")
    chosen = narrowed(model, PredictSettings(members=("3d.fold_1", "2d.fold_2")))
    assert [group.names for group in chosen.groups] == [("3d.fold_1",), ("2d.fold_2",)]
    assert chosen.groups[0].networks == (model.groups[0].networks[1],)
    assert chosen.description == "3d x 1 + 2d x 1, probabilities averaged"
    assert narrowed(model, BEST_PREDICTION).groups == model.groups
    with pytest.raises(ModelError, match="no network 'fold_9'") as error:
        narrowed(model, PredictSettings(members=("fold_9",)))
    assert error.value.remedy == "Known are: 3d.fold_0, 3d.fold_1, 2d.fold_2."
