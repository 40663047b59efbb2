"""A case from image space to network space and its scores back: forward and inverse side by side.

    file (k, j, i) -> oriented -> transposed -> cropped to what is not zero -> normalized -> resampled = prepared

The method is nnU-Net's (Isensee et al. 2021), on arrays in one anatomical orientation. `Placement` records the way,
so that the inverse needs neither the image nor the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.crop import Box, any_nonzero, bounding_box, crop, cropped_in_place, nonzero_mask, uncrop
from autoseg.arrays.labels import decode, encode
from autoseg.arrays.normalize import NORMALIZATIONS
from autoseg.arrays.orientation import STORED, Orientation, closest_canonical, orient, oriented_spacing, unorient
from autoseg.arrays.resample import resample_image, resampled_shape
from autoseg.arrays.resample_labels import resample_labels
from autoseg.errors import DatasetError, PlanError
from autoseg.preprocessing.export import (
    in_slabs,
    labels_on_grid,
    probabilities_in_planes,
    score_taps,
    whole_probabilities,
)
from autoseg.preprocessing.locations import class_locations
from autoseg.records import OUTSIDE, LabelMap, Labels, Placement, Preparation, PreparedCase, Shape, Spacing, Volume

if TYPE_CHECKING:  # only who predicts has to wait for torch
    from autoseg.arrays.resample_scores_torch import AxisTaps, Slab

ScalarT = TypeVar("ScalarT", bound=np.generic)


# -------------------------------------------------------------------------------------------------------- forward


def to_network_space(
    case_id: str,
    volume: Volume,
    label_map: LabelMap | None,
    preparation: Preparation,
    nonzero: NDArray[np.bool_] | None = None,
    *,
    most_bytes: int | None = None,
    owned: bool = False,
) -> PreparedCase:
    """The case as the network sees it: image (C, Z, Y, X) float32, training labels (Z, Y, X) int16.

    The same arrays come out whatever the axis order in which the file stores the volume. Voxels that are zero in all
    channels and carry no label get OUTSIDE in the label map. `nonzero` is `nonzero_mask(volume.image)`, for who has it
    already. With `owned` the volume's image may be written over, which spares a copy of one that is not turned and
    hardly cropped. Raises DatasetError where image, labels and preparation do not fit together or a label value is not
    declared.
    """
    _check_fit(volume, label_map, preparation)
    orientation = closest_canonical(volume.geometry) if preparation.orientation == "ras" else STORED

    def turned(array: NDArray[ScalarT]) -> NDArray[ScalarT]:
        return _transpose(orient(array, orientation), preparation.axis_order)

    needs_inside = label_map is not None or any(preparation.use_mask_for_normalization)
    if nonzero is None:
        # holes are the same in every orientation: the mask is made on the array as it lies in memory
        nonzero = nonzero_mask(volume.image) if needs_inside else any_nonzero(volume.image)
    mask = turned(nonzero)
    placement = _place(volume, preparation, orientation, bounding_box(mask))
    if most_bytes is not None:
        _require_room(placement, volume.image.shape[0], most_bytes)
    image = turned(volume.image)
    # it is normalized in place: a copy, where the volume's own array may not be
    image = cropped_in_place(image, placement.box) if owned else np.array(crop(image, placement.box), order="C")
    inside = np.ascontiguousarray(crop(mask, placement.box)) if needs_inside else None
    del mask, nonzero  # large images: what is not needed makes room
    labels = None
    if label_map is not None and inside is not None:
        labels = np.array(crop(turned(encode(label_map.labels, preparation.labels)), placement.box), order="C")
        labels[(labels == 0) & ~inside] = OUTSIDE
        inside = labels >= 0  # a labelled voxel counts as inside even where the image is zero
    _normalize(image, preparation, inside)
    shape, spacing, new_spacing = placement.prepared_shape, placement.transposed_spacing, placement.prepared_spacing
    image = resample_image(image, shape, spacing, new_spacing, preparation.image_order)
    if labels is not None:
        labels = resample_labels(labels, shape, spacing, new_spacing, preparation.label_order)
    locations = {} if labels is None else class_locations(labels, preparation.labels)
    return PreparedCase(case_id, image, labels, locations, placement)


def _check_fit(volume: Volume, label_map: LabelMap | None, preparation: Preparation) -> None:
    channels, shape = volume.image.shape[0], volume.image.shape[1:]
    expected = len(preparation.normalization)
    if channels != expected:
        raise DatasetError(
            f"the image has {channels} channels, the plan expects {expected}",
            remedy="Give the same channels, in the same order, as in the dataset that was planned.",
        )
    if label_map is not None and label_map.labels.shape != shape:
        raise DatasetError(
            f"the label map has {label_map.labels.shape} voxels, the image {shape} (Z, Y, X)",
            remedy="Resample the label map to the grid of the image.",
        )


def _require_room(placement: Placement, channels: int, most_bytes: int) -> None:
    """Refuse a grid that could not be held, and tell both."""
    shape = placement.prepared_shape
    needed = 4 * channels * shape[0] * shape[1] * shape[2]
    if needed <= most_bytes:
        return
    grids = [
        f"{'x'.join(map(str, size))} voxels of {'x'.join(f'{edge:.3g}' for edge in spacing)} mm"
        for size, spacing in (
            (placement.cropped_shape, placement.transposed_spacing),
            (shape, placement.prepared_spacing),
        )
    ]
    raise DatasetError(
        f"{grids[0]} would become {grids[1]}: {needed / 2**30:,.0f} GB, of {most_bytes / 2**30:,.0f} that there are",
        remedy="Correct the voxel size in its header: it is not the one of the images that the plan was made for.",
    )


def _place(volume: Volume, preparation: Preparation, orientation: Orientation, box: Box) -> Placement:
    """Where everything will lie."""
    order = preparation.axis_order
    spacing = _reorder(oriented_spacing(volume.geometry, orientation), order)
    shape = _transpose(orient(volume.image[0], orientation), order).shape
    z, y, x = (own if wanted is None else wanted for own, wanted in zip(spacing, preparation.spacing, strict=True))
    cropped = [stop - start for start, stop in box]
    return Placement(
        geometry=volume.geometry,
        orientation_axes=orientation.axes,
        orientation_flips=orientation.flips,
        axis_order=order,
        transposed_shape=(shape[0], shape[1], shape[2]),
        transposed_spacing=spacing,
        box=box,
        prepared_shape=resampled_shape(cropped, spacing, (z, y, x)),
        prepared_spacing=(z, y, x),
        slice_order=preparation.slice_order,
    )


def placement_for(placement: Placement, preparation: Preparation) -> Placement:
    """Where the case lies in another preparation that turns the file alike: the same crop on another grid."""
    spacing = placement.transposed_spacing
    z, y, x = (own if wanted is None else wanted for own, wanted in zip(spacing, preparation.spacing, strict=True))
    shape = resampled_shape(placement.cropped_shape, spacing, (z, y, x))
    where = {"prepared_shape": shape, "prepared_spacing": (z, y, x), "slice_order": preparation.slice_order}
    return placement.model_copy(update=where)


def _normalize(image: NDArray[np.float32], preparation: Preparation, inside: NDArray[np.bool_] | None) -> None:
    """Normalize each channel of the image (C, Z, Y, X), in place, before it is resampled (nnU-Net's order)."""
    for channel, scheme in enumerate(preparation.normalization):
        if scheme not in NORMALIZATIONS:
            raise PlanError(f"unknown normalization {scheme!r}", remedy=f"Known are: {', '.join(NORMALIZATIONS)}.")
        where = inside if preparation.use_mask_for_normalization[channel] else None
        image[channel] = NORMALIZATIONS[scheme](image[channel], preparation.intensities[channel], where)


# -------------------------------------------------------------------------------------------------------- inverse


def to_image_space(
    scores: NDArray[np.float32] | Iterable[Slab], placement: Placement, labels: Labels, *, order: Literal[0, 1] = 1
) -> NDArray[np.integer]:
    """The label map of scores, on the grid of the file and with the file's values: (k, j, i) as stored.

    Scores (K, Z, Y, X) come whole, or in slabs (K, planes, Y, X) in order along Z; of slabs only those still needed are
    held. They are interpolated (linearly by default), then the largest wins; with regions each positive score writes
    its value, later ones over earlier ones. Outside the crop box all is background. Raises ValueError if whole scores
    do not have the prepared shape.
    """
    slabs = _slabs(scores, placement, labels)
    found = labels_on_grid(slabs, *_grids(placement), labels, order, placement.slice_order)
    return labels_to_image_space(found, placement, labels)


def labels_to_image_space(found: NDArray[np.integer], placement: Placement, labels: Labels) -> NDArray[np.integer]:
    """Training labels (Z, Y, X) on the cropped grid as a label map (k, j, i) of the file, with the file's values."""
    return np.ascontiguousarray(_to_stored(decode(found, labels), placement, fill=0))


def probabilities_to_image_space(
    scores: NDArray[np.float32] | Iterable[Slab], placement: Placement, labels: Labels, *, order: Literal[0, 1] = 1
) -> NDArray[np.float32]:
    """Probabilities (K, k, j, i) of scores (whole or in slabs), on the grid of the file, axes as stored.

    Softmax over the labels, or one sigmoid per region, of the interpolated scores. Outside the crop box background is
    1 and everything else 0. Raises ValueError if whole scores do not have the prepared shape.
    """
    slabs = _slabs(scores, placement, labels)
    found = whole_probabilities(slabs, *_grids(placement), labels, order, placement.slice_order)
    whole = _to_stored(found, placement, fill=0)
    if not labels.has_regions:
        outside = _to_stored(np.zeros(placement.cropped_shape, dtype=np.bool_), placement, fill=1)
        whole[0][outside] = 1
    return np.ascontiguousarray(whole)


def averaged_to_image_space(
    groups: Sequence[Iterable[Slab]],
    placements: Sequence[Placement],
    labels: Labels,
    decide: Callable[[NDArray[np.float32]], NDArray[np.integer]],
    on_planes: Callable[[int, NDArray[np.float32], Sequence[NDArray[np.float32]]], None] | None = None,
) -> NDArray[np.integer]:
    """The label map (k, j, i) of the mean probabilities of several groups of slabs, side by side, plane by plane.

    `decide` turns probabilities (K, planes, Y, X) into training labels. `on_planes` is told the first plane, the mean
    probabilities from there on and those of each group, on the cropped grid. The groups must crop the file alike (their
    grids in network space may differ); raises ValueError where they do not.
    """
    first = placements[0]
    if not all(same_crop(placement, first) for placement in placements):
        raise ValueError("the groups do not crop the file alike")
    streams = [
        probabilities_in_planes(slabs, *_grids(placement), labels, 1, placement.slice_order)
        for slabs, placement in zip(groups, placements, strict=True)
    ]
    found = np.zeros(first.cropped_shape, dtype=np.min_scalar_type(len(labels.values)))
    for portions in zip(*streams, strict=True):
        start = portions[0][0]
        mean = sum((planes for _, planes in portions[1:]), start=portions[0][1]) / len(portions)
        if on_planes is not None:
            on_planes(start, mean, [planes for _, planes in portions])
        found[start : start + mean.shape[1]] = decide(mean)
    return labels_to_image_space(found, first, labels)


def same_crop(one: Placement, other: Placement) -> bool:
    """Whether two preparations turned and cropped the file alike, so that their crops are one grid."""
    fields = ("geometry", "orientation_axes", "orientation_flips", "axis_order", "box")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def _slabs(scores: NDArray[np.float32] | Iterable[Slab], placement: Placement, labels: Labels) -> Iterable[Slab]:
    if not isinstance(scores, np.ndarray):
        return scores
    expected = (labels.heads, *placement.prepared_shape)
    if scores.shape != expected:
        raise ValueError(f"scores of shape {scores.shape} do not fit a case and labels that need {expected}")
    return in_slabs(scores)


def _grids(placement: Placement) -> tuple[Shape, Shape, Spacing, Spacing]:
    """Shapes and spacings of the way back: the prepared spacing is asked first whether an axis lies apart."""
    return (
        placement.prepared_shape,
        placement.cropped_shape,
        placement.prepared_spacing,
        placement.transposed_spacing,
    )


def image_taps(placement: Placement) -> AxisTaps:
    """How scores on the prepared grid become scores on the cropped one, linearly but where slices are thick."""
    return score_taps(*_grids(placement), 1, placement.slice_order)


def view_of_crop(whole: NDArray[ScalarT], placement: Placement) -> NDArray[ScalarT]:
    """The view (…, Z, Y, X) of an array (…, k, j, i) on the file's grid that lies where the case was cropped.

    What is written into it stands in its place in the file. Leading axes stay.
    """
    turned = orient(whole, Orientation(placement.orientation_axes, placement.orientation_flips))
    return crop(_transpose(turned, placement.axis_order), placement.box)


def places_in_crop(places: NDArray[np.int64], placement: Placement) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where voxels (N, 3) of the file's grid (k, j, i) lie in the crop (Z, Y, X), and whether they lie in it."""
    found = np.empty_like(places)
    inside = np.ones(len(places), dtype=np.bool_)
    for axis, ((start, stop), oriented) in enumerate(zip(placement.box, placement.axis_order, strict=True)):
        stored = placement.orientation_axes[oriented]
        along = places[:, stored]
        if placement.orientation_flips[oriented]:
            along = placement.geometry.shape[stored] - 1 - along
        found[:, axis] = along - start
        inside &= (along >= start) & (along < stop)
    return found, inside


def place_in_file(place: tuple[int, int, int], placement: Placement) -> tuple[int, int, int]:
    """Where the voxel (Z, Y, X) of the crop lies on the file's grid, (k, j, i)."""
    found = [0, 0, 0]
    for along, (start, _), oriented in zip(place, placement.box, placement.axis_order, strict=True):
        stored = placement.orientation_axes[oriented]
        flipped = placement.orientation_flips[oriented]
        found[stored] = placement.geometry.shape[stored] - 1 - along - start if flipped else along + start
    return found[0], found[1], found[2]


def _to_stored(array: NDArray[ScalarT], placement: Placement, fill: float) -> NDArray[ScalarT]:
    """An array on the cropped grid in its place in the file's grid, axes as stored; leading axes stay."""
    whole = uncrop(array, placement.box, placement.transposed_shape, fill)
    oriented = _transpose(whole, np.argsort(placement.axis_order).tolist())
    return unorient(oriented, Orientation(placement.orientation_axes, placement.orientation_flips))


# ------------------------------------------------------------------------------------------------------ axis order


def _transpose(array: NDArray[ScalarT], axis_order: tuple[int, int, int] | list[int]) -> NDArray[ScalarT]:
    """A view whose last three axes are those of the array in another order; leading axes stay."""
    lead = array.ndim - 3
    return array.transpose(*range(lead), *(lead + axis for axis in axis_order))


def _reorder(spacing: Spacing, axis_order: tuple[int, int, int]) -> Spacing:
    z, y, x = (spacing[axis] for axis in axis_order)
    return z, y, x
