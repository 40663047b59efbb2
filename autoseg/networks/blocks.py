"""The pieces that U-Nets are made of, in 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from autoseg.networks.normalization import (
    SLOPE,
    InstanceNorm,
    in_channels_last,
    is_traced,
    lays_out_channels_last,
)

Dimensions = Literal[2, 3]

Convolution = nn.Conv2d | nn.Conv3d
TransposedConvolution = nn.ConvTranspose2d | nn.ConvTranspose3d

#: Voxels along the shortest edge of the features from which a CPU convolves in half precision. Along edges of one or
#: two voxels oneDNN's bfloat16 kernels read memory that nobody has written, so that gradients are garbage now and then,
#: and write beyond their own; from three on 7000 random convolutions on guarded memory were sound. One more for safety.
SOUND_EDGE = 4


def convolution(
    dimensions: Dimensions,
    channels: int,
    features: int,
    kernel_size: Sequence[int],
    stride: Sequence[int] | None = None,
    *,
    bias: bool = True,
) -> Convolution:
    """A convolution padded so that stride 1 keeps the size; kernel sizes are odd."""
    build = nn.Conv2d if dimensions == 2 else nn.Conv3d
    padding = tuple((size - 1) // 2 for size in kernel_size)
    steps = tuple(stride) if stride is not None else (1,) * dimensions
    return build(channels, features, tuple(kernel_size), steps, padding, bias=bias)  # type: ignore[arg-type]


def transposed_convolution(
    dimensions: Dimensions, channels: int, features: int, stride: Sequence[int]
) -> TransposedConvolution:
    """A transposed convolution whose kernel is its stride: every input voxel becomes one block of the output."""
    build = nn.ConvTranspose2d if dimensions == 2 else nn.ConvTranspose3d
    return build(channels, features, tuple(stride), tuple(stride))  # type: ignore[arg-type]


def channels_last(x: Tensor) -> Tensor:
    """The features laid out channels last where that is the fastest for convolutions and norms; else as they are."""
    return x if is_traced() or not lays_out_channels_last(x.device) else in_channels_last(x)


def convolve(layer: Convolution, x: Tensor) -> Tensor:
    """What the convolution `layer` makes of x without its bias, in float32 where a CPU's bfloat16 is not sound."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or min(x.shape[2:]) >= SOUND_EDGE:
        features: Tensor = layer._conv_forward(x, layer.weight, None)
        return features
    with torch.autocast("cpu", enabled=False):
        exact: Tensor = layer._conv_forward(x.float(), layer.weight, None)
    return exact.to(torch.get_autocast_dtype("cpu"))


def enlarge(layer: TransposedConvolution, x: Tensor) -> Tensor:
    """What the transposed convolution `layer`, whose kernel is its stride, makes of x.

    On a CPU it is one matrix product, every voxel becoming a block, and a copy that puts the blocks in their places:
    faster than the convolution's kernel.
    """
    if x.device.type != "cpu" or is_traced():
        enlarged: Tensor = layer(x)
        return enlarged
    channels, features, *stride = layer.weight.shape
    dimensions = len(stride)
    batch, _, *size = x.shape
    last = tuple(range(2, dimensions + 2))
    matrix = layer.weight.permute(0, *last, 1).reshape(channels, -1)  # kernel voxels, then features
    bias = None if layer.bias is None else layer.bias.repeat(math.prod(stride))
    voxels = x.movedim(1, -1).reshape(-1, channels)
    blocks = (voxels @ matrix if bias is None else torch.addmm(bias, voxels, matrix)).view(
        batch, *size, *stride, features
    )
    # (batch, z, y, x, kz, ky, kx, features) to (batch, z, kz, y, ky, x, kx, features)
    order = [axis + part for axis in range(1, dimensions + 1) for part in (0, dimensions)]
    placed = blocks.permute(0, *order, 2 * dimensions + 1)
    larger = [n * step for n, step in zip(size, stride, strict=True)]
    return placed.reshape(batch, *larger, features).movedim(-1, 1)


def scores_of(head: Convolution, x: Tensor) -> Tensor:
    """What the convolution of one voxel `head` makes of x: on a CPU a matrix product, with classes first in memory."""
    if x.device.type != "cpu" or is_traced():
        scores: Tensor = head(x)
        return scores
    voxels = x.movedim(1, -1).reshape(x.shape[0], -1, x.shape[1])
    matrix = head.weight.flatten(1).expand(x.shape[0], -1, -1)
    product = matrix @ voxels.mT if head.bias is None else torch.baddbmm(head.bias[:, None], matrix, voxels.mT)
    return product.view(x.shape[0], -1, *x.shape[2:])


class ConvolutionUnit(nn.Module):
    """Convolution, instance normalization and, unless switched off, leaky ReLU.

    The convolution's bias has no effect, since the normalization subtracts it again; it is kept, untrained, so that
    weights can be exchanged with nnU-Net, but never computed.
    """

    def __init__(
        self,
        dimensions: Dimensions,
        channels: int,
        features: int,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None = None,
        *,
        bias: bool = True,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.convolution = convolution(dimensions, channels, features, kernel_size, stride, bias=bias)
        if self.convolution.bias is not None:
            self.convolution.bias.requires_grad_(False)
        self.norm = InstanceNorm(features, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, *space) to (B, features, *space / stride)."""
        features: Tensor = self.norm(convolve(self.convolution, x))
        return features


class ResidualBlock(nn.Module):
    """Two units around which a shortcut leads: ResNet-D's basic block (He et al. 2019), as nnU-Net uses it.

    Where the block strides, its shortcut averages first; where it changes the number of features, a convolution of one
    voxel and a normalization follow. The second unit starts as zero, so a fresh block is its own shortcut.
    """

    def __init__(
        self,
        dimensions: Dimensions,
        channels: int,
        features: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
    ) -> None:
        super().__init__()
        self.first = ConvolutionUnit(dimensions, channels, features, kernel_size, stride)
        self.second = ConvolutionUnit(dimensions, features, features, kernel_size, activation=False)
        strides = any(step != 1 for step in stride)
        pooling = nn.AvgPool2d if dimensions == 2 else nn.AvgPool3d
        self.pool = pooling(tuple(stride), tuple(stride)) if strides else nn.Identity()  # type: ignore[arg-type]
        self.project: nn.Module = nn.Identity()
        if channels != features:
            one = (1,) * dimensions
            self.project = ConvolutionUnit(dimensions, channels, features, one, bias=False, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, *space) to (B, features, *space / stride)."""
        shortcut = self.project(self.pool(x))
        return functional.leaky_relu_(self.second(self.first(x)) + shortcut, SLOPE)
