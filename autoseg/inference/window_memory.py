"""How much memory a sliding window takes, and what of it lies with the network. Arithmetic only."""

from __future__ import annotations

import math

import torch

from autoseg.devices import PRECISIONS, Precision
from autoseg.inference.sliding_window import Room
from autoseg.inference.tile_grid import TileGrid
from autoseg.networks.counting import passing_elements
from autoseg.planning.families import CLOSED_FORM
from autoseg.records import Configuration

#: Feature maps of the finest stage that a network holds at one time: what the encoder left, what came up from below,
#: both joined, the convolution's result, its normalized form, and the library's copies of a blocked layout (measured).
FINEST_COPIES = 7.0

#: Bytes that other networks than nnU-Net's take per byte of the tensors that live at one time, as an upper bound: with
#: the library's copies of weights and features 1.03 to 1.81 were measured of seven, on 64x64x64 and 512x512 voxels.
LIVING_COPIES = 2.0

#: Float32 copies of a patch's scores: the network's, mirrored back, and what is added.
SCORE_COPIES = 2.5

#: Share of an accelerator's free memory that is planned with: its blocks are never filled without gaps.
DEVICE_SHARE = 0.85


def sums_bytes(grid: TileGrid, channels: int, *, half: bool) -> int:
    """The sums of a sliding window over so many channels; in half precision they have weights of their own."""
    voxels = grid.patch[0] * grid.padded_shape[1] * grid.padded_shape[2]
    return (2 * (channels + 1) if half else 4 * channels) * voxels


def patch_bytes(configuration: Configuration, inputs: int, summed: int, precision: Precision) -> int:
    """One patch on its way through one network, without keeping anything for a gradient.

    `inputs` are the channels that the network reads, `summed` those of what it gives. Of other networks than nnU-Net's
    float32 is taken for granted: not all compute in half precision where they are asked to.
    """
    patch = math.prod(configuration.patch_size)
    if configuration.network in CLOSED_FORM:
        maps = PRECISIONS[precision].itemsize * _unet_maps(configuration)
    else:
        spec = configuration.network_spec(inputs, summed, deep_supervision=False)
        maps = 4 * LIVING_COPIES * passing_elements(spec, configuration.patch_size)
    return round(maps + 4 * patch * (2 * inputs + SCORE_COPIES * summed))


def _unet_maps(configuration: Configuration) -> float:
    """Elements of the features that a U-Net holds at one time."""
    maps, voxels = 0.0, float(math.prod(configuration.patch_size))
    for stage, features in enumerate(configuration.features_per_stage):
        voxels /= math.prod(configuration.strides[stage])
        maps += (FINEST_COPIES if stage == 0 else 1.0) * features * voxels
    return maps


def room_on(device: torch.device, free: int, image: int, sums: int, passes: int) -> Room:
    """What of a window lies on an accelerator, of which `free` bytes are; the rest lies in main memory.

    `image`, `sums` and `passes` (patches on their way through the network) are bytes. The sums are wanted there first:
    every tile is added to them, while of the image each tile reads its own part once.
    """
    left = DEVICE_SHARE * free - passes
    main_memory = torch.device("cpu")
    if sums > left:
        return Room(image=main_memory if image > left else device, sums=main_memory)
    return Room(image=main_memory if image + sums > left else device, sums=device)
