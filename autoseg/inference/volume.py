"""A volume taken from its file's grid to a mask on the same grid.

Two steps that may run apart, on different cases at a time: `prepare_volume` (image to network space) and
`mask_of_prepared` (the network, and its scores to the mask). `predict_volume` does both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.arrays.labels import decode
from autoseg.arrays.orientation import STORED, closest_canonical, oriented_spacing
from autoseg.arrays.resample import resampled_shape
from autoseg.devices import Precision, autocast
from autoseg.errors import PredictionError
from autoseg.inference.predictor import LoadedModel, MemberGroup
from autoseg.inference.sliding_window import count_passes, score_slabs, tile_grid
from autoseg.networks.unet import UNet
from autoseg.preprocessing.case import (
    averaged_to_image_space,
    probabilities_to_image_space,
    same_crop,
    to_image_space,
    to_network_space,
)
from autoseg.preprocessing.export import score_terms
from autoseg.records import Configuration, Geometry, Labels, PreparedCase, Shape, Volume

#: Voxels of the patches (tiles or mirrored copies) that go through the network together. On a CPU pairs of 40x56x40 are
#: 1.1 (features 32 to 256) to 2 (16 to 128) times as fast per patch as single ones; four together gain nothing more and
#: hold twice the memory. Small patches need more company, on a GPU above all.
CPU_BATCH_VOXELS = 1 << 18
GPU_BATCH_VOXELS = 1 << 21
LARGEST_BATCH = 16

#: Averaged probabilities are taken no closer to 0 and 1, where their log-odds have no end.
SMALLEST_PROBABILITY = 1e-6

#: Patches above this go one by one on a CPU, for their memory.
CPU_LARGE_PATCH_VOXELS = 1 << 20


def prepare_volume(
    model: LoadedModel, case_id: str, volume: Volume, missing: Sequence[int] = ()
) -> tuple[PreparedCase, ...]:
    """The case in network space, once per group of the model (one array where groups share a preparation).

    Channels that are `missing` from the volume, which a model trained with channel dropout can do without, are zeros
    there, as they were in its training.

    Raises PredictionError when the image does not have the model's channels.
    """
    channels = model.header.channels
    gaps = list(missing) if model.header.channel_dropout > 0 else []
    if gaps:
        volume = _with_gaps(volume, gaps)
    if volume.image.shape[0] != len(channels):
        raise PredictionError(
            f"the image has {_plural(volume.image.shape[0], 'channel')}, the model needs {len(channels)}: "
            f"{', '.join(channels)}",
            where=case_id,
            remedy="Give one file per channel, in this order.",
        )
    prepared: list[PreparedCase] = []
    for index, group in enumerate(model.groups):
        preparation = group.configuration.preparation
        earlier = [other.configuration.preparation for other in model.groups[:index]]
        if preparation in earlier:
            prepared.append(prepared[earlier.index(preparation)])
        else:
            case = to_network_space(case_id, volume, None, preparation)
            case.image[gaps] = 0
            prepared.append(case)
    return tuple(prepared)


def _with_gaps(volume: Volume, missing: Sequence[int]) -> Volume:
    """The volume with channels of zeros in the places of the missing ones; they take no part in cropping."""
    count = volume.image.shape[0] + len(missing)
    image = np.zeros((count, *volume.image.shape[1:]), dtype=np.float32)
    image[[channel for channel in range(count) if channel not in missing]] = volume.image
    return Volume(image, volume.geometry, volume.notes)


def score_slabs_of(
    model: LoadedModel,
    group: MemberGroup,
    image: NDArray[np.float32],
    *,
    step: float = 0.5,
    mirror: bool = True,
    on_tile: Callable[[int], None] | None = None,
) -> Iterator[Tensor]:
    """Finished scores (K, planes, Y, X) of an image (C, Z, Y, X) in network space, in order along Z.

    Where the networks end in fewer features than scores, features are summed over tiles and mirrored copies, and only
    finished planes are turned into scores: the last layer is linear, so that the order makes no difference but for
    rounding. Raises PredictionError when scores are not finite.
    """
    configuration = group.configuration
    by_features = _summed_as_features(group, model.labels.heads)
    slabs = score_slabs(
        _forward(model, group, by_features, model.precision),
        image,
        tile_grid(image.shape[1:], configuration.patch_size, step),
        heads=_features(group) if by_features else model.labels.heads,
        mirror_axes=group.mirror_axes if mirror else (),
        batch_size=_batch_size(model.device, configuration.patch_size),
        device=model.device,
        precise=None if model.precision == "float32" else _forward(model, group, by_features, "float32"),
        on_tile=on_tile,
    )
    for _, slab in slabs:
        yield _scores_of_features(group, slab) if by_features else slab


def score_prepared(
    model: LoadedModel,
    prepared: Sequence[PreparedCase],
    *,
    step: float = 0.5,
    mirror: bool = True,
    on_tile: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float32], ...]:
    """Whole scores (K, Z, Y, X) of what `prepare_volume` gave, per group of the model."""
    return tuple(
        torch.cat(list(score_slabs_of(model, group, case.image, step=step, mirror=mirror, on_tile=on_tile)), dim=1)
        .cpu()
        .numpy()
        for group, case in zip(model.groups, prepared, strict=True)
    )


def mask_of_prepared(
    model: LoadedModel,
    prepared: Sequence[PreparedCase],
    *,
    step: float = 0.5,
    mirror: bool = True,
    on_tile: Callable[[int], None] | None = None,
) -> NDArray[np.integer]:
    """The mask (k, j, i) of what `prepare_volume` gave, on the file's grid with the file's values.

    Scores become labels while the sliding window moves: those of a whole volume never exist. Several groups are
    followed side by side, and their probabilities averaged. Raises PredictionError when scores are not finite.
    """
    groups = [
        score_slabs_of(model, group, case.image, step=step, mirror=mirror, on_tile=on_tile)
        for group, case in zip(model.groups, prepared, strict=True)
    ]
    placements = [case.placement for case in prepared]
    if len(groups) == 1:
        return to_image_space(groups[0], placements[0], model.labels)
    if all(same_crop(placement, placements[0]) for placement in placements):
        return averaged_to_image_space(
            groups, placements, model.labels, lambda probabilities: training_labels_of(probabilities, model.labels)
        )
    # models of different plans: their crops have nothing but the file's own grid in common
    total = probabilities_to_image_space(groups[0], placements[0], model.labels)
    for slabs, placement in zip(groups[1:], placements[1:], strict=True):
        total += probabilities_to_image_space(slabs, placement, model.labels)
    total /= len(groups)
    return decode(training_labels_of(total, model.labels), model.labels)


def training_labels_of(probabilities: NDArray[np.float32], labels: Labels) -> NDArray[np.integer]:
    """Training labels of probabilities (K, …): the most probable; with regions, of every one above a half, in order.

    Regions without an order: the most likely value, by the log-odds of the probabilities.
    """
    if not labels.has_regions:
        winner: NDArray[np.integer] = probabilities.argmax(axis=0).astype(np.min_scalar_type(labels.heads))
        return winner
    if labels.regions_class_order is None:
        return _most_likely(probabilities, labels)
    written = np.zeros(probabilities.shape[1:], dtype=np.int16)
    for inside, value in zip(probabilities > 0.5, labels.regions_class_order, strict=True):
        written[inside] = labels.values.index(value)
    return written


def _most_likely(probabilities: NDArray[np.float32], labels: Labels) -> NDArray[np.uint16]:
    """Training labels of region probabilities (R, …): where the sum of the log-odds of a value's regions is largest."""
    certain = np.clip(probabilities, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    odds = np.log(certain) - np.log1p(-certain)
    winner = np.zeros(probabilities.shape[1:], dtype=np.uint16)
    best = np.full(probabilities.shape[1:], -np.inf, dtype=np.float32)
    for value, heads in enumerate(score_terms(labels)):
        score = odds[list(heads)].sum(axis=0)
        higher = score > best
        winner[higher] = value
        np.maximum(best, score, out=best)
    return winner


def predict_volume(
    model: LoadedModel,
    volume: Volume,
    *,
    step: float = 0.5,
    mirror: bool = True,
    on_tile: Callable[[int], None] | None = None,
) -> NDArray[np.integer]:
    """The mask of a volume: (k, j, i) on the grid of its file, with the label values of the training files.

    `step` is the distance of neighbouring tiles as a share of the patch; `mirror` averages over mirrored copies along
    the axes that the model was trained with. Raises PredictionError when the volume does not fit the model or scores
    are not finite.
    """
    prepared = prepare_volume(model, "image", volume)
    return mask_of_prepared(model, prepared, step=step, mirror=mirror, on_tile=on_tile)


def expected_passes(model: LoadedModel, geometry: Geometry, *, step: float = 0.5, mirror: bool = True) -> int:
    """Patches that go through a network for one case, all networks counted, known from its header alone.

    An upper bound: the crop to what is not zero is known only once the image is read.
    """
    total = 0
    for group in model.groups:
        axes = group.mirror_axes if mirror else ()
        shape = _uncropped_shape(geometry, group.configuration)
        total += count_passes(shape, group.configuration.patch_size, step, axes) * len(group.networks)
    return total


def _forward(
    model: LoadedModel, group: MemberGroup, by_features: bool, precision: Precision
) -> Callable[[Tensor], Tensor]:
    """For a batch of patches the mean scores of a group's networks, or the features of them all, one after another."""

    def features(batch: Tensor) -> Tensor:
        with autocast(model.device, precision):
            return torch.cat([cast("UNet", network).features(batch) for network in group.networks], dim=1)

    def scores(batch: Tensor) -> Tensor:
        with autocast(model.device, precision):
            total: Tensor = group.networks[0](batch)
            if len(group.networks) == 1:
                return total
            total = total.to(torch.float32)
            for network in group.networks[1:]:
                total = total + network(batch)
            return total / len(group.networks)

    return features if by_features else scores


def _summed_as_features(group: MemberGroup, heads: int) -> bool:
    """Whether fewer numbers are summed when the last, linear layer comes after the sum."""
    return all(isinstance(network, UNet) for network in group.networks) and _features(group) < heads


def _features(group: MemberGroup) -> int:
    return sum(cast("UNet", network).feature_channels for network in group.networks)


def _scores_of_features(group: MemberGroup, slab: Tensor) -> Tensor:
    """Mean scores (K, planes, Y, X) of the group's networks, from their features (F, planes, Y, X)."""
    flat = slab.flatten(1)[None, :, None, :]  # the last layer looks at one voxel: any shape will do
    if group.configuration.dimensions == 3:
        flat = flat[:, :, None]
    total, start = None, 0
    with torch.inference_mode():
        for network in group.networks:
            unet = cast("UNet", network)
            part = unet.scores(flat[:, start : start + unet.feature_channels])
            start += unet.feature_channels
            total = part if total is None else total + part
        if total is None:
            raise ValueError("a group without networks")
        return (total / len(group.networks)).view(-1, *slab.shape[1:])


def _batch_size(device: torch.device, patch_size: Sequence[int]) -> int:
    voxels = math.prod(patch_size)
    if device.type != "cpu":
        return max(1, min(LARGEST_BATCH, GPU_BATCH_VOXELS // voxels))
    if voxels > CPU_LARGE_PATCH_VOXELS:
        return 1
    return max(2, min(LARGEST_BATCH, CPU_BATCH_VOXELS // voxels))


def _uncropped_shape(geometry: Geometry, configuration: Configuration) -> Shape:
    preparation = configuration.preparation
    orientation = closest_canonical(geometry) if preparation.orientation == "ras" else STORED
    oriented = oriented_spacing(geometry, orientation)
    order = preparation.axis_order
    shape = [geometry.shape[orientation.axes[axis]] for axis in order]
    spacing = [oriented[axis] for axis in order]
    wanted = [own if new is None else new for own, new in zip(spacing, preparation.spacing, strict=True)]
    return resampled_shape(shape, spacing, wanted)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
