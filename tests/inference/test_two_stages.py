"""A second stage that repeats what it is told of the first: then the masks show what it was told."""

from __future__ import annotations

from pathlib import Path

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
from scores_builders import expected_passes
from torch import Tensor, nn

from autoseg.errors import ModelError, PredictionError
from autoseg.inference.joining import joined_model
from autoseg.inference.predictor import LoadedModel, build_model, load_models
from autoseg.inference.volume import predict_volume
from autoseg.model_file import read_header, write_model
from autoseg.networks import catalog
from autoseg.records import Configuration, Geometry, ModelHeader, NetworkSpec, PredictSettings, Volume

CPU = torch.device("cpu")


class Repeat(nn.Module):
    """Scores that are the maps of the first stage: the image itself is not looked at."""

    deep_supervision = True

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.channels = spec.channels

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[1] != self.channels:
            raise ValueError(f"{image.shape[1]} channels")
        return torch.cat([image[:, :1] * 0 + 0.5, image[:, 1:]], dim=1) + self.bias


@pytest.fixture(autouse=True)
def repeating_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.NETWORKS, "repeat", Repeat)


def a_cascade(first: Configuration, second: Configuration, first_folds: int = 1) -> ModelHeader:
    header = make_header(*[first.model_copy(update={"name": "low"})] * first_folds, second)
    *below, above = header.members
    named = "low.fold_0" if first_folds == 1 else "low"
    return header.model_copy(update={"members": (above.model_copy(update={"previous_stage": named}), *below)})


def second_stage(**options: object) -> Configuration:
    return make_configuration(network="repeat", **options).model_copy(update={"previous_stage": "low"})  # type: ignore[arg-type]


def built(header: ModelHeader, *biases: float) -> LoadedModel:
    return build_model(header, threshold_tensors(header, *(biases or ())), CPU, "float32")


def a_volume(diagonal: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> Volume:
    stored = np.ascontiguousarray(np.transpose(phantom()))
    rows = tuple(tuple(float(value) for value in row) for row in np.diag(diagonal))
    return Volume(stored[None], Geometry(shape=stored.shape, affine=rows))  # type: ignore[arg-type]


@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("diagonal", [(1.0, 1.0, 1.0, 1.0), (-1.0, 1.0, -1.0, 1.0)])
def test_the_second_stage_sees_what_the_first_found(mirror: bool, diagonal: tuple[float, ...]) -> None:
    model = built(a_cascade(make_configuration(patch=(6, 6, 6)), second_stage()))
    mask = predict_volume(model, a_volume(diagonal), settings=PredictSettings(mirror=mirror))
    np.testing.assert_array_equal(mask, expected_mask(phantom()).T)


def test_stages_of_different_resolution() -> None:
    low = make_configuration(spacing=(2.0, 2.0, 2.0), patch=(6, 6, 6))
    model = built(a_cascade(low, second_stage()))
    mask = predict_volume(model, a_volume())
    alone = predict_volume(built(make_header(low)), a_volume())
    assert set(np.unique(mask)) == set(LABELS.values)
    np.testing.assert_array_equal(mask, alone)  # the second has the file's own grid: nothing is resampled once more


def test_second_stages_share_the_mean_of_the_first() -> None:
    header = a_cascade(make_configuration(), second_stage(), first_folds=2)
    model = built(header, 0.0, -40.0, 40.0)  # one first stage never finds label 1, the other always
    assert model.description == "3d x 1 after low x 2"
    together = predict_volume(model, a_volume())
    np.testing.assert_array_equal(together, expected_mask(phantom()).T)
    alone = header.model_copy(update={"members": header.members[:2]})
    assert 1 not in np.unique(predict_volume(built(alone, 0.0, -40.0), a_volume()))


def test_files_of_several_folds_are_joined(tmp_path: Path) -> None:
    header = a_cascade(make_configuration(), second_stage())
    paths = []
    for number, bias in enumerate((-40.0, 40.0, 40.0)):
        paths.append(tmp_path / f"{number}.safetensors")
        write_model(paths[-1], header, threshold_tensors(header, 0.0, bias))
    model = load_models(paths[:2], CPU, "float32")
    assert model.description == "3d x 2 after low x 2"
    np.testing.assert_array_equal(predict_volume(model, a_volume()), expected_mask(phantom()).T)
    # equal first stages, as those that several files of one fold bring, count once
    assert load_models(paths[1:], CPU, "float32").description == "3d x 2 after low x 1"


def test_one_file_of_several_predicts_as_they_do_together(tmp_path: Path) -> None:
    """Cascades of two folds, whose first stages bear one name, and a plain configuration beside them."""
    header = a_cascade(make_configuration(), second_stage())
    plain = make_header(make_configuration(dimensions=2, spacing=(None, 1.0, 1.0), patch=(12, 10)))
    files = [(header, (0.0, -40.0)), (header, (0.0, 40.0)), (plain, (0.3,))]
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path, (told, biases) in zip(paths, files, strict=True):
        write_model(path, told, threshold_tensors(told, *biases))
    for chosen, combine in ((paths[:2], "scores"), (paths, "probabilities")):
        bundle = tmp_path / f"bundle_{len(chosen)}.safetensors"
        write_model(bundle, *joined_model(chosen))
        assert read_header(bundle).combine == combine
        alone, together = load_models([bundle], CPU, "float32"), load_models(chosen, CPU, "float32")
        assert alone.description == together.description
        assert "3d x 2 after low x 2" in alone.description
        np.testing.assert_array_equal(predict_volume(alone, a_volume()), predict_volume(together, a_volume()))
        np.testing.assert_array_equal(predict_volume(alone, a_volume()), expected_mask(phantom()).T)


def test_first_stages_of_several_kinds_are_refused(tmp_path: Path) -> None:
    paths = []
    for number, patch in enumerate([(6, 6, 6), (8, 8, 8)]):
        header = a_cascade(make_configuration(patch=patch), second_stage())
        paths.append(tmp_path / f"{number}.safetensors")
        write_model(paths[-1], header, threshold_tensors(header))
    with pytest.raises(ModelError, match="several kinds"):
        load_models(paths, CPU, "float32")


def test_stages_that_turn_the_image_differently_are_refused() -> None:
    low = make_configuration()
    low = low.model_copy(update={"preparation": low.preparation.model_copy(update={"orientation": "stored"})})
    with pytest.raises(PredictionError, match="turn or crop the image differently"):
        predict_volume(built(a_cascade(low, second_stage())), a_volume((-1.0, 1.0, 1.0, 1.0)))


def test_the_cost_counts_both_stages() -> None:
    model = built(a_cascade(make_configuration(), second_stage()))
    seen: list[int] = []
    full = Volume(np.random.default_rng(0).random((1, 17, 20, 14), np.float32) + 1, a_volume().geometry)
    predict_volume(model, full, on_tile=seen.append)
    assert expected_passes(model, full.geometry) == sum(seen) * 8
