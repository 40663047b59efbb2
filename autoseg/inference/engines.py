"""What computes the networks: torch, ONNX Runtime or OpenVINO. The other engines take the place of the modules.

An engine is a function that makes a graph (the bytes of an ONNX file) ready to run. All around it, from tiles to masks,
stays as it is. Graphs are made in memory when they are first needed: that takes less time than the first volume, and
nothing on disk can go stale.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoseg.devices import PRECISIONS, Precision, choose_device, choose_precision
from autoseg.errors import UsageError
from autoseg.inference.predictor import LoadedModel, MemberGroup
from autoseg.networks.linear_head import LinearHead
from autoseg.networks.onnx_graph import IMAGE, Features, network_graph

#: Images (B, C, *patch) to scores (B, K, *patch), both float32.
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: Bytes of an ONNX file, threads, precision -> what runs it.
Start = Callable[[bytes, int, Precision], Run]

#: Our own.
TORCH = "torch"


@dataclass(frozen=True)
class Engine:
    """A library that runs ONNX graphs on the CPU."""

    name: str  # in words
    packages: tuple[str, ...]  # that have to be installed, its own first
    extra: str  # of ours that installs it
    precisions: tuple[Precision, ...]  # that it computes in
    start: Start


def _onnx_runtime(graph: bytes, threads: int, precision: Precision) -> Run:
    import onnxruntime

    del precision  # it computes in that of the graph
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # its threads would spin while torch's work: there are two pools of them in one process
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda images: cast("NDArray[np.float32]", session.run(None, {IMAGE: images})[0])


def _openvino(graph: bytes, threads: int, precision: Precision) -> Run:
    core = _openvino_core()
    hints = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(graph, b""), "CPU", hints)
    # a copy, since the next call writes to the same memory
    return lambda images: np.array(compiled(images)[0], dtype=np.float32)


@cache
def _openvino_core() -> Any:
    """OpenVINO's core: one for the whole process, which never ends.

    Its CPU plugin gives the thread that first compiles a stack of its own for signals, and takes the memory back with
    the core, whichever thread lets go of that. The next Ctrl-C would then end the process with a segmentation fault.
    """
    return _without_telemetry("openvino").Core()


def _without_telemetry(package: str) -> ModuleType:
    """The package, imported as if `<package>_telemetry` were not there.

    OpenVINO tells Google Analytics of every import, unless its user has declined. Nobody who segments patients asked
    for that. Without the package that sends it goes on with a stub of its own.
    """
    telemetry = f"{package}_telemetry"
    known = sys.modules.get(telemetry)
    sys.modules[telemetry] = None  # type: ignore[assignment]  # importing it then fails
    try:
        return importlib.import_module(package)
    finally:
        del sys.modules[telemetry]
        if known is not None:
            sys.modules[telemetry] = known


#: The engines beside torch. A new one is a function and an entry here.
ENGINES: dict[str, Engine] = {
    "onnx": Engine("ONNX Runtime", ("onnxruntime", "onnx"), "onnx", ("float32",), _onnx_runtime),
    "openvino": Engine("OpenVINO", ("openvino", "onnx"), "openvino", ("float32", "bfloat16", "float16"), _openvino),
}


def engine_device(name: str, device: str) -> torch.device:
    """The device on which an engine predicts; `auto` is the best that it can use.

    Raises UsageError for an engine that is unknown or not installed, and for a device that is not there or not for it.
    """
    if name == TORCH:
        return choose_device(device)
    if name not in ENGINES:
        raise UsageError(f"there is no engine {name!r}", remedy=f"Known are: {', '.join([TORCH, *ENGINES])}.")
    require_installed(name)
    target = choose_device("cpu" if device == "auto" else device)
    if target.type != "cpu":
        raise UsageError(f"the engine {name} computes on the CPU, not on {device}", remedy="Leave --device out.")
    return target


def engine_precision(name: str, precision: str, device: torch.device, networks: Iterable[str] = ()) -> Precision:
    """The precision in which an engine computes on a device; `auto` is the fastest of both, for these networks.

    Raises UsageError for one that the engine does not have.
    """
    chosen = choose_precision(precision, device, networks if name == TORCH else ())
    if name == TORCH or chosen in ENGINES[name].precisions:
        return chosen
    if precision == "auto":
        return "float32"
    raise UsageError(f"the engine {name} does not compute in {chosen}", remedy="Give --precision float32.")


def require_installed(name: str) -> None:
    """Raise UsageError where an engine, or what graphs are made with, is not installed."""
    engine = ENGINES[name]
    absent = [package for package in engine.packages if importlib.util.find_spec(package) is None]
    if absent:
        raise UsageError(
            f"{engine.name} is not installed (missing: {', '.join(absent)})",
            remedy=f"Install it with pip install 'autoseg-pipeline[{engine.extra}]'.",
        )


def engine_version(name: str) -> str:
    """An engine and its version in words."""
    engine = ENGINES.get(name)
    words, package = (TORCH, TORCH) if engine is None else (engine.name, engine.packages[0])
    return f"{words} {importlib.metadata.version(package)}"


def with_engine(model: LoadedModel, name: str, graphs: Mapping[str, bytes] | None = None) -> LoadedModel:
    """The model with its networks computed by an engine; itself for torch, and where they are computed so already.

    `graphs` are the ONNX files of all members by name; without them they are made. The model is on the CPU.
    """
    if name in (TORCH, model.engine):
        return model

    def replaced(group: MemberGroup) -> MemberGroup:
        first = None if group.first_stage is None else replaced(group.first_stage)
        channels = len(model.header.channels) + (0 if first is None else len(model.labels.values) - 1)
        networks = tuple(
            _by_engine(
                network,
                ENGINES[name].start,
                None if graphs is None else graphs[member],
                channels,
                group.configuration.patch_size,
                model.labels.heads,
            )
            for network, member in zip(group.networks, group.names, strict=True)
        )
        return replace(group, networks=networks, first_stage=first)

    locator = None if model.locator is None else replaced(model.locator)
    return replace(model, groups=tuple(replaced(group) for group in model.groups), locator=locator, engine=name)


def _by_engine(
    network: nn.Module,
    start: Start,
    graph: bytes | None,
    channels: int,
    patch_size: tuple[int, ...],
    heads: int,
) -> nn.Module:
    """A module in the network's place."""
    if graph is not None:
        return EngineNetwork(Sessions(start, lambda: graph))
    if isinstance(network, LinearHead) and network.feature_channels < heads:
        # fewer numbers to sum over tiles: only what comes before the scores is for the engine
        return EngineFeatures(network, Sessions(start, lambda: network_graph(Features(network), channels, patch_size)))
    return EngineNetwork(Sessions(start, lambda: network_graph(network, channels, patch_size)))


