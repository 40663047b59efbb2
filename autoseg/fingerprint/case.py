"""What one case looks like: shape, spacing, labels, and the intensities of its foreground."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.crop import Box, bounding_box, crop, nonzero_mask
from autoseg.arrays.labels import encode
from autoseg.arrays.orientation import STORED, Orientation, closest_canonical, oriented_spacing
from autoseg.arrays.quantiles import channel_quantiles
from autoseg.dataset.geometry import axis_codes
from autoseg.errors import DatasetError
from autoseg.fingerprint.content import content_hash
from autoseg.fingerprint.intensities import WeightedValues, weighted_values
from autoseg.fingerprint.label_places import LabelPlaces, label_places
from autoseg.records import CaseFingerprint, LabelMap, Labels, Volume


@dataclass(frozen=True, eq=False)
class CaseMeasurement:
    """A case's share in the fingerprint of its dataset."""

    fingerprint: CaseFingerprint
    relative_size: float  # voxels in the nonzero box / all voxels
    intensities: tuple[WeightedValues, ...]  # of the foreground, per channel; empty where there is no foreground
    drawn: str = ""  # hash of the labels; empty where there are none, or where they are but boxes


def measure_case(
    case_id: str,
    volume: Volume,
    label_map: LabelMap | None,
    labels: Labels,
    orientation_mode: Literal["ras", "stored"] = "ras",
    annotated: tuple[str, ...] | None = None,
) -> CaseMeasurement:
    """The measurement of one case.

    Foreground is what has a label above background inside the box around the nonzero voxels (nnU-Net). Its intensities
    are kept in full where nnU-Net draws random samples. Voxels with the ignore label are no foreground: nobody said
    what they are (nnU-Net's documentation says the same, its code counts them).

    Args:
        case_id: name of the case.
        volume: image (C, Z, Y, X) as stored.
        label_map: labels (Z, Y, X) as stored, file values; None leaves the intensities empty.
        labels: the dataset's labels.
        orientation_mode: axes in which shape, spacing and places are given: oriented to RAS+ or as stored.
        annotated: names of the labels that were drawn in this case; None means all.

    Raises:
        DatasetError: image and labels differ in shape, a voxel is NaN or infinite, or a label is not declared.
    """
    image = volume.image
    ranges = _intensity_range(case_id, image)
    box = bounding_box(nonzero_mask(image))
    # only sizes are oriented: turning the arrays first would give the same numbers, more slowly
    orientation = STORED if orientation_mode == "stored" else closest_canonical(volume.geometry)
    z, y, x = (image.shape[1 + axis] for axis in orientation.axes)
    cropped_z, cropped_y, cropped_x = (box[axis][1] - box[axis][0] for axis in orientation.axes)
    encoded = None if label_map is None else _encoded(case_id, label_map, labels, image.shape[1:])
    inside = None if encoded is None else crop(encoded, box)
    # one search for the voxels serves labels and all channels
    places = np.zeros(0, dtype=np.intp) if inside is None else _foreground_places(inside, labels)
    found = LabelPlaces({}, {}) if inside is None else _label_places(inside, places, labels, orientation)
    fingerprint = CaseFingerprint(
        case=case_id,
        shape=(z, y, x),
        spacing=oriented_spacing(volume.geometry, orientation),
        shape_after_crop=(cropped_z, cropped_y, cropped_x),
        orientation=axis_codes(volume.geometry),
        voxels_per_label={} if encoded is None else _voxels_per_label(encoded, labels),
        intensity_range=ranges,
        quantiles=channel_quantiles(image),
        label_centres=found.centres,
        label_extents=found.extents,
        annotated=annotated,
        content=content_hash(image),
    )
    return CaseMeasurement(
        fingerprint=fingerprint,
        relative_size=(cropped_z * cropped_y * cropped_x) / (z * y * x),
        intensities=_foreground_intensities(image, places, box),
        drawn="" if encoded is None else _hash_of_drawn(encoded, fingerprint),
    )


def _hash_of_drawn(encoded: NDArray[np.int16], fingerprint: CaseFingerprint) -> str:
    """32 hex digits that equal labels share; "" where all of them fill their bounding boxes.

    No two cases have the same drawing by chance, but boxes and single voxels may be the same.
    """
    counts, edges = fingerprint.voxels_per_label, fingerprint.label_extents
    if all(counts[name] >= math.prod(extent) for name, extent in edges.items()):
        return ""
    digest = hashlib.blake2b(repr(encoded.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(encoded).data)
    return digest.hexdigest()


def _intensity_range(case_id: str, image: NDArray[np.float32]) -> tuple[tuple[float, float], ...]:
    ranges = tuple((float(channel.min()), float(channel.max())) for channel in image)
    for number, limits in enumerate(ranges):
        if not np.isfinite(limits).all():
            count = int(np.count_nonzero(~np.isfinite(image[number])))
            raise DatasetError(
                f"{count} voxels of channel {number} are NaN or infinite",
                where=case_id,
                remedy="Replace them in the file, or remove the case.",
            )
    return ranges


def _encoded(case_id: str, label_map: LabelMap, labels: Labels, shape: tuple[int, ...]) -> NDArray[np.int16]:
    if label_map.labels.shape != shape:
        raise DatasetError(
            f"the image has shape {shape}, its labels {label_map.labels.shape} (Z, Y, X as stored)",
            where=case_id,
            remedy="Use labels drawn on this image.",
        )
    return encode(label_map.labels, labels)


def _voxels_per_label(encoded: NDArray[np.int16], labels: Labels) -> dict[str, int]:
    # most voxels are background: leaving them out is quicker than counting them
    counts = np.bincount(encoded[encoded > 0], minlength=len(labels.values))
    counts[0] = encoded.size - counts.sum()
    names = {"background": (0,), **labels.foreground}
    return {name: int(sum(counts[member] for member in members)) for name, members in names.items()}


def _foreground_places(inside: NDArray[np.int16], labels: Labels) -> NDArray[np.intp]:
    """Places of the foreground in the flattened crop, ascending."""
    foreground = inside > 0
    if labels.ignore_index is not None:
        foreground &= inside != labels.ignore_index
    return np.flatnonzero(foreground)


def _label_places(
    inside: NDArray[np.int16], places: NDArray[np.intp], labels: Labels, orientation: Orientation
) -> LabelPlaces:
    z, y, x = inside.shape
    return label_places(inside.reshape(-1)[places], places, (z, y, x), labels, orientation)


def _foreground_intensities(
    image: NDArray[np.float32], places: NDArray[np.intp], box: Box
) -> tuple[WeightedValues, ...]:
    if places.size == 0:
        return ()
    return tuple(weighted_values(crop(channel, box).reshape(-1)[places]) for channel in image)
