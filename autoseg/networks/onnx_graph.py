"""A network as an ONNX graph: what other programs, and other engines, run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from autoseg.errors import ModelError
from autoseg.networks.linear_head import LinearHead

#: Names of the graph's one input (B, C, *patch) and one output (B, K, *patch), float32; B is free.
IMAGE, SCORES = "image", "scores"

#: Version of ONNX's operators: it has all that the networks need (Conv, ConvTranspose, InstanceNormalization,
#: LeakyRelu, AveragePool, Add, Concat), and runtimes since 2022 know it.
OPSET = 17


def network_graph(network: nn.Module, channels: int, patch_size: Sequence[int]) -> bytes:
    """The bytes of an ONNX file that maps images (B, channels, *patch_size) to the network's scores.

    The network is on the CPU, in evaluation mode, and gives the finest scores alone. It is traced with torch's
    TorchScript exporter: the one that every supported version of torch has, needs no further package, and keeps
    instance normalization one operator (docs/decisions/0111-onnx-by-tracing.md). Whether the graph computes the same is
    for the caller to try: a network that decides by the values in its input cannot be traced. Raises ModelError where
    an operation has no counterpart.
    """
    # tensors of inference mode cannot be traced, autocast would become part of the graph, and whoever needs that may be
    # in the midst of both
    with (
        torch.inference_mode(False),
        torch.autocast("cpu", enabled=False),
        torch.no_grad(),
        warnings.catch_warnings(),
        TemporaryDirectory(prefix="autoseg-") as folder,
    ):
        # of the exporter's age, and of sizes that become constants, as they may: patches are of one size
        warnings.simplefilter("ignore")
        example = torch.zeros(1, channels, *patch_size)
        path = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(
                network,
                (example,),
                path,
                input_names=[IMAGE],
                output_names=[SCORES],
                dynamic_axes={IMAGE: {0: "batch"}, SCORES: {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(
                f"its network cannot be written as ONNX ({_first_line(error)})",
                remedy="Only networks made of operations that ONNX knows can be.",
            ) from error
        return path.read_bytes()


class Features(nn.Module):
    """A network up to the features of which its scores are a linear map."""

    def __init__(self, network: LinearHead) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Features (B, F, *space)."""
        return self.network.features(image)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
