"""The coarse pass: where in a case the labels of interest lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.crop import Box
from autoseg.errors import PredictionError
from autoseg.inference.predictor import LoadedModel
from autoseg.inference.region import COARSE, Region, found_box, moved_box, region_of
from autoseg.inference.scores import score_slabs_of
from autoseg.inference.sliding_window import PLENTY, Room
from autoseg.inference.tile_grid import tile_grid
from autoseg.preprocessing.case import same_crop
from autoseg.preprocessing.export import labels_on_grid
from autoseg.records import PredictSettings, PreparedCase


def find_regions(
    model: LoadedModel,
    prepared: Sequence[PreparedCase],
    images: Sequence[NDArray[np.float32]],
    *,
    settings: PredictSettings,
    room: Room = PLENTY,
    on_tile: Callable[[int], None] | None = None,
) -> tuple[Region | None, ...]:
    """For each group of the model where the fine pass has to look; None where it has to see the whole volume.

    `prepared` is what `prepare_volume` gave for the model, `images` what the groups are given of it. None too without
    `roi`, where the coarse pass finds nothing, and for models of different plans that crop the file differently.
    """
    if model.locator is None:
        return (None,) * len(model.groups)
    located: list[Box | None] = []  # by the locator, once
    regions: list[Region | None] = []
    for group, image, case in zip(model.groups, images, prepared, strict=False):
        shape = image.shape[1:]
        if group.first_stage is not None:  # its labels are the last channel of what the second stage is given
            box = found_box(image[-1].astype(np.int16), model.labels, settings.labels)
        elif same_crop(case.placement, prepared[-1].placement):
            located = located or [_located(model, prepared[-1], settings, room, on_tile)]
            box = located[0] and moved_box(located[0], prepared[-1].image.shape[1:], shape)
        else:
            box = None
        grid = tile_grid(shape, group.configuration.patch_size, settings.step)
        regions.append(None if box is None else region_of(box, grid))
    return tuple(regions)


def _located(
    model: LoadedModel,
    case: PreparedCase,
    settings: PredictSettings,
    room: Room,
    on_tile: Callable[[int], None] | None,
) -> Box | None:
    """The box of what the locator finds, in its own grid."""
    if model.locator is None:
        raise PredictionError("the model has no network that finds the region of interest")
    slabs = score_slabs_of(model, model.locator, case.image, settings=COARSE, room=room, on_tile=on_tile)
    shape, spacing = case.placement.prepared_shape, case.placement.prepared_spacing
    found = labels_on_grid(slabs, shape, shape, spacing, spacing, model.labels, order=0)
    return found_box(found, model.labels, settings.labels)


def described(regions: Sequence[Region | None]) -> str:
    """What the coarse pass spared, in words."""
    known = [region for region in regions if region is not None]
    if not known:
        return "the coarse pass found nothing, so the whole volume was predicted"
    spared = 1 - sum(1.0 if region is None else region.share for region in regions) / len(regions)
    return f"{spared:.0%} of the volume was spared, which lies outside the region of interest"
