"""The pieces that U-Nets are made of, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from autoseg.networks.normalization import SLOPE, InstanceNorm

Dimensions = Literal[2, 3]

_CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_POOLINGS: dict[int, type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


def convolution(
    dimensions: Dimensions,
    channels: int,
    features: int,
    kernel_size: Sequence[int],
    stride: Sequence[int] | None = None,
    *,
    bias: bool = True,
) -> nn.Module:
    """A convolution padded so that stride 1 keeps the size; kernel sizes are odd."""
    padding = tuple((size - 1) // 2 for size in kernel_size)
    steps = tuple(stride) if stride is not None else (1,) * dimensions
    return _CONVOLUTIONS[dimensions](channels, features, tuple(kernel_size), steps, padding, bias=bias)  # type: ignore[arg-type]


def transposed_convolution(dimensions: Dimensions, channels: int, features: int, stride: Sequence[int]) -> nn.Module:
    """A transposed convolution whose kernel is its stride: every input voxel becomes one block of the output."""
    return _TRANSPOSED[dimensions](channels, features, tuple(stride), tuple(stride))  # type: ignore[arg-type]


class ConvolutionUnit(nn.Module):
    """Convolution, instance normalization and, unless switched off, leaky ReLU."""

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
        self.norm = InstanceNorm(features, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, *space) to (B, features, *space / stride)."""
        return self.norm(self.convolution(x))


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
        self.pool = _POOLINGS[dimensions](tuple(stride), tuple(stride)) if strides else nn.Identity()  # type: ignore[arg-type]
        self.project: nn.Module = nn.Identity()
        if channels != features:
            one = (1,) * dimensions
            self.project = ConvolutionUnit(dimensions, channels, features, one, bias=False, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, *space) to (B, features, *space / stride)."""
        shortcut = self.project(self.pool(x))
        return functional.leaky_relu(self.second(self.first(x)) + shortcut, SLOPE)
