"""Weights of nnU-Net's U-Nets under our names and back, and its checkpoints, read without running what is in them.

A `.pth` file is a pickle, a program that builds objects. `torch.load(weights_only=True)` runs only those of its steps
that build tensors and plain containers; nnU-Net's checkpoints also hold a few numpy numbers (its log), so numpy's
scalars and dtypes are allowed beside, for the time of the call and nothing else.
"""

from __future__ import annotations

import codecs
import io
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from autoseg.dataset.claims import is_possible_model
from autoseg.errors import ModelError
from autoseg.networks.catalog import build_network
from autoseg.records import NetworkSpec

#: What parallel training and compiling put before every name.
_WRAPPERS = ("module.", "_orig_mod.")

#: Tensor names listed in an error.
_SHOWN = 3


# ------------------------------------------------------------------------------------------------------ reading .pth


def read_checkpoint(file: IO[bytes], place: str) -> dict[str, Any]:
    """The content of a `.pth` file; `place` names it in errors.

    Raises ModelError when it is damaged, is no checkpoint, or wants anything built that is not a tensor, a plain
    container or a numpy number; nothing in it is executed then or otherwise.
    """
    _refuse_filling(file, place)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_numbers()):
            warnings.simplefilter("ignore")  # what torch says of odd pickles, our error says
            content = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # unpickling a damaged file may raise anything
        raise _unreadable(error, place) from None
    if not isinstance(content, dict):
        raise ModelError(
            f"holds a {type(content).__name__}, not one of nnU-Net's checkpoints",
            where=place,
            remedy="Name a checkpoint that nnU-Net's training wrote.",
        )
    return content


def _refuse_filling(file: IO[bytes], place: str) -> None:
    """Raise ModelError for a checkpoint, which is a zip, whose parts unpack to far more than its bytes."""
    size = file.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            claimed = sum(part.file_size for part in archive.infolist())
    except zipfile.BadZipFile:  # of torch's older form, or none: torch says so
        claimed = 0
    file.seek(0)
    if not is_possible_model(claimed, size):
        raise ModelError(
            f"unpacks {size} bytes to {claimed}, which no checkpoint does", where=place, remedy="Do not trust the file."
        )


def _numpy_numbers() -> list[Any]:
    """numpy's scalars and dtypes under the names that numpy 1 and numpy 2 pickle them by, and the decoder of bytes."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [kind for name, kind in vars(np.dtypes).items() if name.endswith("DType") and isinstance(kind, type)]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
        *((kind, f"numpy.dtypes.{kind.__name__}") for kind in kinds),
        (codecs.encode, "_codecs.encode"),
    ]


def _unreadable(error: Exception, place: str) -> ModelError:
    words = str(error)
    wanted = re.search(r"GLOBAL ([\w.]+)", words)
    if wanted is not None:
        return ModelError(
            f"wants to call {wanted[1]}, which no checkpoint of nnU-Net needs; that was refused, and nothing in the "
            "file was executed",
            where=place,
            remedy="Do not open it with another program before you know where it comes from.",
        )
    first = next((line.strip() for line in words.splitlines() if line.strip()), type(error).__name__)
    return ModelError(
        f"cannot be read as a checkpoint, it is damaged or of another kind ({first[:200]})",
        where=place,
        remedy="Copy the file again.",
    )


# --------------------------------------------------------------------------------------------------------- the names


def tensor_names(spec: NetworkSpec) -> dict[str, str]:
    """nnU-Net's name for each tensor of our network of that specification."""
    names = dict(_residual_encoder(spec) if spec.network == "resenc" else _plain_encoder(spec))
    levels = len(spec.strides) - 1
    for level in range(levels):
        below = levels - 1 - level  # nnU-Net counts from the lowest resolution
        ours = f"decoder.levels.{level}"
        for kind in ("weight", "bias"):
            names[f"{ours}.upsample.{kind}"] = f"decoder.transpconvs.{below}.{kind}"
            names[f"{ours}.head.{kind}"] = f"decoder.seg_layers.{below}.{kind}"
        for unit in range(spec.blocks_per_stage_decoder[level]):
            names |= _unit(f"{ours}.units.{unit}", f"decoder.stages.{below}.convs.{unit}")
    return names


def _plain_encoder(spec: NetworkSpec) -> Iterator[tuple[str, str]]:
    for stage, blocks in enumerate(spec.blocks_per_stage):
        for unit in range(blocks):
            yield from _unit(f"encoder.stages.{stage}.{unit}", f"encoder.stages.{stage}.0.convs.{unit}").items()


