"""Networks that are counted without being computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoseg.errors import PlanError
from autoseg.networks.catalog import NETWORKS
from autoseg.networks.counting import network_size, passing_elements
from autoseg.records import NetworkSpec

PATCH = (16, 16)
VOXELS = 256


def spec(network: str) -> NetworkSpec:
    return NetworkSpec(
        network=network,
        dimensions=2,
        channels=2,
        heads=3,
        strides=((1, 1), (2, 2)),
        kernel_sizes=((3, 3), (3, 3)),
        features_per_stage=(8, 16),
        blocks_per_stage=(1, 1),
        blocks_per_stage_decoder=(1,),
    )


def two_convolutions(spec: NetworkSpec) -> nn.Module:
    return nn.Sequential(nn.Conv2d(spec.channels, 8, 1), nn.Sigmoid(), nn.Conv2d(8, spec.heads, 1))


class Deciding(nn.Module):
    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.head = nn.Conv2d(spec.channels, spec.heads, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(image) if float(image.sum()) > 0 else self.head(-image)


def test_two_convolutions_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "two", two_convolutions)
    size = network_size(spec("two"), PATCH)
    assert size.weights == 8 * 2 + 8 + 3 * 8 + 3
    assert size.kept == (2 + 8) * VOXELS  # the image, and what sigmoid gave: it serves both of them
    assert size.largest == 8 * VOXELS
    assert size.operations == 2 * VOXELS * (8 * 2 + 3 * 8)
    # nothing is kept: at most the input and the output of the sigmoid live together
    assert passing_elements(spec("two"), PATCH) == (8 + 8) * VOXELS


def test_what_passes_is_less_than_what_training_keeps_and_more_than_one_map() -> None:
    size = network_size(spec("unetpp"), PATCH)
    assert size.largest < passing_elements(spec("unetpp"), PATCH) < size.kept


def test_a_network_that_decides_by_values_cannot_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "deciding", Deciding)
    for count in (network_size, passing_elements):
        with pytest.raises(PlanError, match="'deciding' cannot be counted on a patch of 16x16"):
            count(spec("deciding"), PATCH)


def test_torch_is_left_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    network_size(spec("unet"), (32, 32))
    passing_elements(spec("unet"), (32, 32))
    found = torch.rand(2)
    assert found.device.type == "cpu"
    assert torch.equal(found, expected)
