"""The two stages of a cascade in one pass: the labels of the first become input of the second, without a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import PredictionError
from autoseg.inference.predictor import LoadedModel, MemberGroup
from autoseg.inference.scores import score_slabs_of
from autoseg.inference.sliding_window import PLENTY, Room
from autoseg.preprocessing.case import same_crop
from autoseg.preprocessing.export import labels_on_grid
from autoseg.records import BEST_PREDICTION, Placement, PredictSettings, PreparedCase


def seen_images(
    model: LoadedModel,
    prepared: Sequence[PreparedCase],
    *,
    settings: PredictSettings = BEST_PREDICTION,
    room: Room = PLENTY,
    on_tile: Callable[[int], None] | None = None,
) -> list[NDArray[np.float32]]:
    """What each group of the model is given of what `prepare_volume` gave: images (C, Z, Y, X).

    For the second stage of a cascade the first is run, and the labels that it finds are one further channel.
    """
    images = []
    firsts = iter(prepared[len(model.groups) :])
    for group, case in zip(model.groups, prepared, strict=False):
        if group.first_stage is None:
            images.append(case.image)
            continue
        first = next(firsts)
        labels = first_stage_labels(
            model, group.first_stage, first, case.placement, settings=settings, room=room, on_tile=on_tile
        )
        images.append(np.concatenate([case.image, labels[None].astype(np.float32)]))
    return images


def first_stage_labels(
    model: LoadedModel,
    group: MemberGroup,
    prepared: PreparedCase,
    target: Placement,
    *,
    settings: PredictSettings = BEST_PREDICTION,
    room: Room = PLENTY,
    on_tile: Callable[[int], None] | None = None,
) -> NDArray[np.integer]:
    """Training labels that the first stage of a cascade finds, on the grid (Z, Y, X) of the second.

    `prepared` is the case as the first stage sees it, `target` where the second has it. Scores are interpolated
    linearly, and never come together as a whole volume. Raises PredictionError where the stages crop the file
    differently, or scores are not finite.
    """
    placement = prepared.placement
    if not same_crop(placement, target):
        raise PredictionError(
            "the two stages of the cascade turn or crop the image differently",
            where=prepared.case,
            remedy="Both need the same orientation and order of axes in the plan.",
        )
    slabs = score_slabs_of(model, group, prepared.image, settings=settings, room=room, on_tile=on_tile)
    spacing = placement.prepared_spacing
    # both spacings are the first stage's own: whether an axis lies apart is its own matter (nnU-Net's rule)
    return labels_on_grid(
        slabs, placement.prepared_shape, target.prepared_shape, spacing, spacing, model.labels, order=1
    )
