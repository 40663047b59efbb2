"""Comparing the grids of two files in millimetres, whatever their headers look like."""

from __future__ import annotations

import itertools

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from autoseg.records import Geometry

#: ITK's and DICOM's world has x to the left and y to the back; ours, NIfTI's, the other way round.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

#: Grids nearer than this part of the smallest voxel edge are the same: headers store float32 angles and offsets, and
#: programs round them differently. A thousandth of a voxel at each end of 500 slices is well inside.
SAME_GRID_VOXELS = 0.05

#: From here on the image and the labels show different anatomy.
DIFFERENT_GRID_VOXELS = 0.5

#: Axes further than this from right angles are told of: headers in float32 are off by far less.
SKEW_DEGREES = 0.05


#: Voxel edges in mm that something real may have (a thousandth of a nanometre to a kilometre), and how far away it is.
VOXEL_EDGES_MM = (1e-9, 1e6)
FARTHEST_MM = 1e9


def spans_space(matrix: NDArray[np.float64]) -> bool:
    """Whether a 4x4 affine places voxels in space: finite, of possible lengths, its axes not nearly in one plane."""
    least, most = VOXEL_EDGES_MM
    # false for NaN as well
    if not (np.abs(matrix[:3, :3]) <= most).all() or not (np.abs(matrix[:3, 3]) <= FARTHEST_MM).all():
        return False
    edges = np.linalg.norm(matrix[:3, :3], axis=0)
    return bool(edges.min() >= least) and abs(float(np.linalg.det(matrix[:3, :3] / edges))) > 1e-3


def skew_degrees(geometry: Geometry) -> float:
    """By how many degrees the axes of a grid are off right angles, at most."""
    directions = geometry.matrix[:3, :3] / np.linalg.norm(geometry.matrix[:3, :3], axis=0)
    cosines = directions.T @ directions
    return float(np.degrees(np.arcsin(np.clip(np.abs(cosines - np.diag(np.diag(cosines))).max(), 0.0, 1.0))))


def skew_notes(geometry: Geometry) -> tuple[str, ...]:
    """A note where the axes are not at right angles, as after a tilted scan or a registration with shear."""
    degrees = skew_degrees(geometry)
    if degrees <= SKEW_DEGREES:
        return ()
    return (
        f"its axes are not at right angles ({degrees:.1f} degrees off): its voxels are taken as they are stored, along "
        "the nearest axes that are; the mask keeps its header",
    )


def smallest_voxel_edge(geometry: Geometry) -> float:
    """Smallest voxel size in mm; a 2D image has only its two in-plane sizes."""
    sizes = np.linalg.norm(geometry.matrix[:3, :3], axis=0)
    return float(sizes[:2].min() if geometry.flat else sizes.min())


def corners(geometry: Geometry) -> NDArray[np.float64]:
    """The outer corners of the grid in RAS+ mm, (8, 3), in the order of the file's axes (i, j, k)."""
    ends = [(-0.5, size - 0.5) for size in reversed(geometry.shape)]
    indices = np.array(list(itertools.product(*ends)))
    return np.asarray(indices @ geometry.matrix[:3, :3].T + geometry.matrix[:3, 3])


def corner_distance_mm(a: Geometry, b: Geometry) -> float:
    """Largest distance in mm between corresponding outer corners of two grids.

    Corresponding means the same end of the same file axis: a grid stored with a flipped axis is far away, although it
    may cover the same space, because its voxels with equal indices are far apart.
    """
    return float(np.linalg.norm(corners(a) - corners(b), axis=1).max())


def axis_codes(geometry: Geometry) -> str:
    """Orientation of the file axes (i, j, k) in nibabel's letters: "RAS", "LPS", …; "flat" for a 2D image."""
    if geometry.flat:
        return "flat"
    letters: tuple[str | None, ...] = orientations.aff2axcodes(geometry.matrix)  # type: ignore[no-untyped-call]
    return "".join(letter or "?" for letter in letters)


def affine_rows(matrix: NDArray[np.float64]) -> tuple[tuple[float, float, float, float], ...]:
    """The rows of a 4x4 array as the tuples that `Geometry.affine` holds."""
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in matrix)
