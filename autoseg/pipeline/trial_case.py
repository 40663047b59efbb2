"""An image on which exported networks are tried: one that was held back, or one that is made up."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from autoseg.dataset.folds import read_splits
from autoseg.dataset.readers import read_geometry, read_image
from autoseg.errors import AutosegError
from autoseg.files import read_record
from autoseg.progress import Progress
from autoseg.records import Case, Configuration, Dataset, Geometry, ModelHeader, Volume
from autoseg.records.exported import TrialImage
from autoseg.workspace import Workspace

#: Headers that are looked at for the smallest image.
MOST_HEADERS = 50

#: Size of a made-up image, in patches along each axis: several tiles, and a border.
PATCHES = 1.3

#: Slices of a made-up image for a network that sees slices.
SLICES = 4

#: Size of what can be seen in a made-up image, as a share of the patch.
BLOB_SHARE = 1 / 12


@dataclass(frozen=True, eq=False)
class Trial:
    """An image, and where it is from."""

    volume: Volume
    origin: TrialImage
    missing: tuple[int, ...] = ()  # channels without a file


def trial(header: ModelHeader, work: Workspace | None, images: Sequence[Path], progress: Progress) -> Trial:
    """The given image (one file per channel); else a case of the work folder that was held back; else a made-up one.

    Cases of the work folder count if they have the model's channels and labels. The smallest is taken.
    """
    if images:
        return Trial(read_image(tuple(images)), "given image")
    if work is not None and work.dataset.exists():
        dataset = read_record(work.dataset, Dataset)
        if (dataset.channels, dataset.labels) == (header.channels, header.labels):
            cases, origin = _candidates(header, dataset, work)
            case = _smallest(cases)
            if case is not None:
                try:
                    return Trial(read_image(case.images), origin, case.missing)
                except AutosegError as error:
                    progress.warn(f"{case.id} cannot be read, and another image is made up: {error}")
    return Trial(made_up(header), "made-up image")


def _candidates(header: ModelHeader, dataset: Dataset, work: Workspace) -> tuple[list[Case], TrialImage]:
    """Cases that no network of the model was trained on, the test cases among them; else all cases."""
    test = list(dataset.test_cases)
    names = [re.search(r"\.fold_(\d+)", member.name) for member in header.members]
    folds = read_splits(work.splits) if work.splits.exists() else ()
    numbers = {int(name[1]) for name in names if name is not None}
    if all(names) and numbers and max(numbers) < len(folds):
        unseen = set.intersection(*(set(folds[number].val) for number in numbers))
        test += [case for case in dataset.cases if case.id in unseen]
    return (test, "held-out case") if test else (list(dataset.cases), "case of the dataset")


def _smallest(cases: Sequence[Case]) -> Case | None:
    sizes = []
    for case in cases[:MOST_HEADERS]:
        try:
            sizes.append((math.prod(read_geometry(case.images[0])[0].shape), case.id, case))
        except AutosegError:
            continue
    return min(sizes, default=(0, "", None))[2]


# ------------------------------------------------------------------------------------------------------- made up


def made_up(header: ModelHeader) -> Volume:
    """An image of smooth noise on the grid of the model's first configuration, with intensities like those it knows."""
    configuration = header.members[0].configuration
    shape, spacing = _grid(configuration)
    generator = np.random.default_rng(0)
    patch = configuration.patch_size[-2:]
    channels = [
        _channel(generator, shape, max(1.0, min(patch) * BLOB_SHARE), header, channel)
        for channel in range(len(header.channels))
    ]
    if header.fingerprint.orientations == ("flat",):
        channels = [channel[:1] for channel in channels]
        rows: NDArray[np.float64] = np.eye(4)
    else:
        rows = np.diag([*spacing[::-1], 1.0])
    affine = tuple(tuple(float(value) for value in row) for row in rows)
    image = np.stack(channels)
    flat = header.fingerprint.orientations == ("flat",)
    z, y, x = image.shape[1:]
    return Volume(image, Geometry.model_validate({"shape": (z, y, x), "affine": affine, "flat": flat}))


def _grid(configuration: Configuration) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Shape and spacing of the file's axes (Z, Y, X) that become a little more than a patch in the network's."""
    preparation = configuration.preparation
    prepared = [math.ceil(PATCHES * size) for size in configuration.patch_size]
    sizes = prepared if configuration.dimensions == 3 else [SLICES, *prepared]
    shape, spacing = [1, 1, 1], [1.0, 1.0, 1.0]
    for axis, size, step in zip(preparation.axis_order, sizes, preparation.spacing, strict=True):
        shape[axis] = size
        spacing[axis] = preparation.spacing[1] if step is None else step
    return (shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2])


def _channel(
    generator: np.random.Generator, shape: Sequence[int], blob: float, header: ModelHeader, channel: int
) -> NDArray[np.float32]:
    """Blobs and grain, between the percentiles 0.5 and 99.5 of the training data's foreground."""
    statistics = header.members[0].configuration.preparation.intensities[channel]
    blobs = gaussian_filter(generator.standard_normal(shape), blob)
    mixed = blobs / max(float(blobs.std()), 1e-6) + 0.2 * generator.standard_normal(shape)
    low, high = statistics.percentile_00_5, max(statistics.percentile_99_5, statistics.percentile_00_5 + 1e-3)
    values = low + (high - low) * (np.clip(mixed, -2.5, 2.5) + 2.5) / 5
    return values.astype(np.float32)
