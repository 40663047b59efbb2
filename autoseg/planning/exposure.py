"""How much of each label random patches show: what the length of a training is planned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.records import CaseFingerprint, Fingerprint

BACKGROUND = "background"


@dataclass(frozen=True)
class LabelBox:
    """Where a label lies, over the cases that have it. The background is a label that fills the image."""

    label: str
    share: float  # of the cases, that have it
    extent: tuple[float, ...]  # mm (Z, Y, X), prepared axis order: median edges of the box around its voxels
    companions: float  # foreground labels in one of its cases, itself counted: a forced patch picks one of them


@dataclass(frozen=True)
class Exposure:
    """What one random training patch shows of a label."""

    label: str
    voxel: float  # chance that it contains a given voxel of a given case that has the label
    any_part: float  # chance that it shows something of the label


def label_boxes(fingerprint: Fingerprint, order: Sequence[int], image: Sequence[float]) -> tuple[LabelBox, ...]:
    """Background and every label that occurs, with the size of the region it is found in.

    Where the fingerprint has no boxes of labels, a label is taken to be one solid box of its volume, in the proportions
    of the image; where it has no volumes either, to be in every case and anywhere in the image.

    Args:
        fingerprint: the measured cases.
        order: prepared axis a is axis order[a] of the cases.
        image: edges of the median image in mm, prepared axis order.
    """
    names = tuple(fingerprint.labels.foreground)
    boxes = [LabelBox(BACKGROUND, 1.0, tuple(image), 1.0)]
    counted = [case for case in fingerprint.cases if case.voxels_per_label]
    if not counted:
        return (*boxes, *(LabelBox(name, 1.0, tuple(image), float(len(names))) for name in names))
    present = {case.case: [name for name in names if case.voxels_per_label.get(name, 0) > 0] for case in counted}
    for name in names:
        having = [case for case in counted if name in present[case.case]]
        if having:
            extents = np.asarray([_extent(case, name, order) for case in having])
            companions = float(np.mean([len(present[case.case]) for case in having]))
            median = tuple(float(edge) for edge in np.median(extents, axis=0))
            boxes.append(LabelBox(name, len(having) / len(counted), median, companions))
    return tuple(boxes)


def _extent(case: CaseFingerprint, label: str, order: Sequence[int]) -> list[float]:
    if label in case.label_extents:
        voxels: Sequence[float] = case.label_extents[label]
    else:
        edge = (case.voxels_per_label[label] / math.prod(case.shape_after_crop)) ** (1 / 3)
        voxels = [edge * length for length in case.shape_after_crop]
    return [voxels[axis] * case.spacing[axis] for axis in order]


def exposures(
    boxes: Sequence[LabelBox], patch: Sequence[float], image: Sequence[float], cases: int, forced: float
) -> tuple[Exposure, ...]:
    """What a random patch shows of each label.

    A share `forced` of the patches is centred on a voxel of a label that is drawn from those in the case, the others
    lie anywhere; the background is never forced.

    Args:
        boxes: the labels.
        patch: edges in mm, prepared axis order; of a slice its thickness is the first.
        image: edges of the median image in mm.
        cases: training cases.
        forced: share of patches that are centred on foreground.
    """
    if len(boxes) == 1:
        forced = 0.0  # there is nothing to centre a patch on
    anywhere = (1 - forced) * _overlap(patch, image)
    found = []
    for box in boxes:
        aimed = 0.0 if box.label == BACKGROUND else forced / box.companions
        voxel = (aimed * _overlap(patch, box.extent) + anywhere) / cases
        reach = [edge + size for edge, size in zip(patch, box.extent, strict=True)]
        found.append(Exposure(box.label, voxel, box.share * (aimed + (1 - forced) * _overlap(reach, image))))
    return tuple(found)


def _overlap(part: Sequence[float], whole: Sequence[float]) -> float:
    return math.prod(min(1.0, edge / length) for edge, length in zip(part, whole, strict=True))
