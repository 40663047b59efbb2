"""What every network of the catalog must do, and whether it does what it declares."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from autoseg.devices import best_precision, choose_precision
from autoseg.errors import PlanError
from autoseg.networks.blocks import SOUND_EDGE
from autoseg.networks.catalog import NETWORKS, build_network, find_network, prepare_for_device
from autoseg.networks.counting import network_size
from autoseg.networks.linear_head import LinearHead
from autoseg.networks.onnx_graph import IMAGE, network_graph
from autoseg.planning.families import family_of
from autoseg.planning.presets import Architecture
from autoseg.planning.step import weights
from autoseg.records import NetworkSpec

CPU = torch.device("cpu")
SMALL = Architecture("unet", blocks=(1, 2), decoder_blocks=1, base_features=8)

#: Every network in every number of dimensions that it declares.
CASES = [(name, dimensions) for name in NETWORKS for dimensions in find_network(name).dimensions]
#: Of Swin UNETR the smallest volume is large.
every = pytest.mark.parametrize(
    ("name", "dimensions"),
    [pytest.param(*case, marks=pytest.mark.slow if case == ("swin-unetr", 3) else ()) for case in CASES],
)
#: The same; transformers have millions of weights, so that each test takes seconds. In 2D they go through some of them.
each = pytest.mark.parametrize(
    ("name", "dimensions"),
    [pytest.param(*case, marks=pytest.mark.slow if find_network(case[0]).transformer else ()) for case in CASES],
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def planned(
    name: str,
    size: tuple[int, ...],
    spacing: tuple[float, ...] | None = None,
    channels: int = 2,
    heads: int = 3,
) -> NetworkSpec:
    """The network that the planner makes for a small patch."""
    family = family_of(SMALL, name)
    topology = family.topology(spacing or (1.0,) * len(size), size)
    return family.spec(topology, 16, channels, heads)


def built(spec: NetworkSpec) -> nn.Module:
    torch.manual_seed(0)
    return prepare_for_device(build_network(spec), CPU)


def noise(spec: NetworkSpec, samples: int = 1) -> Tensor:
    return torch.randn(samples, spec.channels, *spec.patch_size, generator=torch.Generator().manual_seed(1))


@every
def test_scores_have_the_images_grid(name: str, dimensions: int) -> None:
    spec = planned(name, (16, 32, 20)[:dimensions], channels=3)
    network = built(spec)
    image = noise(spec, 2)
    scores = network(image)
    assert isinstance(scores, list) == find_network(name).deep_supervision == network.deep_supervision
    finest = scores[0] if isinstance(scores, list) else scores
    assert finest.shape == (2, 3, *spec.patch_size)
    if isinstance(scores, list):
        assert len(scores) >= 2
        assert [math.prod(level.shape) for level in scores] == sorted(
            (math.prod(level.shape) for level in scores), reverse=True
        )
    network.deep_supervision = False
    alone = network(image)
    assert torch.equal(alone, finest)
    assert torch.equal(network.eval()(image), alone)  # nothing is learned or dropped on the way


@each
def test_patches_and_strides_are_what_is_declared(name: str, dimensions: int) -> None:
    entry = find_network(name)
    spec = planned(name, (9, 70, 70)[-dimensions:], spacing=(4.0, 1.0, 1.0)[-dimensions:])
    per_axis = [math.prod(axis) for axis in zip(*spec.strides, strict=True)]
    assert all(size % cell == 0 for size, cell in zip(spec.patch_size, per_axis, strict=True))
    assert entry.most_stages is None or len(spec.strides) <= entry.most_stages
    if entry.divisor is not None:
        assert per_axis == [entry.divisor] * dimensions
        odd = tuple(size + 1 for size in spec.patch_size)
        with pytest.raises(PlanError, match=f"multiples of {entry.divisor}"):
            build_network(spec.model_copy(update={"patch_size": odd}))
    if dimensions == 3:
        assert (len(set(per_axis)) > 1) == entry.uneven_strides
    network = built(spec)
    if dimensions == 3:
        kernels = {module.kernel_size for module in network.modules() if isinstance(module, nn.Conv3d)}
        assert ((1, 3, 3) in kernels) == ((1, 3, 3) in spec.kernel_sizes) == entry.uneven_kernels
    network.deep_supervision = False
    assert network(noise(spec)).shape == (1, 3, *spec.patch_size)


@each
def test_samples_do_not_meet(name: str, dimensions: int) -> None:
    spec = planned(name, (16, 16, 16)[:dimensions])
    network = built(spec)
    network.deep_supervision = False
    image = noise(spec, 3)
    with torch.no_grad():
        torch.testing.assert_close(network(image)[1:2], network(image[1:2]), atol=1e-4, rtol=1e-3)


@each
def test_every_trained_weight_gets_a_gradient_and_steps_help(name: str, dimensions: int) -> None:
    spec = planned(name, (16, 16, 16)[:dimensions])
    network = built(spec)
    image = noise(spec)
    aim = (image[:, :1] > 0).long()[:, 0]

    def loss() -> Tensor:
        levels = network(image)
        levels = levels if isinstance(levels, list) else [levels]
        return torch.stack(
            [
                nn.functional.cross_entropy(
                    level, nn.functional.interpolate(aim[:, None].float(), level.shape[2:])[:, 0].long()
                )
                for level in levels
            ]
        ).mean()

    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    first = loss()
    first.backward()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in trained)
    last = first
    for _ in range(3):
        optimizer.step()
        optimizer.zero_grad()
        last = loss()
        last.backward()
    assert float(last.detach()) < float(first.detach())


@each
def test_weights_travel(name: str, dimensions: int) -> None:
    spec = planned(name, (16, 16, 16)[:dimensions])
    network, other = built(spec), built(spec)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict({key: tensor.clone() for key, tensor in network.state_dict().items()})
    network.deep_supervision = other.deep_supervision = False
    image = noise(spec)
    with torch.no_grad():
        assert torch.equal(network(image), other(image))
        assert torch.equal(copy.deepcopy(network)(image), network(image))
    assert all(tensor.is_contiguous() for tensor in network.state_dict().values())


@each
def test_it_can_be_counted_without_computing(name: str, dimensions: int) -> None:
    spec = planned(name, (16, 16, 16)[:dimensions])
    size = network_size(spec, spec.patch_size)
    assert size.weights == sum(weight.numel() for weight in built(spec).parameters() if weight.requires_grad)
    twice = tuple(2 * length for length in spec.patch_size)
    larger = network_size(spec.model_copy(update={"patch_size": twice}), twice)
    assert larger.kept > 1.8**dimensions * size.kept
    assert larger.operations > 1.8**dimensions * size.operations
    assert 0 < size.largest < size.kept
    if name in ("unet", "resenc"):
        assert size.weights == weights(spec)


@each
def test_as_onnx_it_computes_the_same(name: str, dimensions: int) -> None:
    runtime = pytest.importorskip("onnxruntime")
    spec = planned(name, (16, 16, 16)[:dimensions])
    network = built(spec).eval()
    network.deep_supervision = False
    graph = network_graph(network, spec.channels, spec.patch_size)
    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    image = noise(spec, 2)
    with torch.no_grad():
        expected = network(image).numpy()
    found = session.run(None, {IMAGE: image.numpy()})[0]
    assert np.abs(found - expected).max() < 1e-3 * max(1.0, np.abs(expected).max())


@each
def test_a_linear_head_is_one(name: str, dimensions: int) -> None:
    spec = planned(name, (16, 16, 16)[:dimensions])
    network = built(spec)
    if not isinstance(network, LinearHead):
        assert not hasattr(network, "feature_channels")
        return
    network.deep_supervision = False
    image = noise(spec, 2)
    with torch.no_grad():
        features = network.features(image)
        assert features.shape == (2, network.feature_channels, *spec.patch_size)
        torch.testing.assert_close(network.scores(features), network(image), atol=1e-5, rtol=1e-4)
        mean = network.scores(features.mean(0, keepdim=True))
        torch.testing.assert_close(mean, network(image).mean(0, keepdim=True), atol=1e-4, rtol=1e-3)


class _Convolutions(TorchDispatchMode):
    """Notes precision and shortest edge of what every convolution reads."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[torch.dtype, int]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "convolution" in str(func):
            self.seen.add((args[0].dtype, min(args[0].shape[2:])))
        return func(*args, **(kwargs or {}))


