from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_builders import checkpoint, random_tensors, spec

from autoseg.errors import ModelError
from autoseg.interop.nnunet_weights import (
    every_name,
    read_checkpoint,
    tensor_names,
    weights_from_nnunet,
    weights_to_nnunet,
)
from autoseg.networks.catalog import build_network
from autoseg.records import NetworkSpec


def six_stages(network: str, blocks: tuple[int, ...], decoder_blocks: int) -> NetworkSpec:
    return NetworkSpec(
        network=network,
        dimensions=3,
        channels=1,
        heads=3,
        strides=((1, 1, 1), *((2, 2, 2),) * 5),
        kernel_sizes=((3, 3, 3),) * 6,
        features_per_stage=(32, 64, 128, 256, 320, 320),
        blocks_per_stage=blocks,
        blocks_per_stage_decoder=(decoder_blocks,) * 5,
    )


@pytest.mark.parametrize(
    ("network", "tensors", "names"),
    [(six_stages("unet", (2,) * 6, 2), 108, 292), (six_stages("resenc", (1, 3, 4, 6, 6, 6), 1), 264, 956)],
    ids=["plain", "residual"],
)
def test_there_are_as_many_names_as_in_nnunet(network: NetworkSpec, tensors: int, names: int) -> None:
    """Counted in the state dicts of nnU-Net's own six-stage networks."""
    found = tensor_names(network)
    with torch.device("meta"):
        ours = build_network(network).state_dict()
    assert found.keys() == ours.keys()
    assert len(set(found.values())) == tensors == len(found)
    assert len({name for first in found.values() for name in every_name(first)}) == names


def test_names_are_those_of_nnunet() -> None:
    plain, residual = tensor_names(spec()), tensor_names(spec(residual=True))
    assert plain["encoder.stages.0.0.convolution.weight"] == "encoder.stages.0.0.convs.0.conv.weight"
    # nnU-Net counts the decoder from the bottom, we from the top
    assert plain["decoder.levels.0.head.weight"] == "decoder.seg_layers.1.weight"
    assert plain["decoder.levels.1.units.1.norm.bias"] == "decoder.stages.0.convs.1.norm.bias"
    assert residual["encoder.stem.convolution.bias"] == "encoder.stem.convs.0.conv.bias"
    # the stage strides and changes the number of features: a pooling stands before the projection
    assert residual["encoder.stages.1.0.project.convolution.weight"] == "encoder.stages.1.blocks.0.skip.1.conv.weight"
    # the last strides only
    assert "encoder.stages.2.0.project.convolution.weight" not in residual
    assert every_name("encoder.stem.convs.0.norm.bias") == [
        "encoder.stem.convs.0.norm.bias",
        "encoder.stem.convs.0.all_modules.1.bias",
        "decoder.encoder.stem.convs.0.norm.bias",
        "decoder.encoder.stem.convs.0.all_modules.1.bias",
    ]


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_weights_come_back_as_they_were(dimensions: int, residual: bool, prefix: str) -> None:
    network = spec(dimensions, residual)
    tensors = random_tensors(network)
    stored = {f"{prefix}{name}": tensor for name, tensor in weights_to_nnunet(tensors, network).items()}
    found = weights_from_nnunet(stored, network, "file")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_any_of_the_names_of_a_tensor_will_do() -> None:
    network = spec(residual=True)
    tensors = random_tensors(network)
    single = {every_name(theirs)[-1]: tensors[ours] for ours, theirs in tensor_names(network).items()}
    found = weights_from_nnunet(single, network, "file")
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_convolutions_without_bias_get_zeros() -> None:
    network = spec()
    full = weights_to_nnunet(random_tensors(network), network)
    bare = {
        name: tensor
        for name, tensor in full.items()
        if name.endswith("weight") or ".norm." in name or ".all_modules.1." in name or "seg_layers" in name
    }
    found = weights_from_nnunet(bare, network, "file", biases=False)
    assert not found["encoder.stages.1.0.convolution.bias"].any()
    assert not found["decoder.levels.0.upsample.bias"].any()
    assert found["decoder.levels.0.head.bias"].any()
    with pytest.raises(ModelError, match=r"lacks 'encoder\.stages\.0\.0\.convs\.0\.conv\.bias'"):
        weights_from_nnunet(bare, network, "file")


def test_norms_behind_dropout_are_found() -> None:
    network = spec()
    tensors = random_tensors(network)
    stored = {
        name.replace(".all_modules.1.", ".all_modules.2."): tensor
        for name, tensor in weights_to_nnunet(tensors, network).items()
    }
    found = weights_from_nnunet(stored, network, "file", dropout=True)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    with pytest.raises(ModelError, match=r"unknown .*all_modules\.2"):
        weights_from_nnunet(stored, network, "file")


