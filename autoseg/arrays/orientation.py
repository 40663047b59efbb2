"""Turn stored arrays into one anatomical orientation and back, by views only.

Oriented arrays have axes (Z, Y, X) = (towards superior, towards anterior, towards right): the closest canonical
orientation of nibabel, with the array axes in reverse order of the world axes. Oblique and sheared grids get the
nearest permutation with flips; their voxels are never interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import DatasetError
from autoseg.records import Geometry, Shape, Spacing

ScalarT = TypeVar("ScalarT", bound=np.generic)


@dataclass(frozen=True)
class Orientation:
    """How stored axes become oriented ones: oriented axis `a` is stored axis `axes[a]`, reversed where `flips[a]`."""

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]


#: Leaves an array as it is stored.
STORED = Orientation((0, 1, 2), (False, False, False))


def closest_canonical(geometry: Geometry) -> Orientation:
    """The orientation that brings a file's array closest to RAS+, (Z, Y, X) = (S, A, R).

    The rule is nibabel's: of the affine's directions take the nearest orthogonal matrix (polar decomposition), then
    give each file axis the world axis that it follows most, the most decided file axis first. A 2D image has no
    patient axes and stays as stored. Raises DatasetError if the affine is singular.
    """
    if geometry.flat:
        return STORED
    directions = nearest_rotation(geometry)
    axes, flips = [0, 0, 0], [False, False, False]
    # strongest axis first, stable on ties, so that the answer does not depend on the order of the file's axes
    for file_axis in np.argsort(-np.max(directions**2, axis=0), kind="stable"):
        column = directions[:, file_axis]
        world_axis = int(np.argmax(np.abs(column)))
        # arrays list their axes in reverse: file axis i is array axis 2, world axis R is oriented axis 2
        axes[2 - world_axis] = 2 - int(file_axis)
        flips[2 - world_axis] = bool(column[world_axis] < 0)
        directions[world_axis, :] = 0
    return Orientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))


def nearest_rotation(geometry: Geometry) -> NDArray[np.float64]:
    """The orthogonal matrix closest to the affine's axis directions: columns are file axes (i, j, k), rows R, A, S.

    Raises DatasetError if the affine is singular: two file axes then run along one line or an axis has no length.
    """
    matrix = geometry.matrix[:3, :3]
    lengths = np.linalg.norm(matrix, axis=0)
    if np.all(np.isfinite(matrix)) and np.all(lengths > 0):
        left, singular_values, right = np.linalg.svd(matrix / lengths)
        if singular_values.min() > singular_values.max() * 3 * np.finfo(np.float64).eps:
            rotation: NDArray[np.float64] = left @ right
            return rotation
    raise DatasetError(
        f"the affine is singular, its axes do not span space: {matrix.tolist()}",
        remedy="Correct the header of the file (sform or qform, spacing and directions).",
    )


def orient(array: NDArray[ScalarT], orientation: Orientation) -> NDArray[ScalarT]:
    """A view of the array with its last three axes (k, j, i) in oriented order; leading axes stay."""
    lead = array.ndim - 3
    moved = array.transpose(*range(lead), *(lead + axis for axis in orientation.axes))
    return moved[(..., *_steps(orientation))]


def unorient(array: NDArray[ScalarT], orientation: Orientation) -> NDArray[ScalarT]:
    """A view of an oriented array with its last three axes as stored: the inverse of `orient`."""
    lead = array.ndim - 3
    unflipped = array[(..., *_steps(orientation))]
    return unflipped.transpose(*range(lead), *(lead + int(axis) for axis in np.argsort(orientation.axes)))


def _steps(orientation: Orientation) -> tuple[slice, slice, slice]:
    z, y, x = (slice(None, None, -1) if flip else slice(None) for flip in orientation.flips)
    return z, y, x


def oriented_index(index: tuple[int, int, int], shape: Shape, orientation: Orientation) -> tuple[int, int, int]:
    """Where the voxel (k, j, i) of an array of that shape lies in the oriented one, (Z, Y, X)."""
    z, y, x = (
        shape[axis] - 1 - index[axis] if flip else index[axis]
        for axis, flip in zip(orientation.axes, orientation.flips, strict=True)
    )
    return z, y, x


def in_world(geometry: Geometry, voxel: tuple[int, int, int]) -> tuple[float, float, float]:
    """RAS+ mm of a voxel (k, j, i)."""
    k, j, i = voxel
    x, y, z = (geometry.matrix @ np.array([i, j, k, 1.0]))[:3]
    return round(float(x), 3), round(float(y), 3), round(float(z), 3)


def oriented_spacing(geometry: Geometry, orientation: Orientation) -> Spacing:
    """Voxel size in mm of the oriented array, (Z, Y, X)."""
    stored = geometry.spacing
    z, y, x = (stored[axis] for axis in orientation.axes)
    return z, y, x
