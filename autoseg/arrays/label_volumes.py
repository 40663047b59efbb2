"""How large each label of a mask is, in how many pieces, and where it runs into the border of the image."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.components import CONNECTIVITY, MARGIN
from autoseg.arrays.crop import bounding_box, crop
from autoseg.arrays.labels import encode
from autoseg.records import Labels, LabelVolume

#: For each axis (Z, Y, X) of an array what its first and its last plane are called.
SideNames = Sequence[tuple[str, str]]


def label_volumes(
    mask: NDArray[np.integer], voxel_ml: float, labels: Labels, sides: SideNames
) -> dict[str, LabelVolume]:
    """Each label or region of a mask.

    Args:
        mask: values of the label files, (Z, Y, X).
        voxel_ml: volume of a voxel.
        labels: names and values; a region is the union of its values.
        sides: names of the first and last plane of each axis. An axis of one plane has no border.

    Raises DatasetError for a value that is no label's.
    """
    indices = encode(mask, labels)
    inner = np.pad(crop(indices, bounding_box(indices > 0)), MARGIN)  # see there
    counts, pieces = _counted(inner, len(labels.values))
    faces = _faces(indices, sides)
    found = {}
    for name, members in labels.foreground.items():
        voxels = int(counts[list(members)].sum())
        components = int(pieces[members[0]]) if len(members) == 1 else _united(inner, members) if voxels else 0
        border = tuple(side for side, present in faces if not present.isdisjoint(members))
        found[name] = LabelVolume(voxels=voxels, ml=voxels * voxel_ml, components=components, border=border)
    return found


def _counted(inner: NDArray[np.int16], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Voxels and components of each index, found in one pass: neighbours of another index are apart."""
    numbered, pieces = cc3d.connected_components(inner, connectivity=CONNECTIVITY, return_N=True)
    sizes = np.asarray(cc3d.statistics(numbered, no_slice_conversion=True)["voxel_counts"], dtype=np.int64)
    owner = np.zeros(pieces + 1, dtype=np.int64)
    for numbers, indices in zip(numbered, inner, strict=True):  # plane by plane: an index takes 8 bytes a voxel
        owner[numbers] = indices
    voxels = np.bincount(owner[1:], weights=sizes[1:], minlength=count).astype(np.int64)
    return voxels, np.bincount(owner[1:], minlength=count).astype(np.int64)


def _united(inner: NDArray[np.int16], members: tuple[int, ...]) -> int:
    """Components of a region."""
    region = np.isin(inner, members)
    return int(cc3d.connected_components(np.ascontiguousarray(region), connectivity=CONNECTIVITY).max())


def _faces(indices: NDArray[np.int16], sides: SideNames) -> list[tuple[str, set[int]]]:
    """The sides of the image with the indices in their planes."""
    found = []
    for axis, names in enumerate(sides):
        if indices.shape[axis] > 1:
            for name, plane in zip(names, (0, -1), strict=True):
                found.append((name, {int(value) for value in np.unique(indices.take(plane, axis=axis))}))
    return found
