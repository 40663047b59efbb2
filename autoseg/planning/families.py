"""How each network by name takes its sizes from data and budget: strides, features, patches, and what it costs.

nnU-Net's two networks follow its rules, in closed form. Of any other the plan knows what its entry in the catalog
declares, and counts its memory in the network itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from autoseg.planning.decision import times
from autoseg.planning.memory import feature_map_elements, features_per_stage
from autoseg.planning.presets import PLAIN, Architecture
from autoseg.planning.topology import SMALLEST_EDGE, Topology, in_classes, stages_of
from autoseg.records import NetworkSpec

if TYPE_CHECKING:
    from autoseg.networks.entry import NetworkEntry

#: Networks whose memory has a closed form: planning with them does without torch.
CLOSED_FORM = ("unet", "resenc")

#: Elements that training keeps per element of nnU-Net's measure, by which budgets are given: of its plain U-Net a
#: convolution's output and what normalization makes of it (1.98 counted at 64³, 1.96 with the residual encoder).
KEPT_PER_ELEMENT = 2.0

#: Voxels at the lowest resolution: what is normalized over space needs some (of one nothing is left, two become ±1).
FEWEST_AT_BOTTOM = 4


@dataclass(frozen=True)
class Family:
    """One network by name, with the preset's numbers."""

    architecture: Architecture
    entry: NetworkEntry | None = None  # None: nnU-Net's rules

    @property
    def network(self) -> str:
        """Name in networks.catalog.NETWORKS."""
        return self.architecture.network

    def topology(self, spacing: Sequence[float], size: Sequence[float]) -> Topology:
        """Strides, kernels and the padded patch for a patch of `size` voxels (may be x.5) at `spacing` mm."""
        if self.entry is None:
            return stages_of(in_classes(spacing), tuple(size))
        if self.entry.uneven_strides and self.entry.divisor is None:
            made = _at_most(stages_of(in_classes(spacing), tuple(size)), self.entry.most_stages, size)
            return made if self.entry.uneven_kernels else replace(made, kernel_sizes=_threes(made.stages, len(size)))
        made = _even(size, self._halvings(size))
        # padding may bring an axis to a length that is halved once more: then it is, so that a patch that fits stays
        while (halvings := self._halvings(made.patch_size)) != made.stages - 1:
            made = _even(made.patch_size, halvings)
        return made

    def features(self, largest: int, stages: int) -> tuple[int, ...]:
        """Feature maps per stage."""
        base = self.architecture.base_features
        return (
            features_per_stage(base, largest, stages)
            if self.entry is None
            else self.entry.widths(base, largest, stages)
        )

    def elements(self, topology: Topology, largest: int, channels: int, outputs: int) -> int:
        """What one sample holds, in nnU-Net's measure (elements of convolution outputs)."""
        if self.entry is None:
            return feature_map_elements(self.architecture, topology, largest, outputs)
        from autoseg.networks.counting import network_size  # loads torch

        spec = self.spec(topology, largest, channels, outputs)
        return round(network_size(spec, topology.patch_size).kept / KEPT_PER_ELEMENT)

    def spec(self, topology: Topology, largest: int, channels: int, outputs: int) -> NetworkSpec:
        """The network for a patch."""
        dimensions: Literal[2, 3] = 2 if len(topology.patch_size) == 2 else 3
        return NetworkSpec(
            network=self.network,
            dimensions=dimensions,
            channels=channels,
            heads=outputs,
            strides=topology.strides,
            kernel_sizes=topology.kernel_sizes,
            features_per_stage=self.features(largest, topology.stages),
            blocks_per_stage=self.architecture.blocks_per_stage(topology.stages),
            blocks_per_stage_decoder=(self.architecture.decoder_blocks,) * (topology.stages - 1),
            patch_size=topology.patch_size,
        )

    def shorter(self, topology: Topology, spacing: Sequence[float], axis: int) -> Topology | None:
        """The next smaller patch along an axis; None where the network takes none."""
        step = topology.divisor[axis]
        for _ in range(2):
            size = list(topology.patch_size)
            size[axis] -= step
            if size[axis] < SMALLEST_EDGE:
                return None
            smaller = self.topology(spacing, size)
            if smaller.divisor[axis] == step:
                break
            step = smaller.divisor[axis]  # the shorter patch is halved less often: then less has to go
        is_smaller = math.prod(smaller.patch_size) < math.prod(topology.patch_size)
        return smaller if is_smaller and smaller.stages >= 2 else None

    def refusal(self, dimensions: int, median_shape: Sequence[float]) -> str:
        """Why the network is not planned for images of so many voxels; empty where nothing speaks against it."""
        if self.entry is None:
            return ""
        if dimensions not in self.entry.dimensions:
            return f"Network {self.network!r} is not for {dimensions}D."
        divisor = self.entry.divisor or 1
        if min(median_shape) < divisor / 2:
            return (
                f"Network {self.network!r} needs multiples of {divisor} voxels along every axis; of the median image, "
                f"{times(median_shape)}, more than half of such a patch would be padding."
            )
        return ""

    def _halvings(self, size: Sequence[float]) -> int:
        entry = self.entry
        if entry is not None and entry.divisor is not None:
            return entry.divisor.bit_length() - 1
        longest, shortest = math.ceil(max(size)), math.ceil(min(size))
        most = (entry.most_stages or longest) - 1 if entry is not None else longest
        # a thin axis is padded, but never to less than one voxel at the bottom
        return max(1, min(most, int(math.log2(max(longest / SMALLEST_EDGE, 1))), int(math.log2(shortest))))


