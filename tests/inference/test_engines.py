"""Other engines compute what torch does: their masks are those of torch in float32."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_builders import make_configuration, make_header, phantom
from scores_builders import score_prepared
from torch import Tensor, nn

from autoseg.devices import autocast
from autoseg.errors import ModelError, UsageError
from autoseg.inference.engines import ENGINES, EngineFeatures, engine_device, engine_precision, with_engine
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import LoadedModel, build_model
from autoseg.inference.volume import predict_volume, prepare_volume
from autoseg.networks.catalog import build_network
from autoseg.networks.onnx_graph import network_graph
from autoseg.records import Configuration, Geometry, Labels, PredictSettings, Volume

CPU = torch.device("cpu")
PLAIN = Labels(names={"background": 0, "grey": 1, "white": 4})
MANY = Labels(names={"background": 0, **{f"l{value}": value for value in range(1, 9)}})
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2))


def installed(engine: str) -> None:
    absent = [package for package in ENGINES[engine].packages if importlib.util.find_spec(package) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    installed(request.param)
    name: str = request.param
    return name


def built(*entries: Configuration, labels: Labels = PLAIN) -> LoadedModel:
    """Random weights, with normalizations that are no identities."""
    header = make_header(*entries, labels=labels)
    torch.manual_seed(1)
    tensors: dict[str, dict[str, Tensor]] = {}
    for member in header.members:
        channels = 1 if member.configuration.previous_stage is None else len(labels.values)
        network = build_network(member.configuration.network_spec(channels, labels.heads))
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.data.uniform_(-1, 1)
        tensors[member.name] = network.state_dict()
    return build_model(header, tensors, CPU, "float32")


def volume() -> Volume:
    stored = np.ascontiguousarray(phantom().transpose())
    stored += np.random.default_rng(0).normal(size=stored.shape).astype(np.float32)
    rows = tuple(tuple(float(value) for value in row) for row in np.eye(4))
    return Volume(stored[None], Geometry(shape=stored.shape, affine=rows))  # type: ignore[arg-type]


UNET = make_configuration(network="unet", patch=(8, 12, 10))
SLICES = make_configuration(network="resenc", dimensions=2, spacing=(None, 1.0, 1.0), patch=(12, 16))
CASES: dict[str, Callable[[], LoadedModel]] = {
    "3D": lambda: built(UNET),
    "2D, residual": lambda: built(SLICES),
    "two folds": lambda: built(UNET, UNET),
    "two configurations": lambda: built(UNET, SLICES),
    "more labels than features": lambda: built(make_configuration(network="unet", labels=MANY), labels=MANY),
    "regions": lambda: built(make_configuration(network="unet", labels=REGIONS), labels=REGIONS),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_and_masks_are_those_of_torch(case: str, engine: str) -> None:
    model = CASES[case]()
    other = with_engine(model, engine)
    prepared = prepare_volume(model, "a", volume())
    for ours, theirs in zip(score_prepared(model, prepared), score_prepared(other, prepared), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=2e-3 * float(ours.std()))
    mask = predict_volume(model, volume())
    assert len(np.unique(mask)) > 1
    assert np.mean(predict_volume(other, volume()) != mask) < 1e-3


def test_features_alone_come_from_the_engine_where_there_are_fewer(engine: str) -> None:
    few, many = with_engine(CASES["3D"](), engine), with_engine(CASES["more labels than features"](), engine)
    assert not isinstance(few.groups[0].networks[0], EngineFeatures)
    assert isinstance(many.groups[0].networks[0], EngineFeatures)


def test_both_stages_of_a_cascade(engine: str) -> None:
    second = UNET.model_copy(update={"name": "high", "previous_stage": "low"})
    header = make_header(UNET.model_copy(update={"name": "low"}), second)
    low, high = header.members
    header = header.model_copy(update={"members": (low, high.model_copy(update={"previous_stage": low.name}))})
    torch.manual_seed(2)
    tensors = {
        member.name: build_network(member.configuration.network_spec(channels, 3)).state_dict()
        for member, channels in zip(header.members, (1, 3), strict=True)
    }
    model = build_model(header, tensors, CPU, "float32")
    mask = predict_volume(model, volume())
    assert len(np.unique(mask)) > 1
    settings = PredictSettings(engine=engine)
    assert np.mean(predict_volume(model, volume(), settings=settings) != mask) < 1e-3
    stages = narrowed(model, settings).groups[0]
    assert stages.first_stage is not None
    assert not any(isinstance(network, nn.Conv3d) for network in stages.first_stage.networks[0].modules())


def test_settings_choose_the_engine_once(engine: str) -> None:
    settings = PredictSettings(engine=engine)
    model = narrowed(CASES["3D"](), settings)
    assert model.engine == engine
    assert narrowed(model, settings).groups[0].networks == model.groups[0].networks


def test_half_precision_is_what_autocast_asks_for() -> None:
    installed("openvino")
    model = CASES["3D"]()
    network = with_engine(model, "openvino").groups[0].networks[0]
    images = torch.randn(2, 1, 8, 12, 10, generator=torch.Generator().manual_seed(0))
    expected = model.groups[0].networks[0](images)
    exact = network(images)
    with autocast(CPU, "bfloat16"):
        rounded = network(images)
    assert exact.dtype == rounded.dtype == torch.float32
    assert (exact - expected).abs().max() < 1e-3 * expected.std()
    assert (rounded - expected).abs().max() < 0.5 * expected.std()


# ------------------------------------------------------------------------------------------------- what cannot be


def test_precisions() -> None:
    assert engine_precision("torch", "bfloat16", CPU) == "bfloat16"
    assert engine_precision("onnx", "auto", CPU) == "float32"
    assert engine_precision("openvino", "bfloat16", CPU) == "bfloat16"
    with pytest.raises(UsageError, match=r"onnx does not compute in bfloat16.*--precision float32"):
        engine_precision("onnx", "bfloat16", CPU)


def test_engines_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no engine 'tensorrt'.*torch, onnx, openvino"):
        engine_device("tensorrt", "auto")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"ONNX Runtime is not installed.*autoseg-pipeline\[onnx\]"):
        engine_device("onnx", "auto")


def test_engines_compute_on_the_cpu(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_device(engine, "auto") == CPU
    monkeypatch.setattr("autoseg.inference.engines.choose_device", torch.device)
    with pytest.raises(UsageError, match=r"on the CPU, not on cuda.*Leave --device out"):
        engine_device(engine, "cuda")


class Sorted(nn.Module):
    """An operation that ONNX lacks."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.linalg.svd(image)[0]


