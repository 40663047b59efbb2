"""U-Net++ (Zhou et al. 2018, 2020): between encoder and decoder a triangle of nodes, each fed by all before it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from autoseg.networks.blocks import (
    ConvolutionUnit,
    convolution,
    enlarge,
    scores_of,
    transposed_convolution,
)
from autoseg.networks.unet import checked, initialized, plain_encoder
from autoseg.records import NetworkSpec


class Node(nn.Module):
    """One node X(i, j): what comes up from X(i + 1, j - 1), joined with X(i, 0) to X(i, j - 1), convolved."""

    def __init__(self, spec: NetworkSpec, row: int, column: int) -> None:
        super().__init__()
        features, below = spec.features_per_stage[row], spec.features_per_stage[row + 1]
        self.upsample = transposed_convolution(spec.dimensions, below, features, spec.strides[row + 1])
        channels = [(column + 1) * features] + [features] * (spec.blocks_per_stage_decoder[row] - 1)
        self.units = nn.Sequential(
            *(ConvolutionUnit(spec.dimensions, count, features, spec.kernel_sizes[row]) for count in channels)
        )

    def forward(self, below: Tensor, before: list[Tensor]) -> Tensor:
        """Features at the resolution of `before`."""
        joined: Tensor = self.units(torch.cat((*before, enlarge(self.upsample, below)), dim=1))
        return joined


class UNetPlusPlus(nn.Module):
    """The encoder of the plain U-Net and nodes X(i, j) of row (resolution) i and column j = 1 … stages - 1 - i.

    Each X(0, j) is a whole U-Net of depth j, and has a head: with `deep_supervision` set `forward` returns the scores
    of all of them, deepest first, all in full resolution; else those of the deepest alone.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.encoder = plain_encoder(spec)
        depth = len(spec.strides) - 1
        # by columns: a column can be computed once the one before it is
        self.columns = nn.ModuleList(
            nn.ModuleList(Node(spec, row, column) for row in range(depth - column + 1))
            for column in range(1, depth + 1)
        )
        self.heads = nn.ModuleList(
            convolution(spec.dimensions, spec.features_per_stage[0], spec.heads, (1,) * spec.dimensions)
            for _ in range(depth)
        )
        self.deep_supervision = spec.deep_supervision

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Scores (B, K, *space) of an image (B, C, *space); sizes must be multiples of the product of the strides."""
        first_row = self._first_row(image)
        if not self.deep_supervision:
            return self.scores(first_row[-1])
        return [scores_of(head, x) for head, x in zip(self._heads[::-1], first_row[::-1], strict=True)]

    @property
    def feature_channels(self) -> int:
        """Channels F of what `features` gives."""
        return self._heads[-1].in_channels

    def features(self, image: Tensor) -> Tensor:
        """Features (B, F, *space) of the deepest node, of which the scores are a linear map."""
        return self._first_row(image)[-1]

    def scores(self, features: Tensor) -> Tensor:
        """Scores (B, K, *space) of `features`, of weighted means of them too."""
        return scores_of(self._heads[-1], features)

    @property
    def _heads(self) -> list[nn.Conv2d | nn.Conv3d]:
        return cast("list[nn.Conv2d | nn.Conv3d]", list(self.heads))

    def _first_row(self, image: Tensor) -> list[Tensor]:
        """Features of X(0, 1), X(0, 2), … in full resolution."""
        rows = [[x] for x in self.encoder(image)]
        for column in self.columns:
            made = [node(rows[row + 1][-1], rows[row]) for row, node in enumerate(cast("nn.ModuleList", column))]
            for row, x in enumerate(made):
                rows[row].append(x)
        return rows[0][1:]


def unet_plus_plus(spec: NetworkSpec) -> nn.Module:
    """U-Net++ in 2D and 3D, with the strides and kernels of the plan on every axis."""
    checked(spec)
    return initialized(UNetPlusPlus(spec))
