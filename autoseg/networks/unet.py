"""The plain U-Net and the U-Net with a residual encoder, as nnU-Net plans them (Isensee et al. 2021, 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from autoseg.errors import PlanError
from autoseg.networks.blocks import (
    ConvolutionUnit,
    ResidualBlock,
    channels_last,
    convolution,
    enlarge,
    scores_of,
    transposed_convolution,
)
from autoseg.networks.normalization import SLOPE
from autoseg.records import NetworkSpec


class UNet(nn.Module):
    """An encoder, and a decoder that meets the encoder's features at every resolution.

    With `deep_supervision` set (it may be switched at any time) `forward` returns the scores of every resolution
    but the coarsest, finest first; else those of the finest alone. All heads exist either way, so the weights fit both.
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder, *, deep_supervision: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.deep_supervision = deep_supervision

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Scores (B, K, *space) of an image (B, C, *space); sizes must be multiples of the product of the strides."""
        scores: list[Tensor] = self.decoder(self.encoder(image), self.deep_supervision)
        return scores if self.deep_supervision else scores[0]

    @property
    def feature_channels(self) -> int:
        """Channels F of what `features` gives."""
        channels: int = self.decoder.finest.head.in_channels
        return channels

    def features(self, image: Tensor) -> Tensor:
        """Features (B, F, *space) of which the scores are a linear map, the same at every voxel."""
        return self.decoder.features(self.encoder(image))

    def scores(self, features: Tensor) -> Tensor:
        """Scores (B, K, *space) of `features`, of weighted means of them too: weighting first gives the same."""
        return self.decoder.finest.scores(features)


class Encoder(nn.Module):
    """A stem (possibly nothing), then stages, the first module of each carrying its stride."""

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of every stage, finest first."""
        x = self.stem(channels_last(image))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class DecoderLevel(nn.Module):
    """One resolution of the decoder: enlarge, join with the encoder's features, convolve; a head gives scores."""

    def __init__(self, spec: NetworkSpec, stage: int) -> None:
        super().__init__()
        features, below = spec.features_per_stage[stage], spec.features_per_stage[stage + 1]
        kernel_size = spec.kernel_sizes[stage]
        self.upsample = transposed_convolution(spec.dimensions, below, features, spec.strides[stage + 1])
        channels = [2 * features] + [features] * (spec.blocks_per_stage_decoder[stage] - 1)
        self.units = nn.Sequential(
            *(ConvolutionUnit(spec.dimensions, count, features, kernel_size) for count in channels)
        )
        self.head = convolution(spec.dimensions, features, spec.heads, (1,) * spec.dimensions)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Features at the resolution of `skip`; x comes from the level below."""
        joined: Tensor = self.units(torch.cat((enlarge(self.upsample, x), skip), dim=1))
        return joined

    def scores(self, x: Tensor) -> Tensor:
        """Scores (B, K, *space) of this level's features."""
        return scores_of(self.head, x)