def test_a_network_without_a_counterpart_is_named() -> None:
    installed("onnx")
    with pytest.raises(ModelError, match="cannot be written as ONNX"):
        network_graph(Sorted(), 1, (8, 8))


def test_openvino_reports_to_nobody(tmp_path: Path) -> None:
    """Its import must neither load what sends telemetry nor leave an id of this machine in the user's home."""
    installed("openvino")
    code = (
        "import sys\n"
        "from autoseg.inference.engines import _without_telemetry\n"
        "_without_telemetry('openvino').Core()\n"
        "sys.exit(any(name.split('.')[0] == 'openvino_telemetry' for name in sys.modules))"
    )
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(home.iterdir())


INTERRUPTED = """
import gc, signal, threading
import numpy as np
import torch
from autoseg.inference.engines import ENGINES
from autoseg.networks.onnx_graph import network_graph

kept = [ENGINES[{engine!r}].start(network_graph(torch.nn.Conv3d(1, 2, 3, padding=1), 1, (8, 8, 8)), 1, "float32")]
kept[0](np.zeros((1, 1, 8, 8, 8), np.float32))

def let_go():
    kept.clear()
    gc.collect()

thread = threading.Thread(target=let_go)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda *_: print("handled"))
signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_is_handled_after_another_thread_let_go_of_an_engine(engine: str, tmp_path: Path) -> None:
    """OpenVINO takes back the stack on which the handlers of another thread's signals run."""
    code = INTERRUPTED.format(engine=engine)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "handled"), done.stderr


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "USERPROFILE": str(home)}
