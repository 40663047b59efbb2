"""What is wrong with the arrays of a case: findings with file, cause and remedy, all at once.

Faults of the data are not raised: they are `Problem`s. An error keeps a case from being used, a warning does not.
`layout_checks` looks at names and listings.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.geometry import DIFFERENT_GRID_VOXELS, SAME_GRID_VOXELS, corner_distance_mm, smallest_voxel_edge
from autoseg.dataset.label_values import MOST_VALUES
from autoseg.dataset.voxels import whole_values
from autoseg.records import Case, LabelMap, Labels, Problem, Volume
from autoseg.words import counted

#: So many undeclared values are no forgotten label: the file was interpolated, or compressed with loss.
MANY_UNDECLARED = 20

#: The kind of a finding: the headers of image and labels put them in different places.
MISPLACED = "geometry-mismatch"

#: Values named in a message before it says "and N more".
NAMED = 8


def check_case(
    case: Case, volume: Volume, label_map: LabelMap | None, labels: Labels, channels: int | None = None
) -> list[Problem]:
    """Findings about the arrays of one case.

    Args:
        case: whose arrays they are.
        volume: its image, (C, Z, Y, X).
        label_map: its labels, (Z, Y, X), or None where there are none to check.
        labels: the declared labels.
        channels: how many channels the image should have, where that is known.
    """
    report = _Report(case, labels_place(case))
    for note in volume.notes:
        report.add("note", "header", note, "Nothing to do if that is right.", case.images[0])
    _check_image(report, volume, channels)
    if label_map is not None:
        for note in label_map.notes:
            report.add("note", "header", note, "Nothing to do if that is right.", report.labels)
        if label_map.white:
            report.add("note", "white-labels", label_map.white, "Nothing to do if that is right.", report.labels)
        _check_grid(report, volume, label_map)
        _check_values(report, label_map.labels, labels)
        _check_drawn(report, label_map.labels, labels)
    return report.problems


def labels_place(case: Case) -> Path | None:
    """Where the labels of a case are: its map of objects, its label map, or the folder of its label files."""
    if case.instances is not None:
        return case.instances
    if case.labels is not None or not case.label_files:
        return case.labels
    return case.label_files[0][1].parent


class _Report:
    """Collects the problems of one case."""

    def __init__(self, case: Case, labels: Path | None) -> None:
        self.case = case
        self.labels = labels
        self.problems: list[Problem] = []

    def add(self, severity: str, kind: str, what: str, remedy: str, file: Path | None) -> None:
        self.problems.append(
            Problem.model_validate(
                {"severity": severity, "kind": kind, "what": what, "remedy": remedy, "case": self.case.id, "file": file}
            )
        )


def _check_image(report: _Report, volume: Volume, channels: int | None) -> None:
    files = report.case.images
    found = volume.image.shape[0]
    if channels is not None and found != channels:
        what = f"the image has {found} channels, the dataset {channels}"
        report.add("error", "channel-count", what, "Give every case the same channels.", files[0])
    for number, channel in enumerate(volume.image):
        file = files[number] if len(files) == found else files[0]
        low, high = float(channel.min()), float(channel.max())  # NaN wherever there is one
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = int(channel.size - np.isfinite(channel).sum())
            what = f"channel {number} has {bad} voxels that are not numbers (NaN or infinite)"
            report.add("error", "not-finite", what, "Replace them, for example by the background value.", file)
        elif low == high:
            what = f"channel {number} has the same value {low:g} everywhere"
            report.add("warning", "constant-channel", what, "Check that the file was exported rightly.", file)


def _check_grid(report: _Report, volume: Volume, label_map: LabelMap) -> None:
    image, labels, file = volume.geometry, label_map.geometry, report.labels
    if image.shape != labels.shape:
        what = f"the labels have shape {labels.shape} (Z, Y, X), the image {image.shape}"
        report.add("error", "shape-mismatch", what, "Draw or resample the labels on the grid of the image.", file)
        return
    distance, edge = corner_distance_mm(image, labels), smallest_voxel_edge(image)
    if distance <= SAME_GRID_VOXELS * edge:
        return
    spacings = " x ".join(f"{size:.4g}" for size in image.spacing), " x ".join(f"{size:.4g}" for size in labels.spacing)
    differ = not np.allclose(image.spacing, labels.spacing, rtol=1e-3)
    detail = f"; voxels are {spacings[0]} mm in the image and {spacings[1]} mm in the labels" if differ else ""
    what = f"image and labels lie up to {distance:.3g} mm apart{detail}"
    if report.case.trust_voxels:
        report.add("warning", MISPLACED, what, "They are taken voxel by voxel, as --trust-voxels asks.", file)
    elif distance > DIFFERENT_GRID_VOXELS * edge:
        remedy = (
            "Correct the header that is wrong, or resample the labels on the grid of the image. If they lie on its "
            "voxels all the same: autoseg plan --trust-voxels."
        )
        report.add("error", MISPLACED, what, remedy, file)
    else:
        report.add("warning", MISPLACED, what, "Less than half a voxel: it is ignored.", file)


def _check_values(report: _Report, found: NDArray[np.generic], labels: Labels) -> None:
    file = report.labels
    declared = {*labels.values, *(() if labels.ignore is None else (labels.ignore,))}
    if found.dtype.kind == "f":
        _check_fractions(report, found, declared)
        return
    counts = whole_values(found)
    undeclared = {value: count for value, count in counts.items() if value not in declared}
    if undeclared and (min(counts) < -1 or len(counts) > MOST_VALUES):
        what = f"the labels look like an image: {len(counts)} distinct values from {min(counts)} to {max(counts)}"
        report.add("error", "label-looks-like-image", what, "Check that the right file was saved as the labels.", file)
    elif len(undeclared) > MANY_UNDECLARED:
        what = f"{len(undeclared)} distinct undeclared values: the labels look interpolated, or compressed with loss"
        remedy = "Export the labels again without interpolation, in a lossless format."
        report.add("error", "interpolated-labels", what, remedy, file)
    elif undeclared:
        what = f"undeclared label values {_listed(undeclared)}; declared are {_ranges(sorted(declared))}"
        report.add("error", "undeclared-value", what, "Declare them in dataset.json or correct the file.", file)
    elif not set(counts) - {0, labels.ignore}:
        report.add("note", "empty-label", "no voxel is labelled", "Nothing to do if that is right.", file)


def _check_drawn(report: _Report, found: NDArray[np.generic], labels: Labels) -> None:
    """Voxels of labels that are said not to have been drawn in this case."""
    if report.case.annotated is None or found.dtype.kind == "f":
        return
    drawn = labels.drawn_names(report.case.annotated)
    counts = whole_values(found)
    undrawn: dict[str, int] = {}
    for name, members in labels.foreground.items():
        voxels = sum(counts.get(labels.values[member], 0) for member in members if member != 0)
        if voxels and name not in drawn:
            undrawn[name] = voxels
    if undrawn:
        told = ", ".join(f"{name} ({counted(count, 'voxel')})" for name, count in undrawn.items())
        what = f"it has voxels of labels that are not among those drawn in this case: {told}"
        remedy = "Add them to `annotated` of this case, or correct its labels."
        report.add("error", "not-annotated", what, remedy, report.labels)


def _check_fractions(report: _Report, found: NDArray[np.generic], declared: set[int]) -> None:
    values = found.astype(np.float64)
    finite = np.isfinite(values)
    file = report.labels
    if not finite.all():
        what = f"the labels have {int(found.size - finite.sum())} voxels that are not numbers (NaN or infinite)"
        report.add("error", "not-finite", what, "Replace them by a label value.", file)
    fractional = finite & (values != np.rint(values))
    # interpolation stays between the labels that it mixes
    beyond = np.rint(values[finite & ((values < -0.5) | (values > max(declared) + 0.5))])
    if fractional.any() and np.unique(beyond).size > MANY_UNDECLARED:
        low, high = values[finite].min(), values[finite].max()
        what = f"the labels look like an image: fractions between {low:.4g} and {high:.4g}"
        report.add("error", "label-looks-like-image", what, "Check that the right file was saved as the labels.", file)
    elif fractional.any():
        example = float(values[fractional][0])
        what = f"{int(fractional.sum())} voxels of the labels hold fractions such as {example:.4g}"
        remedy = "Export the labels again without interpolation; check that it is not an image or a probability map."
        report.add("error", "fractional-labels", what, remedy, file)


def _listed(counts: dict[int, int]) -> str:
    """Values with their voxels: "4 (12 voxels), 7 (1 voxel) and 3 more"."""
    named = [f"{value} ({counted(count, 'voxel')})" for value, count in Counter(counts).most_common(NAMED)]
    more = f" and {len(counts) - NAMED} more" if len(counts) > NAMED else ""
    return ", ".join(named) + more


def _ranges(values: list[int]) -> str:
    """Ascending values with runs shortened: "0 to 7, 20"."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