def _without(name: str) -> Any:
    def change(weights: dict[str, Any]) -> None:
        for entry in every_name(name):
            del weights[entry]

    return change


def _reshaped(weights: dict[str, Any]) -> None:
    for name in every_name("encoder.stages.0.0.convs.0.conv.weight"):
        weights[name] = torch.zeros(4, 2, 1, 3, 3)


def _batch_norm(weights: dict[str, Any]) -> None:
    weights["encoder.stages.0.0.convs.0.norm.running_mean"] = torch.zeros(4)


def _contradiction(weights: dict[str, Any]) -> None:
    weights["decoder.encoder.stages.0.0.convs.0.conv.bias"] = torch.full((4,), 7.0)


def _words(weights: dict[str, Any]) -> None:
    weights["decoder.seg_layers.0.weight"] = "words"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("decoder.transpconvs.1.bias"), r"lacks 'decoder\.transpconvs\.1\.bias'"),
        (_reshaped, r"conv\.weight' has the shape \(4, 2, 1, 3, 3\).*needs \(4, 1, 1, 3, 3\)"),
        (_batch_norm, r"unknown 'encoder\.stages\.0\.0\.convs\.0\.norm\.running_mean'"),
        (_contradiction, "not the same as 'encoder.stages.0.0.convs.0.conv.bias'"),
        (_words, r"'decoder\.seg_layers\.0\.weight' is not a tensor"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(change: Any, message: str) -> None:
    weights: dict[str, Any] = dict(weights_to_nnunet(random_tensors(spec()), spec()))
    change(weights)
    with pytest.raises(ModelError, match=message) as caught:
        weights_from_nnunet(weights, spec(), "fold_0/checkpoint_final.pth")
    assert caught.value.where == "fold_0/checkpoint_final.pth"


# ------------------------------------------------------------------------------------------------------ reading .pth


def test_what_nnunet_saves_is_read() -> None:
    file = io.BytesIO()
    torch.save(checkpoint({"weight": torch.ones(2)}), file)
    file.seek(0)
    allowed = set(torch.serialization.get_safe_globals())
    found = read_checkpoint(file, "file")
    assert torch.equal(found["network_weights"]["weight"], torch.ones(2))
    assert found["logging"]["mean_fg_dice"] == [0.5]
    assert found["_best_ema"] == np.float64(0.5)
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_numbers_pickled_by_numpy_1_are_read() -> None:
    """numpy 2 moved its core; the files of numpy 1 name the old place. Both names have the same length in a pickle."""
    file = io.BytesIO()
    torch.save({"network_weights": {}, "number": np.float32(1.5)}, file, _use_new_zipfile_serialization=False)
    old = file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in old
    assert read_checkpoint(io.BytesIO(old), "file")["number"] == 1.5


class Touch:
    """A pickle of it makes a file when it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class Evaluate:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"__import__('os').mkdir({str(self.path)!r})",)


@pytest.mark.parametrize("evil", [Touch, Evaluate])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path, evil: type, zipped: bool) -> None:
    trap, path = tmp_path / "trap", tmp_path / "checkpoint_final.pth"
    torch.save(checkpoint({}, surprise=evil(trap)), path, _use_new_zipfile_serialization=zipped)
    with path.open("rb") as file, pytest.raises(ModelError, match=r"wants to call .*(mkdir|eval)") as caught:
        read_checkpoint(file, str(path))
    assert caught.value.where == str(path)
    assert not trap.exists()
    with path.open("rb") as file:  # the trap works: it is the reading that is careful
        torch.load(file, weights_only=False)
    assert trap.exists()


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_bare_pickle_is_refused(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "trap"
    with pytest.raises(ModelError, match="file"):
        read_checkpoint(io.BytesIO(pickle.dumps(Touch(trap), protocol=protocol)), "file")
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 and no more"])
def test_damaged_files_are_named(content: bytes) -> None:
    with pytest.raises(ModelError, match="damaged or of another kind"):
        read_checkpoint(io.BytesIO(content), "file")


def test_a_file_that_is_no_checkpoint_is_named() -> None:
    file = io.BytesIO()
    torch.save([1, 2], file)
    file.seek(0)
    with pytest.raises(ModelError, match="holds a list"):
        read_checkpoint(file, "file")


def test_a_checkpoint_that_would_fill_the_memory_is_not_loaded() -> None:
    plain, packed = io.BytesIO(), io.BytesIO()
    torch.save({"network_weights": {"w": torch.zeros(18_000_000)}}, plain)
    with zipfile.ZipFile(plain) as stored, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in stored.namelist():
            archive.writestr(name, stored.read(name))
    packed.seek(0)
    with pytest.raises(ModelError, match="which no checkpoint does"):
        read_checkpoint(packed, "checkpoint_final.pth")
    plain.seek(0)
    assert set(read_checkpoint(plain, "checkpoint_final.pth")) == {"network_weights"}
