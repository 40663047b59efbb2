"""Cases read for the pages: a few to look at, and as many to count as stays quick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.orientation import STORED, Orientation, closest_canonical, orient, oriented_spacing
from autoseg.dataset.geometry import DIFFERENT_GRID_VOXELS, corner_distance_mm, smallest_voxel_edge
from autoseg.dataset.instance_maps import whole_objects
from autoseg.dataset.label_files import read_case_labels, read_reference
from autoseg.dataset.readers import read_image, read_labels
from autoseg.errors import AutosegError
from autoseg.records import Case, Dataset, Fingerprint, Geometry, Labels, Placement
from autoseg.report.dataset_page import Sample
from autoseg.report.outliers import is_calibrated
from autoseg.report.page import Names, Picture
from autoseg.report.pictures import comparison, thumbnail
from autoseg.report.results_page import Confusion
from autoseg.report.slices import Look, Turn

#: Thumbnails of a dataset, and voxels that are read for them at most; the first case is read whatever its size.
THUMBNAILS, MOST_VOXELS = 18, 60_000_000

#: Voxels of the masks that are counted for what is taken for what.
MOST_COUNTED = 200_000_000

#: Bins of a histogram of intensities, and values of one label and case that enter it.
_BINS, _VALUES = 60, 20_000


@dataclass(frozen=True)
class Scored:
    """A mask and what it was scored against."""

    mask: Path
    case: Case  # images, if they are known, and the reference


def values_of(labels: Labels) -> dict[str, tuple[int, ...]]:
    """Name of each label or region -> its values in a label map."""
    return {name: value if isinstance(value, tuple) else (value,) for name, value in labels.names.items() if value != 0}


def compared(found: Scored, labels: Labels, name: str, caption: str) -> Picture:
    """Image, reference, prediction and errors of one case. Raises AutosegError where a file cannot be read."""
    mask = read_labels(found.mask)
    reference = whole_objects(read_reference(found.case, labels)[0], labels).labels if found.case.labelled else None
    labels = labels.without_cores
    image, geometry = None, mask.geometry
    if found.case.images:
        volume = read_image(found.case.images)
        # beneath a mask that lies elsewhere it would mislead
        away = lies_elsewhere(volume.geometry, mask.geometry) and not found.case.trust_voxels
        image = None if away else volume.image[0]
        # a mask in another format than its image may tell of sides that the image does not tell of
        geometry = volume.geometry if volume.geometry.shape == geometry.shape else geometry
    look = look_at(name, image, mask.labels, geometry, reference)
    return comparison(look, values_of(labels), caption)


def lies_elsewhere(image: Geometry, mask: Geometry) -> bool:
    """Whether a mask lies half a voxel or more away from an image, where both tell how they lie in the body."""
    if not (image.has_sides and mask.has_sides):
        return False
    return corner_distance_mm(image, mask) > DIFFERENT_GRID_VOXELS * smallest_voxel_edge(image)


def look_at(
    name: str,
    image: NDArray[np.float32] | None,
    labels: NDArray[np.generic],
    geometry: Geometry,
    reference: NDArray[np.generic] | None = None,
) -> Look:
    """Arrays (k, j, i) turned to RAS+, or as stored without known sides. An image of another shape is left out."""
    if image is not None and image.shape != labels.shape:
        image = None
    way = drawn_orientation(geometry)
    return Look(
        name,
        None if image is None else orient(image, way),
        orient(labels, way),
        oriented_spacing(geometry, way),
        None if reference is None else orient(reference, way),
        sides=geometry.has_sides,
    )


def drawn_orientation(geometry: Geometry) -> Orientation:
    """How the arrays of a file are turned for a `Look`."""
    return closest_canonical(geometry) if geometry.has_sides else STORED


def turn_of(placement: Placement) -> Turn | None:
    """How slices across the first axis of a prepared case are brought to the radiological convention.

    None where the file does not tell of sides. Prepared axes are those of the file, turned and reordered as the
    placement says, which for plans that keep the stored orientation are not the anatomical ones.
    """
    if not placement.geometry.has_sides:
        return None
    way = closest_canonical(placement.geometry)
    found: list[tuple[int, bool]] = []  # of each anatomical axis the prepared one, and whether that runs against it
    for stored, flipped in zip(way.axes, way.flips, strict=True):
        turned = placement.orientation_axes.index(stored)
        found.append((placement.axis_order.index(turned), flipped != placement.orientation_flips[turned]))
    cut = next(axis for axis, (prepared, _) in enumerate(found) if prepared == 0)
    (row, row_against), (column, column_against) = (told for axis, told in enumerate(found) if axis != cut)
    return Turn(row > column, (not row_against, not column_against), cut)


def compared_all(
    found: Mapping[str, Scored], wanted: Mapping[str, str], labels: Labels, names: Names
) -> tuple[Picture, ...]:
    """Pictures of the wanted cases (case -> caption); a file that is gone leaves its picture out."""
    pictures = []
    for case, caption in wanted.items():
        if case in found:
            try:
                pictures.append(compared(found[case], labels, names(case), caption))
            except AutosegError:
                continue
    return tuple(pictures)


def confusion_of(found: Sequence[Scored], labels: Labels) -> Confusion | None:
    """Voxels by reference and predicted label, over as many cases as stays quick; None for regions, which overlap."""
    told = labels.without_cores
    if told.has_regions or not found:
        return None
    values = np.array(told.values)
    total, voxels, cases = np.zeros((len(values), len(values)), np.int64), 0, 0
    for entry in found:
        if voxels > MOST_COUNTED:
            break
        counted = _counted(entry, labels, values)
        if counted is not None:
            total, voxels, cases = total + counted, voxels + int(counted.sum()), cases + 1
    by_value = {members[0]: name for name, members in values_of(told).items()}
    names = tuple("background" if value == 0 else by_value.get(value, str(value)) for value in told.values)
    return Confusion(names, total, cases) if cases else None


def _counted(entry: Scored, labels: Labels, values: NDArray[np.int64]) -> NDArray[np.int64] | None:
    try:
        mask = read_labels(entry.mask).labels.reshape(-1)
        reference = whole_objects(read_reference(entry.case, labels)[0], labels).labels.reshape(-1)
    except AutosegError:
        return None
    if mask.shape != reference.shape:
        return None
    order = np.argsort(values)
    row, column = (
        np.searchsorted(values[order], array.astype(np.int64)).clip(0, len(values) - 1) for array in (reference, mask)
    )
    known = (values[order][row] == reference) & (values[order][column] == mask)  # without ignored voxels
    pairs = order[row[known]] * len(values) + order[column[known]]
    return np.bincount(pairs, minlength=len(values) ** 2).reshape(len(values), len(values))


# ------------------------------------------------------------------------------------------------------- a dataset


def sample_of(dataset: Dataset, fingerprint: Fingerprint, names: Names) -> Sample:
    """Thumbnails and intensities of a few cases, spread over the dataset."""
    pictures: list[Picture] = []
    values: dict[str, dict[str, list[NDArray[np.float32]]]] = {channel: {} for channel in fingerprint.channels}
    by_value = values_of(fingerprint.labels)
    for case in _picked(dataset, fingerprint):
        try:
            volume, labels = read_image(case.images), read_case_labels(case, dataset.labels)
        except AutosegError:
            continue
        if volume.image.shape[1:] != labels.labels.shape:
            continue
        pictures.append(thumbnail(look_at(names(case.id), volume.image[0], labels.labels, volume.geometry), by_value))
        for channel, stored in zip(fingerprint.channels, volume.image, strict=False):
            image = stored if is_calibrated(channel) else _scaled(stored)
            for label, members in fingerprint.labels.classes.items():
                found = image[np.isin(labels.labels, members)]
                if found.size:
                    values[channel].setdefault(label, []).append(found[:: max(1, found.size // _VALUES)])
    return Sample(
        tuple(pictures), {channel: _histograms(per_label) for channel, per_label in values.items() if per_label}
    )


def _scaled(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image with its 1 % quantile at 0 and its 99 % quantile at 1, for where scales are arbitrary."""
    low, high = (
        float(value) for value in np.nanpercentile(image.reshape(-1)[:: max(1, image.size // 1_000_000)], (1, 99))
    )
    return ((image - low) / max(high - low, 1e-6)).astype(np.float32)


def _picked(dataset: Dataset, fingerprint: Fingerprint) -> Iterator[Case]:
    """Cases at even distances, as long as they stay quick to read."""
    sizes = {case.case: int(np.prod(case.shape)) * len(fingerprint.channels) for case in fingerprint.cases}
    cases = [case for case in dataset.cases if case.labelled and case.id in sizes]
    places: Sequence[int] = (
        np.unique(np.linspace(0, len(cases) - 1, min(THUMBNAILS, len(cases))).round().astype(int)).tolist()
        if cases
        else []
    )
    read = 0
    for place in places:
        read += sizes[cases[place].id]
        if read > MOST_VOXELS and place != places[0]:
            return
        yield cases[place]


def _histograms(per_label: Mapping[str, Sequence[NDArray[np.float32]]]) -> dict[str, tuple[list[float], list[float]]]:
    """Label -> middles of the bins, and the share of its voxels in each; bins are common to all labels."""
    joined = {label: np.concatenate(parts) for label, parts in per_label.items()}
    everything = np.concatenate(list(joined.values()))
    everything = everything[np.isfinite(everything)]
    if not everything.size:
        return {}
    low, high = (float(value) for value in np.percentile(everything, (0.5, 99.5)))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    return {
        label: (middles, (np.histogram(found, edges)[0] / max(found.size, 1)).tolist())
        for label, found in joined.items()
    }
