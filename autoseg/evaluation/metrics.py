"""How well a mask agrees with its reference: overlap, volumes, surfaces, per label of one case."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from autoseg.arrays.labels import encode
from autoseg.errors import DatasetError
from autoseg.evaluation.lesions import match_lesions
from autoseg.evaluation.surfaces import hd95, mean_distance, normalized_surface_dice, surface_distances
from autoseg.records import FLAT_SPACING_FACTOR, CaseScore, Labels, LabelScore, Spacing

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Overlap:
    """Voxels of two masks."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def dice(self) -> float | None:
        """2 TP / (2 TP + FP + FN); None where both masks are empty."""
        sizes = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / sizes if sizes else None

    @property
    def iou(self) -> float | None:
        """TP / (TP + FP + FN); None where both masks are empty."""
        union = self.true_positives + self.false_positives + self.false_negatives
        return self.true_positives / union if union else None


def overlap(reference: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> Overlap:
    """Voxels that two masks of one shape share, and that only one has."""
    both = int(np.count_nonzero(reference & prediction))
    return Overlap(both, int(np.count_nonzero(prediction)) - both, int(np.count_nonzero(reference)) - both)


def score_case(
    case: str,
    reference: NDArray[np.generic],
    prediction: NDArray[np.generic],
    spacing: Spacing,
    labels: Labels,
    tolerance_mm: float,
    annotated: Collection[str] | None = None,
    lesion_iou: float | None = None,
    threads: int = 1,
) -> CaseScore:
    """Scores of every label or region of one case; of `annotated` only, where not all were drawn in the reference.

    `reference` and `prediction` are label maps (Z, Y, X) with the file's values on one grid, `spacing` its voxel size
    in mm. Voxels that the reference ignores count for nothing. With `lesion_iou` lesions are matched as well. A volume
    of one slice has no surface across the slice. Labels are worked on by `threads` at a time. Raises DatasetError when
    the shapes differ or a value is not declared.
    """
    if reference.shape != prediction.shape:
        raise DatasetError(
            f"the mask has shape {prediction.shape}, the reference {reference.shape}",
            where=case,
            remedy="They must lie on one grid.",
        )
    with ThreadPoolExecutor(max(1, threads)) as pool:
        maps = (reference, f"{case}, reference"), (prediction, f"{case}, mask")
        truth, found = pool.map(lambda entry: _encoded(entry[0], labels, entry[1]), maps)
        if labels.ignore_index is not None:
            ignored = truth == labels.ignore_index
            truth[ignored] = 0
            found[ignored | (found == labels.ignore_index)] = 0
        boxes = list(zip(*pool.map(lambda positions: _boxes(positions, labels), (truth, found)), strict=True))

        def score(name: str) -> LabelScore:
            members = labels.foreground[name]
            box = _union([box for member in members for box in boxes[member] if box is not None])
            return _score_label(truth, found, members, box, spacing, tolerance_mm, lesion_iou)

        names = [name for name in labels.foreground if name in labels.drawn_names(annotated)]
        return CaseScore(case=case, labels=dict(zip(names, pool.map(score, names), strict=True)))


def voxel_volume_ml(spacing: Sequence[float]) -> float:
    """Volume of a voxel in ml; a pixel of a 2D image, which has no thickness, counts as 1 mm thick."""
    z, y, x = spacing
    flat = np.isclose(z, FLAT_SPACING_FACTOR * max(y, x))
    return (1.0 if flat else z) * y * x / 1000.0


def _score_label(
    truth: NDArray[np.int16],
    found: NDArray[np.int16],
    members: Sequence[int],
    box: Box | None,
    spacing: Spacing,
    tolerance_mm: float,
    lesion_iou: float | None,
) -> LabelScore:
    """Scores of one label or region, inside the box that holds it in both maps; None is a label found nowhere."""
    where = (slice(0, 0),) * 3 if box is None else box
    reference, prediction = _is_one_of(truth[where], members), _is_one_of(found[where], members)
    counts = overlap(reference, prediction)
    axes = [axis for axis, size in enumerate(truth.shape) if size > 1] or [0, 1, 2]
    distances = None if box is None else surface_distances(reference, prediction, spacing, axes)
    voxel = voxel_volume_ml(spacing)
    volume = (counts.true_positives + counts.false_negatives) * voxel
    error = (counts.false_positives - counts.false_negatives) * voxel
    return LabelScore(
        dice=counts.dice,
        iou=counts.iou,
        true_positives=counts.true_positives,
        false_positives=counts.false_positives,
        false_negatives=counts.false_negatives,
        volume_reference_ml=volume,
        volume_prediction_ml=(counts.true_positives + counts.false_positives) * voxel,
        volume_error_ml=error,
        relative_volume_error=error / volume if volume else None,
        nsd=(None if box is None else 0.0) if distances is None else normalized_surface_dice(distances, tolerance_mm),
        hd95_mm=None if distances is None else hd95(distances),
        assd_mm=None if distances is None else mean_distance(distances),
        lesions=None if lesion_iou is None else match_lesions(reference, prediction, voxel, lesion_iou),
    )


def _is_one_of(positions: NDArray[np.int16], members: Sequence[int]) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = positions == members[0]
    for member in members[1:]:
        mask |= positions == member
    return mask


def _encoded(values: NDArray[np.generic], labels: Labels, where: str) -> NDArray[np.int16]:
    """The training labels of a map with the file's values; what is wrong with them is told of `where`."""
    try:
        return encode(values, labels)
    except DatasetError as error:
        raise DatasetError(error.what, where=where, remedy=error.remedy) from None


def _boxes(positions: NDArray[np.int16], labels: Labels) -> list[Box | None]:
    """The box of each training label, None where it does not occur."""
    found: list[Box | None] = [None]
    found.extend(None if box is None else (box[0], box[1], box[2]) for box in find_objects(positions))
    return found + [None] * (len(labels.values) + 1 - len(found))


def _union(boxes: Sequence[Box]) -> Box | None:
    if not boxes:
        return None
    z, y, x = (slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3))
    return (z, y, x)
