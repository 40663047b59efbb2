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

from autoseg.errors import ModelError
from autoseg.inference.predictor import build_model, load_models
from autoseg.inference.volume import predict_volume
from autoseg.model_file import write_model
from autoseg.networks.catalog import build_network
from autoseg.records import Geometry, KeepLargest, Labels, PredictSettings, Volume

CPU = torch.device("cpu")
RAS = tuple(tuple(float(value) for value in row) for row in np.eye(4))


def test_folds_of_one_configuration_are_one_group() -> None:
    entry = make_configuration()
    other = make_configuration(dimensions=2, spacing=(None, 1.0, 1.0), patch=(12, 10))
    header = make_header(entry, other, entry.model_copy(update={"steps_per_epoch": 7}))
    model = build_model(header, threshold_tensors(header), CPU, "float32")
    assert [(group.configuration.name, len(group.networks)) for group in model.groups] == [("3d", 2), ("2d", 1)]
    assert [group.mirror_axes for group in model.groups] == [(0, 1, 2), (1, 2)]
    assert "3d x 2 + 2d x 1" in model.description
    for group in model.groups:
        for network in group.networks:
            assert not network.training
            assert network.deep_supervision is False


def test_several_files_are_members_of_one_model(tmp_path: Path) -> None:
    header = make_header(make_configuration())
    paths = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for path in paths:
        write_model(path, header, threshold_tensors(header))
    model = load_models(paths, CPU, "float32")
    assert len(model.groups) == 1
    assert len(model.groups[0].networks) == 2
    assert len({member.name for member in model.header.members}) == 2
    assert model.header.combine == "scores"


def test_real_networks_are_loaded_with_their_weights(tmp_path: Path) -> None:
    entry = make_configuration(network="unet", patch=(8, 8, 8))
    header = make_header(entry)
    network = build_network(entry.network_spec(1, LABELS.heads))
    path = tmp_path / "model.safetensors"
    write_model(path, header, {header.members[0].name: network.state_dict()})
    loaded = load_models([path], CPU, "float32").groups[0].networks[0]
    image = torch.randn((1, 1, 8, 8, 8))
    network.eval()
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image), network(image)[0])


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    header = make_header(make_configuration())
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    write_model(first, header, threshold_tensors(header))
    write_model(second, header.model_copy(update={"channels": ("CT",)}), threshold_tensors(header))
    with pytest.raises(ModelError, match="channels") as caught:
        load_models([first, second], CPU, "float32")
    assert "second.safetensors" in str(caught.value)
    write_model(
        second, header.model_copy(update={"labels": Labels(names={"background": 0})}), threshold_tensors(header)
    )
    with pytest.raises(ModelError, match="labels"):
        load_models([first, second], CPU, "float32")
    strange = {name: {"other": torch.zeros(2)} for name in threshold_tensors(header)}
    write_model(second, header, strange)
    with pytest.raises(ModelError, match=r"second\.safetensors.*do not fit"):
        load_models([second], CPU, "float32")
    unknown = make_header(make_configuration(network="from_elsewhere"))
    write_model(second, unknown, threshold_tensors(unknown))
    with pytest.raises(ModelError, match="from_elsewhere"):
        load_models([second], CPU, "float32")
    with pytest.raises(ModelError, match="no model file"):
        load_models([], CPU, "float32")


def test_a_second_stage_without_its_first_is_refused() -> None:
    entry = make_configuration().model_copy(update={"previous_stage": "3d_lowres"})
    header = make_header(entry)
    with pytest.raises(ModelError, match="the first is missing"):
        build_model(header, threshold_tensors(header), CPU, "float32")
    named = header.members[0].model_copy(update={"previous_stage": "3d_lowres.fold_0"})
    header = header.model_copy(update={"members": (named,)})
    with pytest.raises(ModelError, match=r"the first, '3d_lowres\.fold_0', is missing"):
        build_model(header, threshold_tensors(header), CPU, "float32")


# ------------------------------------------------------------------------------------- what is done to a finished mask


def with_two_boxes() -> np.ndarray:
    """The phantom, and a small box of the first label apart from it."""
    array = phantom()
    array[11:13, 16:18, 14:16] = 1.5
    return array


def step(label: str | None) -> KeepLargest:
    return KeepLargest(label=label, dice_before=0.8, dice_after=0.9, cases=3, better=2, worse=0)


@pytest.mark.parametrize(("label", "kept"), [("grey", True), (None, True), ("white", False)])
def test_masks_are_post_processed_as_the_model_says(label: str | None, kept: bool) -> None:
    header = make_header(make_configuration()).model_copy(update={"post_processing": (step(label),)})
    model = build_model(header, threshold_tensors(header), CPU, "float32")
    stored = np.ascontiguousarray(with_two_boxes().T)
    volume = Volume(stored[None], Geometry(shape=stored.shape, affine=RAS))  # type: ignore[arg-type]
    everything, small = expected_mask(with_two_boxes()).T, expected_mask(phantom()).T
    np.testing.assert_array_equal(predict_volume(model, volume), small if kept else everything)
    as_found = predict_volume(model, volume, settings=PredictSettings(post_process=False))
    np.testing.assert_array_equal(as_found, everything)


def test_what_was_measured_on_one_model_does_not_hold_for_several(tmp_path: Path) -> None:
    header = make_header(make_configuration())
    paths = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    write_model(paths[0], header.model_copy(update={"post_processing": (step(None),)}), threshold_tensors(header))
    write_model(paths[1], header, threshold_tensors(header))
    assert load_models(paths[:1], CPU, "float32").header.post_processing == (step(None),)
    assert load_models([paths[0], paths[0]], CPU, "float32").header.post_processing == (step(None),)
    assert load_models(paths, CPU, "float32").header.post_processing == ()
