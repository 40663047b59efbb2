"""Scores of a prepared image by one group of networks, slab by slab."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.arrays.crop import crop
from autoseg.devices import Precision, autocast, free_memory
from autoseg.inference.disagreement import mean_log_sum, with_disagreement
from autoseg.inference.predictor import LoadedModel, MemberGroup
from autoseg.inference.region import Region, in_whole
from autoseg.inference.rows import swapped
from autoseg.inference.sliding_window import PLENTY, Room, score_slabs
from autoseg.inference.tile_grid import TileGrid, tile_grid
from autoseg.inference.window_memory import patch_bytes, room_on, sums_bytes
from autoseg.networks.linear_head import LinearHead
from autoseg.networks.second_stage import with_one_hot
from autoseg.records import BEST_PREDICTION, PredictSettings

#: Voxels of the patches (tiles or mirrored copies) that go through the network together. On a CPU pairs of 40x56x40 are
#: 1.1 (features 32 to 256) to 2 (16 to 128) times as fast per patch as single ones; four together gain nothing more and
#: hold twice the memory. Small patches need more company, on a GPU above all.
CPU_BATCH_VOXELS = 1 << 18
GPU_BATCH_VOXELS = 1 << 21
LARGEST_BATCH = 16

#: Patches above this go one by one on a CPU, for their memory.
CPU_LARGE_PATCH_VOXELS = 1 << 20


def score_slabs_of(
    model: LoadedModel,
    group: MemberGroup,
    image: NDArray[np.float32],
    *,
    settings: PredictSettings = BEST_PREDICTION,
    region: Region | None = None,
    disagreement: bool = False,
    rows: bool = False,
    room: Room = PLENTY,
    on_tile: Callable[[int], None] | None = None,
) -> Iterator[Tensor]:
    """Finished scores (K, planes, Y, X) of an image (C, Z, Y, X) in network space, in order along Z.

    With `rows` it is a picture (C, Y, 1, X), see `inference.rows`.

    With `disagreement` one more channel tells how much networks, mirrored copies and overlapping tiles differ at a
    voxel (`inference.disagreement`); the scores are the same, bit for bit.

    With a region the networks see no more than that, and all around is background. The image of a second stage has the
    first stage's labels as its last channel (`inference.cascade`).
    Where the networks end in fewer features than scores, features are summed over tiles and mirrored copies, and only
    finished planes are turned into scores: the last layer is linear, so that the order makes no difference but for
    rounding. Raises PredictionError when scores are not finite.
    """
    configuration = group.configuration
    summed = _summed(group, model.labels.heads)
    forward = partial(_forward, model, group, summed)
    exact = 0
    if disagreement:
        plain, independent = summed, model.labels.has_regions
        forward = partial(_forward_with_log_sum, model, group, summed)
        exact = model.labels.heads + 1 if group.half_sums else 1
        summed = _Summed(
            summed.what, summed.channels + exact, lambda slab: with_disagreement(slab, exact, plain.finish, independent)
        )
    mirror_axes = group.mirror_axes if settings.mirror else ()
    grid = region.grid if region is not None else None
    if grid is None:
        grid = tile_grid(image.shape[1:], configuration.patch_size, settings.step, flat_axis=1 if rows else 0)
    if rows:
        mirror_axes = tuple(swapped((0, 1, 2))[axis] for axis in mirror_axes)
    if model.device.type != "cpu" and room.allocate is None:
        room = _room_on_device(model, group, grid, len(image), summed.channels, room)
    slabs = score_slabs(
        forward(model.precision),
        image if region is None else crop(image, region.cut),
        grid,
        heads=summed.channels,
        finished_heads=model.labels.heads,
        mirror_axes=mirror_axes,
        batch_size=batch_size(model.device, configuration.patch_size),
        device=model.device,
        room=room,
        precise=None if model.precision == "float32" else forward("float32"),
        half_sums=group.half_sums,
        exact=exact,
        on_tile=on_tile,
    )
    finished = (summed.finish(slab) for _, slab in slabs)
    yield from finished if region is None else in_whole(finished, region, model.labels)


def _room_on_device(
    model: LoadedModel, group: MemberGroup, grid: TileGrid, channels: int, summed: int, room: Room
) -> Room:
    """What of the window lies on the accelerator, as far as there is memory."""
    inputs = channels + (len(model.labels.values) if group.first_stage is not None else 0)
    together = min(room.batch_size or LARGEST_BATCH, batch_size(model.device, grid.patch))
    placed = room_on(
        model.device,
        free_memory(model.device),
        image=4 * channels * math.prod(grid.padded_shape),
        sums=sums_bytes(grid, summed, half=group.half_sums),
        passes=together * patch_bytes(group.configuration, inputs, summed, model.precision),
    )
    return replace(placed, batch_size=room.batch_size)


@dataclass(frozen=True, eq=False)
class _Summed:
    """What is summed over the tiles of a volume, and how finished sums become scores."""

    what: Literal["scores", "features", "scores of each"]
    channels: int
    finish: Callable[[Tensor], Tensor]  # (channels, planes, Y, X) to (K, planes, Y, X)


def _summed(group: MemberGroup, heads: int) -> _Summed:
    if group.half_sums:  # nnU-Net adds up each fold for itself
        count = len(group.networks)
        return _Summed("scores of each", count * heads, lambda slab: _mean_of_each(slab, count))
    features = _features(group)
    if features is not None and features < heads:  # fewer numbers to add, and to hold
        return _Summed("features", features, lambda slab: _scores_of_features(group, slab))
    return _Summed("scores", heads, lambda slab: slab)


def summed_channels(group: MemberGroup, heads: int) -> int:
    """Numbers per voxel that are summed over the tiles of a volume."""
    return _summed(group, heads).channels


def _mean_of_each(slab: Tensor, count: int) -> Tensor:
    """Mean scores (K, planes, Y, X) of `count` networks, from the half-precision scores of each, one after another."""
    parts = slab.to(torch.float16).chunk(count)
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return (total / count if count > 1 else total).to(torch.float32)


def _forward(
    model: LoadedModel, group: MemberGroup, summed: _Summed, precision: Precision
) -> Callable[[Tensor], Tensor]:
    """For a batch of patches what is summed: the mean scores of a group's networks, or what each of them gives."""
    first_labels = 0 if group.first_stage is None else len(model.labels.values) - 1

    def seen(batch: Tensor) -> Tensor:
        return with_one_hot(batch, first_labels) if first_labels else batch

    def features(batch: Tensor) -> Tensor:
        batch = seen(batch)
        with autocast(model.device, precision):
            return torch.cat([cast("LinearHead", network).features(batch) for network in group.networks], dim=1)

    def scores_of_each(batch: Tensor) -> Tensor:
        batch = seen(batch)
        with autocast(model.device, precision):
            return torch.cat([network(batch) for network in group.networks], dim=1)

    def scores(batch: Tensor) -> Tensor:
        batch = seen(batch)
        with autocast(model.device, precision):
            return _mean(network(batch) for network in group.networks)

    return {"scores": scores, "features": features, "scores of each": scores_of_each}[summed.what]


