from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from autoseg.networks.blocks import (
    ConvolutionUnit,
    ResidualBlock,
    channels_last,
    convolution,
    enlarge,
    scores_of,
    transposed_convolution,
)
from autoseg.networks.normalization import EPSILON, SLOPE


@pytest.mark.parametrize("size", [(4, 5), (3, 4, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_keeps_values_and_changes_the_layout(size: tuple[int, ...], channels: int) -> None:
    x = torch.randn(2, channels, *size)
    found = channels_last(x)
    assert torch.equal(found, x)
    assert found.stride()[1] == 1
    assert found.stride()[-1] == channels


@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (2, 2, 2), (1, 2, 3)])
@pytest.mark.parametrize("layout", ["plain", "channels last"])
def test_enlarging_equals_the_transposed_convolution(stride: tuple[int, ...], layout: str) -> None:
    torch.manual_seed(0)
    layer = transposed_convolution(2 if len(stride) == 2 else 3, 5, 3, stride).double()
    x = torch.randn(2, 5, *(3, 4, 5)[: len(stride)], dtype=torch.float64)
    x = (channels_last(x) if layout == "channels last" else x).requires_grad_()
    wanted, found = layer(x), enlarge(layer, x)
    torch.testing.assert_close(found, wanted)
    towards = torch.randn_like(wanted)
    inputs = (x, layer.weight, layer.bias)
    for one, other in zip(
        torch.autograd.grad(found, inputs, towards), torch.autograd.grad(wanted, inputs, towards), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("size", [(4, 5), (3, 4, 5)])
def test_scores_equal_the_convolution_of_one_voxel(size: tuple[int, ...]) -> None:
    head = convolution(2 if len(size) == 2 else 3, 6, 3, (1,) * len(size)).double()
    x = channels_last(torch.randn(2, 6, *size, dtype=torch.float64))
    found = scores_of(head, x)
    torch.testing.assert_close(found, head(x))
    assert found.is_contiguous()


def test_a_unit_equals_convolution_norm_activation_with_the_bias_that_it_leaves_out() -> None:
    torch.manual_seed(1)
    unit = ConvolutionUnit(3, 2, 4, (3, 1, 3), (2, 1, 2)).double()
    torch.nn.init.normal_(unit.convolution.bias)
    x = torch.randn(2, 2, 6, 5, 8, dtype=torch.float64)
    features = functional.instance_norm(unit.convolution(x), weight=unit.norm.weight, bias=unit.norm.bias, eps=EPSILON)
    torch.testing.assert_close(unit(x), functional.leaky_relu(features, SLOPE))
    assert not unit.convolution.bias.requires_grad


@pytest.mark.parametrize(("channels", "stride"), [(4, (1, 1, 1)), (4, (2, 2, 2)), (3, (1, 2, 2)), (3, (1, 1, 1))])
def test_a_residual_block_is_its_shortcut_plus_two_units(channels: int, stride: tuple[int, ...]) -> None:
    torch.manual_seed(2)
    block = ResidualBlock(3, channels, 4, (3, 3, 3), stride).double()
    x = torch.randn(2, channels, 4, 6, 8, dtype=torch.float64)
    shortcut = functional.avg_pool3d(x, stride, stride) if max(stride) > 1 else x
    if channels != 4:
        shortcut = functional.instance_norm(functional.conv3d(shortcut, block.project.convolution.weight), eps=EPSILON)
    wanted = functional.leaky_relu(block.second(block.first(x)) + shortcut, SLOPE)
    torch.testing.assert_close(block(x), wanted)
