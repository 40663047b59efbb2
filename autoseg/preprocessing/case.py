"""A case from image space to network space and its scores back: forward and inverse side by side.

    file (k, j, i) -> oriented -> transposed -> cropped to what is not zero -> normalized -> resampled = prepared

The method is nnU-Net's (Isensee et al. 2021), on arrays in one anatomical orientation. `Placement` records the way,
so that the inverse needs neither the image nor the plan.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.crop import Box, bounding_box, crop, nonzero_mask, uncrop
from autoseg.arrays.labels import decode, encode
from autoseg.arrays.normalize import NORMALIZATIONS
from autoseg.arrays.orientation import STORED, Orientation, closest_canonical, orient, oriented_spacing, unorient
from autoseg.arrays.resample import resample_image, resampled_shape
from autoseg.arrays.resample_labels import resample_labels
from autoseg.errors import DatasetError, PlanError
from autoseg.preprocessing.export import labels_on_grid, probabilities_on_grid
from autoseg.preprocessing.locations import class_locations
from autoseg.records import OUTSIDE, LabelMap, Labels, Placement, Preparation, PreparedCase, Spacing, Volume

ScalarT = TypeVar("ScalarT", bound=np.generic)


# -------------------------------------------------------------------------------------------------------- forward


def to_network_space(
    case_id: str, volume: Volume, label_map: LabelMap | None, preparation: Preparation
) -> PreparedCase:
    """The case as the network sees it: image (C, Z, Y, X) float32, training labels (Z, Y, X) int16.

    The same arrays come out whatever the axis order in which the file stores the volume. Voxels that are zero in all
    channels and carry no label get OUTSIDE in the label map. Raises DatasetError where image, labels and preparation
    do not fit together or a label value is not declared.
    """
    _check_fit(volume, label_map, preparation)
    orientation = closest_canonical(volume.geometry) if preparation.orientation == "ras" else STORED

    def turned(array: NDArray[ScalarT]) -> NDArray[ScalarT]:
        return _transpose(orient(array, orientation), preparation.axis_order)

    # holes are the same in every orientation: the mask is made on the array as it lies in memory
    mask = turned(nonzero_mask(volume.image))
    placement = _place(volume, preparation, orientation, bounding_box(mask))
    image = np.ascontiguousarray(crop(turned(volume.image), placement.box))
    inside = np.ascontiguousarray(crop(mask, placement.box))
    labels = None
    if label_map is not None:
        labels = np.array(crop(turned(encode(label_map.labels, preparation.labels)), placement.box), order="C")
        labels[(labels == 0) & ~inside] = OUTSIDE
        inside = labels >= 0  # a labelled voxel counts as inside even where the image is zero
    image = _normalize(image, preparation, inside)
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
    )


def _normalize(image: NDArray[np.float32], preparation: Preparation, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The image (C, Z, Y, X) with each channel normalized by its scheme, before resampling (nnU-Net's order)."""
    normalized = np.empty_like(image)
    for channel, scheme in enumerate(preparation.normalization):
        if scheme not in NORMALIZATIONS:
            raise PlanError(f"unknown normalization {scheme!r}", remedy=f"Known are: {', '.join(NORMALIZATIONS)}.")
        where = inside if preparation.use_mask_for_normalization[channel] else None
        normalized[channel] = NORMALIZATIONS[scheme](image[channel], preparation.intensities[channel], where)
    return normalized


# -------------------------------------------------------------------------------------------------------- inverse


def to_image_space(
    scores: NDArray[np.float32], placement: Placement, labels: Labels, *, order: Literal[0, 1] = 1
) -> NDArray[np.integer]:
    """The label map of scores (K, Z, Y, X), on the grid of the file and with the file's values: (k, j, i) as stored.

    Scores are interpolated (linearly by default), then the largest wins; with regions each positive score writes its
    value, later ones over earlier ones. Beside the scores memory holds the label map and one slab, whatever K is.
    Outside the crop box all is background. Raises ValueError if the scores do not have the prepared shape.
    """
    _check_scores(scores, placement, labels)
    found = labels_on_grid(scores, placement.cropped_shape, *_spacings_back(placement), labels, order)
    return np.ascontiguousarray(_to_stored(decode(found, labels), placement, fill=0))


def probabilities_to_image_space(
    scores: NDArray[np.float32], placement: Placement, labels: Labels, *, order: Literal[0, 1] = 1
) -> NDArray[np.float32]:
    """Probabilities (K, k, j, i) of scores (K, Z, Y, X), on the grid of the file, axes as stored.

    Softmax over the labels, or one sigmoid per region, of the interpolated scores. Outside the crop box background is
    1 and everything else 0. Raises ValueError if the scores do not have the prepared shape.
    """
    _check_scores(scores, placement, labels)
    found = probabilities_on_grid(scores, placement.cropped_shape, *_spacings_back(placement), labels, order)
    whole = _to_stored(found, placement, fill=0)
    if not labels.has_regions:
        outside = _to_stored(np.zeros(placement.cropped_shape, dtype=np.bool_), placement, fill=1)
        whole[0][outside] = 1
    return np.ascontiguousarray(whole)


def _check_scores(scores: NDArray[np.float32], placement: Placement, labels: Labels) -> None:
    expected = (labels.heads, *placement.prepared_shape)
    if scores.shape != expected:
        raise ValueError(f"scores of shape {scores.shape} do not fit a case and labels that need {expected}")


def _spacings_back(placement: Placement) -> tuple[Spacing, Spacing]:
    """Current and new spacing of the way back: the prepared one is asked first whether an axis lies apart."""
    return placement.prepared_spacing, placement.transposed_spacing


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
