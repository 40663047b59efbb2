from __future__ import annotations

import numpy as np
import pytest
import torch
from inference_builders import LABELS, make_configuration, make_header, threshold_tensors
from scores_builders import expected_passes

from autoseg import devices
from autoseg.inference import forecast as forecasting
from autoseg.inference.forecast import (
    CaseForecast,
    forecast,
    measured_on,
    time_passes,
    together,
    works,
)
from autoseg.inference.memory import MODES, case_memory
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import LoadedModel, build_model
from autoseg.inference.volume import predict_volume
from autoseg.records import Configuration, Geometry, PredictSettings, SpeedMode, Volume

CPU = torch.device("cpu")
IDENTITY = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
GEOMETRY = Geometry(shape=(20, 30, 25), affine=IDENTITY)
FAST = SpeedMode(name="fast", settings=PredictSettings(step=1.0, mirror=False))
BEST = SpeedMode(name="best", settings=PredictSettings())


def a_model(*entries: Configuration) -> LoadedModel:
    header = make_header(*(entries or (make_configuration(),)))
    return build_model(header, threshold_tensors(header), CPU, "float32")


def a_cascade() -> LoadedModel:
    low = make_configuration().model_copy(update={"name": "low"})
    header = make_header(low, make_configuration())
    below, above = header.members
    header = header.model_copy(update={"members": (below, above.model_copy(update={"previous_stage": below.name}))})
    return build_model(header, threshold_tensors(header), CPU, "float32")


def tiles_seen(model: LoadedModel, settings: PredictSettings) -> int:
    seen: list[int] = []
    volume = Volume(np.random.default_rng(0).uniform(1, 2, (1, *GEOMETRY.shape)).astype(np.float32), GEOMETRY)
    predict_volume(model, volume, settings=settings, on_tile=seen.append)
    return sum(seen)


@pytest.mark.parametrize("settings", [PredictSettings(), PredictSettings(mirror=False, step=0.8)])
def test_tiles_are_counted_as_they_come(settings: PredictSettings) -> None:
    for model in (a_model(), a_model(make_configuration(), make_configuration(patch=(6, 6, 6))), a_cascade()):
        told = forecast(model, GEOMETRY, SpeedMode(name="x", settings=settings), time_passes(model))
        assert told.tiles == tiles_seen(model, settings)


def test_the_coarse_pass_is_counted_but_not_in_a_cascade() -> None:
    settings = PredictSettings(mirror=False, roi=True)
    plain = settings.model_copy(update={"roi": False})
    model = a_model()
    coarse = expected_passes(model, GEOMETRY, FAST.settings)
    assert expected_passes(model, GEOMETRY, settings) == expected_passes(model, GEOMETRY, plain) + coarse
    assert expected_passes(a_cascade(), GEOMETRY, settings) == expected_passes(a_cascade(), GEOMETRY, plain)


def test_only_the_networks_that_are_named_count() -> None:
    entry = make_configuration()
    model = a_model(entry, entry)
    one = PredictSettings(members=("3d.fold_1",))
    assert expected_passes(model, GEOMETRY, one) * 2 == expected_passes(model, GEOMETRY)
    assert [work.group.names for work in works(model, GEOMETRY, one)] == [("3d.fold_1",)]


def test_seconds_follow_from_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasting, "_time_batch", lambda model, group, size: 4.0)
    entry = make_configuration()
    model = a_model(entry, entry)
    seconds = time_passes(model)
    each = 4.0 / forecasting.batch_size(CPU, entry.patch_size) / 2
    assert seconds == {"3d.fold_0": each, "3d.fold_1": each}
    fast, best = (forecast(model, GEOMETRY, mode, seconds) for mode in (FAST, BEST))
    assert best.network - fast.network == pytest.approx((best.passes - fast.passes) * each)
    assert (fast.reading, fast.writing) == (best.reading, best.writing)
    assert fast.seconds == fast.reading + fast.network + fast.writing
    assert 0 < fast.bytes <= best.bytes


def test_a_case_alone_takes_what_it_takes_alone() -> None:
    large = Geometry(shape=(300, 300, 300), affine=IDENTITY)
    model, seconds = a_model(), {"3d.fold_0": 0.0}
    beside, alone, known = (
        forecast(model, large, FAST, seconds, **how).bytes
        for how in ({}, {"only": True}, {"only": True, "decoded": 10**10})
    )
    memory = case_memory(narrowed(model, FAST.settings), large, FAST.settings)
    assert beside == memory.beside_another
    assert alone == memory.alone(MODES[0])
    assert alone < beside < known


def test_a_pass_is_timed_by_doing_it() -> None:
    for model in (a_model(), a_cascade(), a_model(make_configuration(dimensions=2, patch=(12, 10)))):
        seconds = time_passes(model)
        assert set(seconds) == {member.name for member in model.header.members}
        assert all(0 < value < 60 for value in seconds.values())


def test_the_locator_is_timed_too() -> None:
    low = make_configuration(spacing=(2.0, 2.0, 2.0)).model_copy(update={"name": "low", "spacing": (2.0, 2.0, 2.0)})
    settings = PredictSettings(roi=True, members=("3d.fold_0",))
    model = narrowed(a_model(make_configuration(), low), settings)
    assert set(time_passes(model)) == {"3d.fold_0", "low.fold_1"}


def test_what_was_measured_on_such_a_device_needs_no_timing() -> None:
    model = a_model()
    measured = FAST.model_copy(update={"seconds_per_million_voxels": 20.0, "device": devices.describe(CPU)})
    assert measured_on(measured, model)
    assert not measured_on(measured.model_copy(update={"device": "another"}), model)
    assert not measured_on(FAST, model)
    assert forecast(model, GEOMETRY, measured, None).network == pytest.approx(20 * 20 * 30 * 25 / 1e6)
    with pytest.raises(ValueError, match="nothing was measured"):
        forecast(model, GEOMETRY, FAST, None)


def test_reading_and_writing_go_on_beside_the_network() -> None:
    slow, quick = (CaseForecast(1, 1, 2.0, network, 1.0, 0) for network in (10.0, 0.5))
    assert together([slow, slow]) == 2 + 20 + 1
    assert together([quick, quick]) == 2 + 4 + 1
    assert together([]) == 0


def test_more_labels_and_voxels_take_longer() -> None:
    assert LABELS.heads == 3
    model = a_model()
    large = Geometry(shape=(40, 30, 25), affine=IDENTITY)
    seconds = {"3d.fold_0": 0.0}
    small, doubled = forecast(model, GEOMETRY, FAST, seconds), forecast(model, large, FAST, seconds)
    assert doubled.network == pytest.approx(2 * small.network)
    assert doubled.reading == pytest.approx(2 * small.reading)
    assert doubled.writing == pytest.approx(2 * small.writing)
