"""Pictures of labels whose header puts them elsewhere than their image: both ways of reading them, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.dataset.checks import MISPLACED
from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.readers import read_image
from autoseg.pipeline.looks import look_at
from autoseg.records import Case, Dataset, Geometry, LabelMap, Problem
from autoseg.report.preview import draw_scenes

#: Cases that are drawn: one wrong export makes all of them look alike.
MOST_PICTURES = 5


def pictured(dataset: Dataset, problems: Sequence[Problem], folder: Path) -> tuple[Problem, ...]:
    """The findings, those of the first misplaced labels with the path of a picture, which is drawn into `folder`."""
    by_id = {case.id: case for case in dataset.cases}
    wrong = [found for found in problems if found.kind == MISPLACED and found.severity == "error"]
    drawn = {
        found.case: found.model_copy(
            update={"what": f"{found.what} (picture: {_draw(by_id[found.case], dataset, folder)})"}
        )
        for found in wrong[:MOST_PICTURES]
        if found.case is not None
    }
    return tuple(drawn.get(found.case or "", found) if found in wrong else found for found in problems)


def _draw(case: Case, dataset: Dataset, folder: Path) -> Path:
    volume, label_map = read_image(case.images), read_case_labels(case, dataset.labels)
    readings = {"voxel by voxel": label_map.labels, "as the headers say": by_headers(label_map, volume.geometry)}
    path = folder / f"{case.id}.png"
    values = {name: value for name, value in dataset.labels.names.items() if isinstance(value, int) and value != 0}
    looks = [look_at(f"{case.id}, {how}", volume.image[0], labels, volume.geometry) for how, labels in readings.items()]
    draw_scenes(path, looks, values)
    return path


def by_headers(label_map: LabelMap, grid: Geometry) -> NDArray[np.generic]:
    """The labels where their header puts them, (k, j, i) on another grid: the nearest voxel, 0 beyond their edges."""
    indices = np.linalg.inv(label_map.geometry.matrix) @ grid.matrix  # (i, j, k) of the grid to that of the labels
    matrix = indices[:3, :3][::-1, ::-1]
    found: NDArray[np.generic] = ndimage.affine_transform(
        np.asarray(label_map.labels), matrix, indices[:3, 3][::-1], output_shape=grid.shape, order=0, cval=0
    )
    return found
