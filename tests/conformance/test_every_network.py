"""What every network of the catalog must do."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from autoseg.networks.catalog import NETWORKS, build_network, prepare_for_device
from autoseg.records import NetworkSpec

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _build(name: str, dimensions: int, channels: int = 2, heads: int = 3) -> nn.Module:
    spec = NetworkSpec.model_validate(
        {
            "network": name,
            "dimensions": dimensions,
            "channels": channels,
            "heads": heads,
            "strides": ((1,) * dimensions,) + ((2,) * dimensions,) * 2,
            "kernel_sizes": ((3,) * dimensions,) * 3,
            "features_per_stage": (8, 12, 16),
            "blocks_per_stage": (1, 2, 1),
            "blocks_per_stage_decoder": (1, 1),
        }
    )
    torch.manual_seed(0)
    return prepare_for_device(build_network(spec), CPU)


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_scores_have_the_images_grid(name: str, dimensions: int, channels: int) -> None:
    network = _build(name, dimensions, channels)
    image = torch.randn(2, channels, *(8, 16, 12)[:dimensions])
    scores = network(image)
    assert isinstance(scores, list)
    assert scores[0].shape == (2, 3, *image.shape[2:])
    assert len(scores) == 2
    network.deep_supervision = False
    alone = network(image)
    assert torch.equal(alone, scores[0])
    assert torch.equal(network(image), alone)


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("dimensions", [2, 3])
def test_samples_do_not_meet(name: str, dimensions: int) -> None:
    network = _build(name, dimensions)
    network.deep_supervision = False
    image = torch.randn(3, 2, *(8, 8, 8)[:dimensions])
    torch.testing.assert_close(network(image)[1:2], network(image[1:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_trained_weight_gets_a_gradient_and_a_step_helps(name: str, dimensions: int) -> None:
    network = _build(name, dimensions)
    image = torch.randn(2, 2, *(8, 8, 8)[:dimensions])

    def loss() -> torch.Tensor:
        return torch.stack([(level - 1).square().mean() for level in network(image)]).sum()

    before = loss()
    before.backward()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in trained)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, weight_decay=1e-5)
    optimizer.step()
    assert float(loss().detach()) < float(before.detach())


@pytest.mark.parametrize("name", list(NETWORKS))
def test_weights_travel(name: str) -> None:
    network = _build(name, 3)
    other = _build(name, 3)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict({key: tensor.clone() for key, tensor in network.state_dict().items()})
    image = torch.randn(1, 2, 8, 8, 8)
    assert torch.equal(network(image)[0], other(image)[0])
    assert torch.equal(copy.deepcopy(network)(image)[0], network(image)[0])
    assert all(tensor.is_contiguous() for tensor in network.state_dict().values())
