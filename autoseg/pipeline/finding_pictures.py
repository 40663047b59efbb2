"""Pictures of the costliest findings of a check: the case in three planes, with its labels over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.checks import MISPLACED
from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.readers import read_image
from autoseg.errors import AutosegError
from autoseg.pipeline.looks import look_at
from autoseg.pipeline.misplaced import by_headers
from autoseg.records import Case, Dataset, LabelMap, Labels, Problem, Volume
from autoseg.report.preview import draw_scenes
from autoseg.report.slices import Look

#: Pictures in all, and of one kind: one wrong export makes all of a kind look alike.
MOST_PICTURES = 12
MOST_OF_A_KIND = 3

#: Values that are drawn besides those declared.
_MOST_STRANGE = 4


def draw_findings(dataset: Dataset, problems: Sequence[Problem], folder: Path) -> tuple[Path, ...]:
    """Draw the first findings that belong to a case which can be read, a PNG each; they are in ranked order."""
    by_id = {case.id: case for case in dataset.cases}
    drawn: list[Path] = []
    seen: Counter[str] = Counter()
    done: set[tuple[str, str]] = set()
    for problem in problems:
        case = by_id.get(problem.case or "")
        if case is None or seen[problem.kind] == MOST_OF_A_KIND or len(drawn) == MOST_PICTURES:
            continue
        if (problem.kind, case.id) in done:
            continue  # two labels, one picture
        done.add((problem.kind, case.id))
        path = folder / f"{len(drawn) + 1:02d}-{problem.kind}-{case.id}.png"
        if _draw(path, case, dataset.labels, problem):
            drawn.append(path)
            seen[problem.kind] += 1
    return tuple(drawn)


def _draw(path: Path, case: Case, labels: Labels, problem: Problem) -> bool:
    """Whether there was something to draw."""
    try:
        volume = read_image(case.images)
    except AutosegError:
        return False
    label_map = _labels_of(case, labels, volume)
    readings = {problem.kind: label_map.labels}
    if problem.kind == MISPLACED:
        readings = {"voxel by voxel": label_map.labels, "as the headers say": by_headers(label_map, volume.geometry)}
    looks = [_look(f"{case.id}, {how}", volume, found) for how, found in readings.items()]
    draw_scenes(path, looks, _values(label_map.labels, labels))
    return True


def _labels_of(case: Case, labels: Labels, volume: Volume) -> LabelMap:
    """The labels as whole numbers; empty where they cannot be read or have another shape."""
    shape = volume.geometry.shape
    try:
        found = read_case_labels(case, labels) if case.labelled else None
    except AutosegError:
        found = None
    if found is None or found.labels.shape != shape:
        return LabelMap(np.zeros(shape, np.uint8), volume.geometry)
    if found.labels.dtype.kind != "f":
        return found
    return LabelMap(np.rint(np.nan_to_num(found.labels, posinf=0, neginf=0)), found.geometry)


def _values(found: NDArray[np.generic], labels: Labels) -> dict[str, int]:
    """The values to draw, with their names: those declared, and the most frequent of the others."""
    declared = {name: value for name, value in labels.names.items() if isinstance(value, int) and value != 0}
    values, counts = np.unique(found, return_counts=True)
    frequent = [int(values[place]) for place in np.argsort(-counts)]
    strange = [value for value in frequent if value != 0 and value not in declared.values()]
    return {**declared, **{f"value {value}": value for value in strange[:_MOST_STRANGE]}}


def _look(title: str, volume: Volume, labels: NDArray[np.generic]) -> Look:
    image = volume.image[0]
    finite = np.isfinite(image)
    lowest = float(image[finite].min()) if finite.any() else 0.0
    return look_at(title, np.where(finite, image, np.float32(lowest)), labels, volume.geometry)
