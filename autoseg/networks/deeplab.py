"""DeepLab v3+ (Chen et al. 2018): a residual encoder, a pyramid of atrous convolutions, a short decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from autoseg.networks.blocks import ConvolutionUnit, convolution, scores_of
from autoseg.networks.normalization import SLOPE
from autoseg.networks.unet import checked, initialized, residual_encoder
from autoseg.records import NetworkSpec

#: Atrous rates of the paper, made for a coarsest map of 33 voxels (crops of 513 at output stride 16).
RATES, RATES_ARE_FOR = (6, 12, 18), 33

#: Resolutions at most: the coarsest has output stride 16, and the pyramid sees further instead.
MOST_STAGES = 5

#: The stage whose features the decoder joins: output stride 4.
LOW_LEVEL_STAGE = 2

#: Feature maps of pyramid and decoder at most (the paper's number), and of what the decoder takes from the encoder.
MOST_FEATURES, LOW_LEVEL_FEATURES = 256, 48


def atrous_rates(spec: NetworkSpec) -> tuple[tuple[int, ...], ...]:
    """Distance of the kernel's taps per axis, for each branch: the paper's, in proportion to the coarsest map.

    On a map no longer than the rate the outer taps would only see padding. Without a patch size the paper's own.
    """
    if not spec.patch_size:
        return tuple((rate,) * spec.dimensions for rate in RATES)
    cells = [1] * spec.dimensions
    for stride in spec.strides:
        cells = [cell * step for cell, step in zip(cells, stride, strict=True)]
    coarsest = [size // cell for size, cell in zip(spec.patch_size, cells, strict=True)]
    return tuple(tuple(min(rate, max(1, round(rate * n / RATES_ARE_FOR))) for n in coarsest) for rate in RATES)


class Atrous(ConvolutionUnit):
    """A convolution unit of kernel 3 whose taps lie `rate` voxels apart."""

    def __init__(self, spec: NetworkSpec, channels: int, features: int, rate: Sequence[int]) -> None:
        super().__init__(spec.dimensions, channels, features, (3,) * spec.dimensions)
        self.convolution.dilation = tuple(rate)
        self.convolution.padding = tuple(rate)


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: one voxel, three rates, and the mean of the whole map, side by side."""

    def __init__(self, spec: NetworkSpec, channels: int, features: int) -> None:
        super().__init__()
        one = (1,) * spec.dimensions
        self.branches = nn.ModuleList([ConvolutionUnit(spec.dimensions, channels, features, one)])
        self.branches.extend(Atrous(spec, channels, features, rate) for rate in atrous_rates(spec))
        # not normalized: over one voxel nothing would be left
        self.whole = convolution(spec.dimensions, channels, features, one)
        self.project = ConvolutionUnit(spec.dimensions, (len(self.branches) + 1) * features, features, one)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, *space) to (B, features, *space)."""
        mean = functional.leaky_relu(scores_of(self.whole, x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)), SLOPE)
        parts = [branch(x) for branch in self.branches]
        joined: Tensor = self.project(torch.cat((*parts, mean.expand_as(parts[0])), dim=1))
        return joined


class DeepLab(nn.Module):
    """Scores are made at the resolution of the low-level stage and interpolated from there: there is one output."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.encoder = residual_encoder(spec)
        self.low_level = min(LOW_LEVEL_STAGE, len(spec.strides) - 2)
        features = min(MOST_FEATURES, spec.features_per_stage[-1])
        joined = min(LOW_LEVEL_FEATURES, spec.features_per_stage[self.low_level])
        self.pyramid = Pyramid(spec, spec.features_per_stage[-1], features)
        one, kernel_size = (1,) * spec.dimensions, spec.kernel_sizes[self.low_level]
        self.reduce = ConvolutionUnit(spec.dimensions, spec.features_per_stage[self.low_level], joined, one)
        self.units = nn.Sequential(
            ConvolutionUnit(spec.dimensions, features + joined, features, kernel_size),
            ConvolutionUnit(spec.dimensions, features, features, kernel_size),
        )
        self.head = convolution(spec.dimensions, features, spec.heads, one)
        self.deep_supervision = False

    def forward(self, image: Tensor) -> Tensor:
        """Scores (B, K, *space) of an image (B, C, *space); sizes must be multiples of the product of the strides."""
        maps = self.encoder(image)
        low = self.reduce(maps[self.low_level])
        x = _interpolated(self.pyramid(maps[-1]), low.shape[2:])
        x = self.units(torch.cat((x, low), dim=1))
        return _interpolated(scores_of(self.head, x), image.shape[2:])


def _interpolated(x: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(x, tuple(size), mode="bilinear" if x.ndim == 4 else "trilinear", align_corners=False)


def deeplab_v3_plus(spec: NetworkSpec) -> nn.Module:
    """DeepLab v3+ in 2D and 3D, with the strides, kernels and atrous rates of the plan on every axis."""
    checked(spec)
    return initialized(DeepLab(spec))


def told_rates(spec: NetworkSpec) -> str:
    """The atrous rates in a sentence."""
    rates = ", ".join("x".join(map(str, rate)) for rate in atrous_rates(spec))
    return (
        f"Atrous rates {rates}: the paper's {', '.join(map(str, RATES))} for a coarsest map of {RATES_ARE_FOR} voxels, "
        "in proportion to this patch's."
    )
