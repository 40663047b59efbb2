"""How much a network holds in memory, in closed form: no network is built to find out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from autoseg.planning.presets import Architecture
from autoseg.planning.topology import Topology


def features_per_stage(base: int, largest: int, stages: int) -> tuple[int, ...]:
    """Feature maps of each stage: doubled with each halving of the resolution, up to `largest`."""
    return tuple(min(largest, base * 2**stage) for stage in range(stages))


# the search for a low resolution comes by the same networks again and again
@lru_cache(maxsize=4096)
def feature_map_elements(architecture: Architecture, topology: Topology, max_features: int, outputs: int) -> int:
    """Elements of all convolution outputs for one sample: encoder, decoder and the full-resolution head.

    It is nnU-Net's measure of memory (`outputs` is the number of entries in its labels table, ignore and background
    included): proportional to what training keeps for the backward pass, and independent of machine and precision.
    """
    features = features_per_stage(architecture.base_features, max_features, topology.stages)
    voxels = _voxels_per_stage(topology)
    blocks = architecture.blocks_per_stage(topology.stages)
    encoder = (
        _residual_encoder(features, voxels, blocks, topology)
        if architecture.network == "resenc"
        else sum(count * width * size for count, width, size in zip(blocks, features, voxels, strict=True))
    )
    # each decoder level: one transposed convolution and its blocks
    per_level = architecture.decoder_blocks + 1
    decoder = sum(per_level * features[stage] * voxels[stage] for stage in range(topology.stages - 1))
    return encoder + decoder + outputs * voxels[0]


def _voxels_per_stage(topology: Topology) -> list[int]:
    # the patch is a multiple of all strides together, so no division leaves a rest
    voxels = [math.prod(topology.patch_size)]
    for stride in topology.strides[1:]:
        voxels.append(voxels[-1] // math.prod(stride))
    return voxels


def _residual_encoder(features: Sequence[int], voxels: Sequence[int], blocks: Sequence[int], topology: Topology) -> int:
    elements = features[0] * voxels[0]  # the stem
    before = features[0]
    for width, size, count, stride in zip(features, voxels, blocks, topology.strides, strict=True):
        elements += 2 * width * size * count
        if width != before or max(stride) > 1:
            elements += width * size  # the skip of the first block has work to do
        before = width
    return elements
