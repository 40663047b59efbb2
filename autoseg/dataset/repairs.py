"""What may be corrected in a dataset without knowing the patients, and why the rest may not.

A remedy is safe where it only writes down what every reader takes the file for: it moves no boundary, names no voxel
otherwise, and decides nothing between two files of which one is wrong.
"""

from __future__ import annotations

import numpy as np

from autoseg.dataset.checks import MISPLACED
from autoseg.dataset.label_values import with_white_as_label
from autoseg.dataset.voxels import smallest_type
from autoseg.errors import DatasetError
from autoseg.records import LabelMap, Labels, Problem

#: A label this near to a whole number was that number before it went through a scaled or a shorter type.
ROUNDING = 0.01

#: Kinds of findings with a safe remedy, and what it does.
SAFE = {
    MISPLACED: "the labels are placed as the image is",
    "white-labels": "255 is written as the label",
    "fractional-labels": "values are rounded",
    "not-finite": "replaced by the smallest value of the channel",
}

#: Why others are not corrected.
UNSAFE = {
    "unreadable": "what a damaged file held is not known",
    "missing-image": "the file is not there",
    "missing-channel": "the file is not there",
    "missing-label": "nobody has drawn it",
    "shape-mismatch": "labels of another shape would have to be resampled, which moves their boundaries",
    "undeclared-value": "what the value means is not known",
    "interpolated-labels": "what interpolation mixed cannot be told apart",
    "label-looks-like-image": "the labels are not there",
    "constant-channel": "what the channel should hold is not known",
    "empty-label": "it may be right",
    "label-not-drawn": "it may be right",
    "same-image": "which of them to keep is not known",
    "same-labels": "which image they belong to is not known",
    "sides-differ": "whether labels or headers are wrong is not known",
    "sides-swapped": "whether labels or headers are wrong is not known",
    "side-unlike-others": "whether the image or its header is wrong is not known",
    "swapped-channels": "it is likely, and not sure",
    "header": "it is read rightly as it is",
    "file-without-case": "what it is for is not known; it is copied as it is",
    "unknown-file": "what it is for is not known; it is copied as it is",
}

_OTHERWISE = "somebody who knows the data must decide"


def may_be_corrected(problem: Problem) -> bool:
    """Whether a finding is of a kind for which there is a safe remedy."""
    return problem.kind in SAFE and not (problem.kind == MISPLACED and problem.severity == "error")


def why_not_corrected(problem: Problem) -> str:
    """Why a finding is left as it is."""
    if problem.kind == MISPLACED:
        return "half a voxel or more apart: which of the two headers is right is not known"
    return UNSAFE.get(problem.kind, _OTHERWISE)


def whole_labels(label_map: LabelMap, labels: Labels) -> LabelMap:
    """The label map with whole numbers, white written as the label where it is the only one.

    Raises DatasetError where a value is no number, lies further than ROUNDING from a whole one, or is not declared.
    """
    found = label_map.labels
    if found.dtype.kind == "f":
        if not np.isfinite(found).all():
            raise DatasetError("what was drawn where the labels are not numbers is not known")
        whole = np.rint(found)
        distance = float(np.abs(found - whole).max(initial=0))
        if distance > ROUNDING:
            raise DatasetError(f"values lie up to {distance:.2g} from whole numbers: they were interpolated")
        low, high = int(whole.min(initial=0)), int(whole.max(initial=0))
        found = whole.astype(smallest_type(low, high))
    label_map = with_white_as_label(LabelMap(found, label_map.geometry), labels)
    declared = {*labels.values, *(() if labels.ignore is None else (labels.ignore,))}
    strange = sorted({int(value) for value in np.unique(label_map.labels)} - declared)
    if strange:
        raise DatasetError(f"it has values that are not declared: {', '.join(map(str, strange[:5]))}")
    return label_map