def _residual_encoder(spec: NetworkSpec) -> Iterator[tuple[str, str]]:
    yield from _unit("encoder.stem", "encoder.stem.convs.0").items()
    before = spec.features_per_stage[0]
    for stage, blocks in enumerate(spec.blocks_per_stage):
        for block in range(blocks):
            ours, theirs = f"encoder.stages.{stage}.{block}", f"encoder.stages.{stage}.blocks.{block}"
            yield from _unit(f"{ours}.first", f"{theirs}.conv1").items()
            yield from _unit(f"{ours}.second", f"{theirs}.conv2").items()
        if spec.features_per_stage[stage] != before:
            place = int(any(step != 1 for step in spec.strides[stage]))  # a pooling comes first where it strides
            theirs = f"encoder.stages.{stage}.blocks.0.skip.{place}"
            yield from _unit(f"encoder.stages.{stage}.0.project", theirs, bias=False).items()
        before = spec.features_per_stage[stage]


def _unit(ours: str, theirs: str, *, bias: bool = True) -> dict[str, str]:
    names = {f"{ours}.norm.{kind}": f"{theirs}.norm.{kind}" for kind in ("weight", "bias")}
    for kind in ("weight", "bias") if bias else ("weight",):
        names[f"{ours}.convolution.{kind}"] = f"{theirs}.conv.{kind}"
    return names


def every_name(name: str) -> list[str]:
    """All names under which nnU-Net's networks list one tensor: its loader wants every one of them."""
    names = [name]
    for part, position in ((".conv.", ".all_modules.0."), (".norm.", ".all_modules.1.")):
        if part in name:
            names.append(name.replace(part, position))
    return names + [f"decoder.{entry}" for entry in names if entry.startswith("encoder.")]


def _first_name(name: str, dropout: bool) -> str:
    """The one of the names of a tensor by which `tensor_names` knows it."""
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    if name.startswith("decoder.encoder."):
        name = name.removeprefix("decoder.")
    name = name.replace(".all_modules.0.", ".conv.").replace(".all_modules.1.", ".norm.")
    return name.replace(".all_modules.2.", ".norm.") if dropout else name


# ---------------------------------------------------------------------------------------------------------- weights


def weights_from_nnunet(
    weights: Mapping[str, Any], spec: NetworkSpec, place: str, *, biases: bool = True, dropout: bool = False
) -> dict[str, Tensor]:
    """nnU-Net's `network_weights` as the tensors of our network, float32.

    Args:
        weights: its state dict, in which tensors occur under several names.
        spec: the network that the plans name.
        place: the file, for errors.
        biases: whether nnU-Net's convolutions have biases (ours do; theirs are then zero).
        dropout: whether dropout layers stand between nnU-Net's convolutions and norms.

    Raises ModelError naming the tensor that is missing, unknown, or of another shape.
    """
    stored = _by_first_name(weights, place, dropout)
    found: dict[str, Tensor] = {}
    missing = []
    names = tensor_names(spec)
    for ours, shape in _shapes(spec).items():
        tensor = stored.pop(names[ours], None)
        if tensor is None and not biases and not ours.endswith(("norm.bias", "head.bias")) and ours.endswith("bias"):
            tensor = torch.zeros(shape)
        if tensor is None:
            missing.append(names[ours])
        elif tuple(tensor.shape) != shape:
            raise ModelError(
                f"network_weights: {names[ours]!r} has the shape {tuple(tensor.shape)}, but the network in plans.json "
                f"needs {shape}",
                where=place,
                remedy="Use the plans.json and dataset.json with which it was trained.",
            )
        else:
            found[ours] = tensor.detach().to(torch.float32).clone()
    if missing or stored:
        raise _other_network(missing, list(stored), place)
    return found


def _by_first_name(weights: Mapping[str, Any], place: str, dropout: bool) -> dict[str, Tensor]:
    stored: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ModelError(f"network_weights: {name!r} is not a tensor", where=place, remedy="Copy the file again.")
        first = _first_name(name, dropout)
        known = stored.setdefault(first, tensor)
        if known.data_ptr() != tensor.data_ptr() and not torch.equal(known, tensor):
            raise ModelError(
                f"network_weights: {name!r} is not the same as {first!r}, of which it is a second name",
                where=place,
                remedy="Copy the file again.",
            )
    return stored


def _shapes(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):  # names and shapes without memory
        network = build_network(spec)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _other_network(missing: list[str], unknown: list[str], place: str) -> ModelError:
    told = [
        f"{what} {', '.join(map(repr, names[:_SHOWN]))}"
        + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        for what, names in (("it lacks", missing), ("it has the unknown", unknown))
        if names
    ]
    return ModelError(
        f"network_weights are not those of the network in plans.json: {'; '.join(told)}",
        where=place,
        remedy="Only nnU-Net's plain and residual-encoder U-Nets can be read, unchanged by a trainer of one's own.",
    )


def weights_to_nnunet(tensors: Mapping[str, Tensor], spec: NetworkSpec) -> OrderedDict[str, Tensor]:
    """nnU-Net's state dict of our tensors, each under all of its names, which share memory."""
    weights: OrderedDict[str, Tensor] = OrderedDict()
    for ours, theirs in tensor_names(spec).items():
        tensor = tensors[ours].detach().to("cpu", torch.float32).contiguous()
        for name in every_name(theirs):
            weights[name] = tensor
    return weights
