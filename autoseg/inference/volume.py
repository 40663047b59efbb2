"""A volume taken from its file's grid to a mask on the same grid.

Two steps that may run apart, on different cases at a time: `prepare_volume` (image to network space) and
`mask_of_prepared` (the network, and its scores to the mask). `predict_volume` does both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autoseg.arrays.components import post_processed
from autoseg.arrays.labels import decode
from autoseg.inference.cascade import seen_images
from autoseg.inference.chosen_labels import only_chosen
from autoseg.inference.intake import is_blank, mended
from autoseg.inference.locating import described, find_regions
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import LoadedModel
from autoseg.inference.preparing import Preparing, prepared_for
from autoseg.inference.rows import by_rows, placed_rows_first, rows_first
from autoseg.inference.scores import score_slabs_of
from autoseg.inference.sliding_window import PLENTY, Room
from autoseg.inference.witness import Witness
from autoseg.preprocessing.case import (
    averaged_to_image_space,
    probabilities_to_image_space,
    same_crop,
    to_image_space,
)
from autoseg.preprocessing.export import score_terms
from autoseg.records import (
    BEST_PREDICTION,
    Labels,
    Placement,
    PredictSettings,
    PreparedCase,
    Volume,
)

#: Averaged probabilities are taken no closer to 0 and 1, where their log-odds have no end.
SMALLEST_PROBABILITY = 1e-6


def prepare_volume(
    model: LoadedModel, case_id: str, volume: Volume, missing: Sequence[int] = ()
) -> tuple[PreparedCase, ...]:
    """The case in network space, once per group of `model.preparing` (one array where groups share a preparation).

    Channels that are `missing` from the volume, which a model trained with channel dropout can do without, are zeros
    there, as they were in its training.

    Raises PredictionError when the image does not have the model's channels.
    """
    return prepared_for(preparing_of(model), case_id, volume, missing)


def preparing_of(model: LoadedModel) -> Preparing:
    """How a model has its volumes prepared; unlike the model this can travel to another process."""
    header = model.header
    preparations = tuple(group.configuration.preparation for group in model.preparing)
    return Preparing(header.channels, header.channel_dropout > 0, preparations, header.fingerprint)


def mask_of_prepared(
    model: LoadedModel,
    prepared: Sequence[PreparedCase],
    *,
    settings: PredictSettings = BEST_PREDICTION,
    room: Room = PLENTY,
    on_tile: Callable[[int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    witness: Witness | None = None,
) -> NDArray[np.integer]:
    """The mask (k, j, i) of what `prepare_volume` gave, on the file's grid with the file's values, post-processed.

    The model is the one that prepared the volume, `narrowed` to the settings. `on_note` is told what is worth knowing
    of this case; a witness looks on. Raises PredictionError when scores are not finite.
    """
    found = found_labels(
        model, prepared, settings=settings, room=room, on_tile=on_tile, on_note=on_note, witness=witness
    )
    steps = [step.label for step in model.header.post_processing] if settings.post_process else []
    return only_chosen(post_processed(found, steps, model.labels), model.labels, settings.labels)


def found_labels(
    model: LoadedModel,
    prepared: Sequence[PreparedCase],
    *,
    settings: PredictSettings = BEST_PREDICTION,
    room: Room = PLENTY,
    on_tile: Callable[[int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    witness: Witness | None = None,
) -> NDArray[np.integer]:
    """The mask with all labels as the networks see it, before post-processing.

    Scores become labels while the sliding window moves: those of a whole volume never exist. Several groups are
    followed side by side, and their probabilities averaged. Raises PredictionError when scores are not finite.
    """
    images = seen_images(model, prepared, settings=settings, room=room, on_tile=on_tile)
    regions = find_regions(model, prepared, images, settings=settings, room=room, on_tile=on_tile)
    if settings.roi and on_note is not None:
        on_note(described(regions))
    placements = [case.placement for case in prepared[: len(model.groups)]]
    rows = by_rows(model, [image.shape[1:] for image in images])
    if rows:
        images = [rows_first(image) for image in images]
        placements = [placed_rows_first(placement) for placement in placements]
    groups = [
        score_slabs_of(
            model,
            group,
            image,
            settings=settings,
            region=region,
            disagreement=witness is not None and witness.disagreement,
            rows=rows,
            room=room,
            on_tile=on_tile,
        )
        for group, image, region in zip(model.groups, images, regions, strict=True)
    ]
    if witness is not None:
        groups = witness.watched(groups, placements, rows=rows)
    if len(groups) == 1:
        return to_image_space(groups[0], placements[0], model.labels)
    if all(same_crop(placement, placements[0]) for placement in placements):
        return averaged_to_image_space(
            groups,
            placements,
            model.labels,
            partial(training_labels_of, labels=model.labels),
            None if witness is None else witness.take_mean,
        )
    return _averaged_whole(groups, placements, model.labels, witness)


def _averaged_whole(
    groups: Sequence[Iterator[Tensor]], placements: Sequence[Placement], labels: Labels, witness: Witness | None
) -> NDArray[np.integer]:
    """Models of different plans: their crops have nothing but the file's own grid in common."""
    total = probabilities_to_image_space(groups[0], placements[0], labels)
    if witness is not None:
        witness.take_part(total, len(groups))
    for slabs, placement in zip(groups[1:], placements[1:], strict=True):
        part = probabilities_to_image_space(slabs, placement, labels)
        if witness is not None:
            witness.take_part(part, len(groups))
        total += part
    total /= len(groups)
    if witness is not None:
        witness.take_whole(total)
    return decode(training_labels_of(total, labels), labels)


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
    settings: PredictSettings = BEST_PREDICTION,
    room: Room = PLENTY,
    on_tile: Callable[[int], None] | None = None,
    witness: Witness | None = None,
) -> NDArray[np.integer]:
    """The mask of a volume: (k, j, i) on the grid of its file, with the label values of the training files.

    Voxels without a number are replaced, and where there is nothing to see nothing is found (`inference.intake`).
    Raises PredictionError when the volume does not fit the model or scores are not finite.
    """
    model = narrowed(model, settings)
    volume = mended(volume)
    if is_blank(volume):
        return np.zeros(volume.geometry.shape, dtype=np.uint8)
    prepared = prepare_volume(model, "image", volume)
    return mask_of_prepared(model, prepared, settings=settings, room=room, on_tile=on_tile, witness=witness)