def _mean(scores: Iterable[Tensor]) -> Tensor:
    """The mean of several networks' scores in float32, added one after the other; those of one network as they are."""
    total, count = None, 0
    for part in scores:
        total = part if total is None else total.to(torch.float32) + part
        count += 1
    if total is None:
        raise ValueError("a group without networks")
    return total if count == 1 else total / count


def _forward_with_log_sum(
    model: LoadedModel, group: MemberGroup, summed: _Summed, precision: Precision
) -> Callable[[Tensor], Tensor]:
    """What `_forward` gives, and after it what the disagreement needs: see `inference.disagreement`."""
    first_labels = 0 if group.first_stage is None else len(model.labels.values) - 1

    def both(batch: Tensor) -> Tensor:
        if first_labels:
            batch = with_one_hot(batch, first_labels)
        with autocast(model.device, precision):
            if summed.what == "features":
                parts = [cast("LinearHead", network).features(batch) for network in group.networks]
                scores = [
                    cast("LinearHead", network).scores(part)
                    for network, part in zip(group.networks, parts, strict=True)
                ]
            else:
                parts = scores = [network(batch) for network in group.networks]
        plain = _mean(parts) if summed.what == "scores" else torch.cat(parts, dim=1)
        extra = [mean_log_sum(scores, model.labels.has_regions)]
        if group.half_sums:  # what nnU-Net's sums have lost would look like disagreement
            extra.insert(0, _mean(scores).to(torch.float32))
        return torch.cat([plain.to(torch.float32), *extra], dim=1)

    return both


def _features(group: MemberGroup) -> int | None:
    """Channels of the features of all networks; None where one of them has no linear last layer to be put off."""
    linear = [network for network in group.networks if isinstance(network, LinearHead)]
    return sum(network.feature_channels for network in linear) if len(linear) == len(group.networks) else None


def _scores_of_features(group: MemberGroup, slab: Tensor) -> Tensor:
    """Mean scores (K, planes, Y, X) of the group's networks, from their features (F, planes, Y, X)."""
    slab = slab.to(next(group.networks[0].parameters()).device)  # the sums may lie elsewhere
    flat = slab.flatten(1)[None, :, None, :]  # the last layer looks at one voxel: any shape will do
    if group.configuration.dimensions == 3:
        flat = flat[:, :, None]
    total, start = None, 0
    with torch.inference_mode():
        for network in group.networks:
            linear = cast("LinearHead", network)
            part = linear.scores(flat[:, start : start + linear.feature_channels])
            start += linear.feature_channels
            total = part if total is None else total + part
        if total is None:
            raise ValueError("a group without networks")
        mean = total / len(group.networks) if len(group.networks) > 1 else total
        return mean.view(-1, *slab.shape[1:])


def batch_size(device: torch.device, patch_size: Sequence[int]) -> int:
    """Patches of this size that go through the network together where there is memory enough."""
    voxels = math.prod(patch_size)
    if device.type != "cpu":
        return max(1, min(LARGEST_BATCH, GPU_BATCH_VOXELS // voxels))
    if voxels > CPU_LARGE_PATCH_VOXELS:
        return 1
    return max(2, min(LARGEST_BATCH, CPU_BATCH_VOXELS // voxels))