def family_of(preset: Architecture, asked: str | None) -> Family:
    """The family of the network that a person asked for, else of the preset's.

    Raises PlanError for an unknown network, and for one that needs a package that is not installed.
    """
    name = asked or preset.network
    if name == preset.network and name in CLOSED_FORM:
        return Family(preset)
    from autoseg.networks.catalog import find_network  # loads torch

    entry = find_network(name)
    if name != preset.network:
        # a residual block is no convolution: where the preset counts those, what counts convolutions has nnU-Net's two
        counted = preset if find_network(preset.network).blocks is None else PLAIN
        preset = Architecture(
            name,
            blocks=entry.blocks or counted.blocks,
            decoder_blocks=entry.decoder_blocks or counted.decoder_blocks,
            base_features=preset.base_features,
        )
    return Family(preset, None if name in CLOSED_FORM else entry)


def _even(size: Sequence[float], halvings: int) -> Topology:
    """Every axis halved alike, kernels of 3."""
    axes = len(size)
    cell = 2**halvings
    padded = [max(cell, math.ceil(length / cell) * cell) for length in size]
    while math.prod(padded) < FEWEST_AT_BOTTOM * cell**axes:
        shortest = min(range(axes), key=lambda axis: (padded[axis], -axis))
        padded[shortest] += cell
    strides = ((1,) * axes, *((2,) * axes,) * halvings)
    return Topology(tuple(padded), strides, _threes(halvings + 1, axes), (cell,) * axes)


def _threes(stages: int, axes: int) -> tuple[tuple[int, ...], ...]:
    """Kernels of 3 everywhere."""
    return ((3,) * axes,) * stages


def _at_most(topology: Topology, stages: int | None, size: Sequence[float]) -> Topology:
    """The topology without the stages that are too many."""
    if stages is None or topology.stages <= stages:
        return topology
    strides = topology.strides[:stages]
    divisor = tuple(math.prod(axis) for axis in zip(*strides, strict=True))
    padded = tuple(math.ceil(length / cell) * cell for length, cell in zip(size, divisor, strict=True))
    return Topology(padded, strides, topology.kernel_sizes[:stages], divisor)
