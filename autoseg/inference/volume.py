"""A volume taken from its file's grid to a mask on the same grid.

Three steps that may run apart, on different cases at a time: `prepare_volume` (image to network space),
`score_prepared` (the network), `export_labels` (scores to the mask). `predict_volume` does all three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.arrays.labels import decode
from autoseg.arrays.orientation import STORED, closest_canonical, oriented_spacing
from autoseg.arrays.resample import resampled_shape
from autoseg.devices import autocast
from autoseg.errors import ModelError, PredictionError
from autoseg.inference.predictor import LoadedModel, MemberGroup
from autoseg.inference.sliding_window import count_passes, predict_scores
from autoseg.preprocessing.case import probabilities_to_image_space, to_image_space, to_network_space
from autoseg.records import Configuration, Geometry, Labels, Placement, PreparedCase, Shape, Volume

#: Voxels of the patches (tiles or mirrored copies) that go through the network together. On a CPU pairs of 40x56x40 are
#: 1.1 (features 32 to 256) to 2 (16 to 128) times as fast per patch as single ones; four together gain nothing more and
#: hold twice the memory. Small patches need more company, on a GPU above all.
CPU_BATCH_VOXELS = 1 << 18
GPU_BATCH_VOXELS = 1 << 21
LARGEST_BATCH = 16

#: Patches above this go one by one on a CPU, for their memory.
CPU_LARGE_PATCH_VOXELS = 1 << 20


def prepare_volume(model: LoadedModel, case_id: str, volume: Volume) -> tuple[PreparedCase, ...]:
    """The case in network space, once per group of the model (one array where groups share a preparation).

    Raises PredictionError when the image does not have the model's channels.
    """
    channels = model.header.channels
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
            prepared.append(to_network_space(case_id, volume, None, preparation))
    return tuple(prepared)


def predict_prepared(
    model: LoadedModel,
    image: NDArray[np.float32],
    group: MemberGroup | None = None,
    *,
    step: float = 0.5,
    mirror: bool = True,
    on_tile: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Scores (K, Z, Y, X) of an image (C, Z, Y, X) in network space, by one group of networks.

    Without `group` the model must have one only.
    Raises PredictionError when scores are not finite, ModelError when a model has several groups and none is named.
    """
    if group is None and len(model.groups) > 1:
        raise ModelError("has several configurations, whose scores do not lie on one grid")
    chosen = model.groups[0] if group is None else group
    return predict_scores(
        _forward(model, chosen),
        image,
        chosen.configuration.patch_size,
        heads=model.labels.heads,
        step=step,
        mirror_axes=chosen.mirror_axes if mirror else (),
        batch_size=_batch_size(model.device, chosen.configuration.patch_size),
        device=model.device,
        on_tile=on_tile,
    )


def score_prepared(
    model: LoadedModel,
    prepared: Sequence[PreparedCase],
    *,
    step: float = 0.5,
    mirror: bool = True,
    on_tile: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float32], ...]:
    """Scores (K, Z, Y, X) of what `prepare_volume` gave, per group of the model."""
    return tuple(
        predict_prepared(model, case.image, group, step=step, mirror=mirror, on_tile=on_tile)
        for group, case in zip(model.groups, prepared, strict=True)
    )


def export_labels(
    scores: Sequence[NDArray[np.float32]], placements: Sequence[Placement], labels: Labels
) -> NDArray[np.integer]:
    """The mask (k, j, i) on the file's grid with the file's values, from the scores of each group."""
    if len(scores) == 1:
        return to_image_space(scores[0], placements[0], labels)
    total = probabilities_to_image_space(scores[0], placements[0], labels)
    for values, placement in zip(scores[1:], placements[1:], strict=True):
        total += probabilities_to_image_space(values, placement, labels)
    total /= len(scores)
    return labels_of_probabilities(total, labels)


def labels_of_probabilities(probabilities: NDArray[np.float32], labels: Labels) -> NDArray[np.integer]:
    """The file's values where each label is most probable; with regions, of every region above one half, in order."""
    if labels.has_regions and labels.regions_class_order is not None:
        written = np.zeros(probabilities.shape[1:], dtype=np.int16)
        for inside, value in zip(probabilities > 0.5, labels.regions_class_order, strict=True):
            written[inside] = labels.values.index(value)
        return decode(written, labels)
    return decode(probabilities.argmax(axis=0), labels)


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
    scores = score_prepared(model, prepared, step=step, mirror=mirror, on_tile=on_tile)
    return export_labels(scores, [case.placement for case in prepared], model.labels)


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


def _forward(model: LoadedModel, group: MemberGroup) -> Callable[[Tensor], Tensor]:
    """The mean scores of a group's networks, for a batch of patches."""

    def forward(batch: Tensor) -> Tensor:
        with autocast(model.device, model.precision):
            total: Tensor = group.networks[0](batch)
            if len(group.networks) == 1:
                return total
            total = total.to(torch.float32)
            for network in group.networks[1:]:
                total = total + network(batch)
            return total / len(group.networks)

    return forward


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
