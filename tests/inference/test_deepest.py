"""The deepest features of any network, found by looking on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoseg.inference.deepest import deepest_layer, looking_at
from autoseg.networks.catalog import build_network
from autoseg.networks.unet import UNet
from autoseg.records import NetworkSpec

SPEC = NetworkSpec(
    network="unet",
    channels=1,
    heads=3,
    dimensions=2,
    kernel_sizes=((3, 3),) * 3,
    strides=((1, 1), (2, 2), (2, 2)),
    features_per_stage=(4, 8, 16),
    blocks_per_stage=(1, 1, 1),
    blocks_per_stage_decoder=(1, 1),
    deep_supervision=False,
)


def a_unet() -> UNet:
    network = build_network(SPEC)
    assert isinstance(network, UNet)
    return network.eval().requires_grad_(False)


def test_of_a_unet_it_is_the_bottleneck_averaged_over_space() -> None:
    network, images = a_unet(), torch.randn(5, 1, 16, 24)
    layer = deepest_layer(network, images[:1] * 0)
    with looking_at(layer) as seen:
        network(images[:2])
        network(images[2:])
    assert seen.rows.shape == (5, 16)
    np.testing.assert_allclose(seen.rows, network.encoder(images)[-1].mean((2, 3)).numpy(), rtol=1e-4, atol=1e-5)
    network(images)
    assert len(seen.rows) == 5  # nobody looks any more


class Squeezing(nn.Module):
    """Pools over the image beside its deepest layer."""

    def __init__(self) -> None:
        super().__init__()
        self.deep, self.pool = nn.Conv3d(1, 7, 2, stride=2), nn.AdaptiveAvgPool3d(1)

    def forward(self, image: Tensor) -> Tensor:
        deep: Tensor = self.deep(image)
        return nn.functional.interpolate(deep * self.pool(deep), scale_factor=2)


def test_a_layer_that_pools_over_the_image_is_not_the_deepest() -> None:
    network = Squeezing()
    assert deepest_layer(network, torch.zeros(1, 1, 8, 8, 8)) is network.deep


def test_a_network_without_layers_in_space_gives_its_scores() -> None:
    network = nn.Identity()
    assert deepest_layer(network, torch.zeros(1, 2, 4, 4)) is network
    with looking_at(network) as seen:
        network(torch.ones(3, 2, 4, 4))
    assert seen.rows.tolist() == [[1.0, 1.0]] * 3


def test_features_in_half_precision_are_averaged_in_full() -> None:
    with looking_at(layer := nn.Identity()) as seen:
        layer(torch.full((1, 1, 300, 300), 1.001, dtype=torch.bfloat16))
    assert seen.rows.dtype == np.float32
    assert seen.rows[0, 0] == pytest.approx(1.0, abs=0.01)


def test_nothing_looked_at_is_no_features() -> None:
    with looking_at(nn.Identity()) as seen:
        pass
    assert seen.rows.shape == (0, 0)