@each
def test_no_short_edge_is_convolved_in_half_precision_on_a_cpu(name: str, dimensions: int) -> None:
    spec = planned(name, (16, 16, 16)[:dimensions])
    network = built(spec)
    with _Convolutions() as convolutions, torch.autocast("cpu", dtype=torch.bfloat16):
        levels = network(noise(spec, 2))
        (levels if isinstance(levels, list) else [levels])[-1].float().square().mean().backward()
    assert convolutions.seen
    assert {edge for dtype, edge in convolutions.seen if dtype != torch.float32 and edge < SOUND_EDGE} == set()
    assert any(dtype == torch.bfloat16 for dtype, _ in convolutions.seen) == find_network(name).half_on_cpu
    asked = choose_precision("auto", CPU, [name])
    assert asked == (best_precision(CPU) if find_network(name).half_on_cpu else "float32")


def test_a_bare_builder_counts_as_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "bare", lambda spec: nn.Conv2d(spec.channels, spec.heads, 1))
    entry = find_network("bare")
    assert (entry.dimensions, entry.divisor, entry.uneven_strides, entry.deep_supervision) == ((2, 3), None, True, True)
    assert isinstance(build_network(planned("bare", (16, 16))), nn.Conv2d)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None if package == "monai" else object())
    with pytest.raises(PlanError, match=r"network 'unetr' needs monai.*constraints.txt '\.\[monai\]'"):
        find_network("unetr")