class Decoder(nn.Module):
    """The levels above the bottleneck, finest first like the encoder's stages."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.levels = nn.ModuleList(DecoderLevel(spec, stage) for stage in range(len(spec.strides) - 1))

    @property
    def finest(self) -> DecoderLevel:
        """The level of the full resolution."""
        return cast("DecoderLevel", self.levels[0])

    def features(self, features: Sequence[Tensor]) -> Tensor:
        """Features of the full resolution, from those of the encoder."""
        x = features[-1]
        for number, level in reversed(list(enumerate(self.levels))):
            x = level(x, features[number])
        return x

    def forward(self, features: Sequence[Tensor], every_level: bool) -> list[Tensor]:
        """Scores per level, finest first; only the finest unless `every_level`."""
        scores = []
        x = features[-1]
        for number, level in reversed(list(enumerate(cast("list[DecoderLevel]", list(self.levels))))):
            x = level(x, features[number])
            if every_level or number == 0:
                scores.append(level.scores(x))
        return scores[::-1]


def plain_encoder(spec: NetworkSpec) -> Encoder:
    """Stages of convolution units, the first of each strides."""
    stages = []
    channels = spec.channels
    for features, kernel_size, stride, blocks in zip(
        spec.features_per_stage, spec.kernel_sizes, spec.strides, spec.blocks_per_stage, strict=True
    ):
        units = [ConvolutionUnit(spec.dimensions, channels, features, kernel_size, stride)]
        units += [ConvolutionUnit(spec.dimensions, features, features, kernel_size) for _ in range(blocks - 1)]
        stages.append(nn.Sequential(*units))
        channels = features
    return Encoder(nn.Identity(), stages)


def residual_encoder(spec: NetworkSpec) -> Encoder:
    """A stem and stages of residual blocks, the first of each strides."""
    channels = spec.features_per_stage[0]
    stem = ConvolutionUnit(spec.dimensions, spec.channels, channels, spec.kernel_sizes[0])
    stages = []
    one = (1,) * spec.dimensions
    for features, kernel_size, stride, count in zip(
        spec.features_per_stage, spec.kernel_sizes, spec.strides, spec.blocks_per_stage, strict=True
    ):
        blocks = [ResidualBlock(spec.dimensions, channels, features, kernel_size, stride)]
        blocks += [ResidualBlock(spec.dimensions, features, features, kernel_size, one) for _ in range(count - 1)]
        stages.append(nn.Sequential(*blocks))
        channels = features
    return Encoder(stem, stages)


def unet(spec: NetworkSpec) -> nn.Module:
    """The plain U-Net: every stage a row of convolution units, the first of which strides (nnU-Net's PlainConvUNet)."""
    checked(spec)
    return initialized(UNet(plain_encoder(spec), Decoder(spec), deep_supervision=spec.deep_supervision))


def residual_encoder_unet(spec: NetworkSpec) -> nn.Module:
    """The U-Net whose encoder is a stem and stages of residual blocks (nnU-Net's ResidualEncoderUNet)."""
    checked(spec)
    return initialized(UNet(residual_encoder(spec), Decoder(spec), deep_supervision=spec.deep_supervision))


def initialized(network: nn.Module) -> nn.Module:
    """The network with He et al.'s (2015) weights for leaky ReLU; residual blocks begin as their shortcut."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.second.norm.weight)
            nn.init.zeros_(module.second.norm.bias)
    return network


def checked(spec: NetworkSpec) -> None:
    """Raise PlanError for entries that do not fit one another: plans may be edited by hand."""
    stages = len(spec.strides)
    if stages < 2:
        raise PlanError("a U-Net needs at least two stages", where="strides", remedy="Use a larger patch.")
    lengths = {
        "kernel_sizes": len(spec.kernel_sizes),
        "features_per_stage": len(spec.features_per_stage),
        "blocks_per_stage": len(spec.blocks_per_stage),
        "blocks_per_stage_decoder": len(spec.blocks_per_stage_decoder) + 1,
    }
    for field, length in lengths.items():
        if length != stages:
            wanted = stages - 1 if field == "blocks_per_stage_decoder" else stages
            raise PlanError(f"there are {stages} stages, so {field} needs {wanted} entries", where=field)
    for field, rows in (("strides", spec.strides), ("kernel_sizes", spec.kernel_sizes)):
        if any(len(row) != spec.dimensions or min(row) < 1 for row in rows):
            raise PlanError(f"every entry needs {spec.dimensions} positive numbers", where=field)
    if any(size % 2 == 0 for kernel_size in spec.kernel_sizes for size in kernel_size):
        raise PlanError("kernel sizes must be odd", where="kernel_sizes")
    counts: dict[str, Sequence[int]] = {
        "features_per_stage": spec.features_per_stage,
        "blocks_per_stage": spec.blocks_per_stage,
        "blocks_per_stage_decoder": spec.blocks_per_stage_decoder,
        "channels": (spec.channels,),
        "heads": (spec.heads,),
    }
    for field, numbers in counts.items():
        if min(numbers) < 1:
            raise PlanError("all numbers must be at least 1", where=field)