class Sessions:
    """What runs a graph, in the precision that autocast asks for at the moment, as any module of torch does.

    Sessions begin when they are first needed: of the networks of a model not all may be.
    """

    def __init__(self, start: Start, graph: Callable[[], bytes]) -> None:
        self.start = start
        self.graph = graph
        self.running: dict[Precision, Run] = {}

    def scores(self, images: Tensor) -> Tensor:
        """What the graph makes of images (B, C, *patch)."""
        precision = _autocast_precision()
        if precision not in self.running:
            self.running[precision] = self.start(self.graph(), torch.get_num_threads(), precision)
        return torch.from_numpy(self.running[precision](np.ascontiguousarray(images.to(torch.float32).numpy())))


def _autocast_precision() -> Precision:
    if not torch.is_autocast_enabled("cpu"):
        return "float32"
    asked = torch.get_autocast_dtype("cpu")
    names: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
    return next(name for name in names if PRECISIONS[name] == asked)


class EngineNetwork(nn.Module):
    """Scores (B, K, *space) of images (B, C, *space) by an engine."""

    def __init__(self, sessions: Sessions) -> None:
        super().__init__()
        self.sessions = sessions

    def forward(self, image: Tensor) -> Tensor:
        """Scores of one batch."""
        return self.sessions.scores(image)


class EngineFeatures(nn.Module):
    """A network whose features come from an engine; their linear map to scores stays torch's."""

    def __init__(self, network: LinearHead, sessions: Sessions) -> None:
        super().__init__()
        self.network = network
        self.sessions = sessions

    @property
    def feature_channels(self) -> int:
        """Channels F of what `features` gives."""
        return self.network.feature_channels

    def scores(self, features: Tensor) -> Tensor:
        """Scores (B, K, *space) of `features`."""
        return self.network.scores(features)

    def features(self, image: Tensor) -> Tensor:
        """Features (B, F, *space)."""
        return self.sessions.scores(image)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of one batch."""
        return self.scores(self.features(image))
