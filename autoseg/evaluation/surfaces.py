"""Distances between the surfaces of two masks, in millimetres.

A voxel is on the surface when it belongs to the mask and one of its face neighbours does not; what lies outside the
volume belongs to no mask. This is MONAI's definition, so the figures can be compared with its metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

#: Distance, in voxels, up to which the neighbours of a surface voxel are looked at one by one.
NEAR_VOXELS = 6.0

#: Farther surface voxels are searched with a tree, unless there are more than one to so many voxels of the box: then
#: the distance transform of the whole box is made. A voxel of that takes 30 ns, a search about 3 µs (measured).
VOXELS_PER_SEARCH = 100

#: Relative allowance for rounding in comparisons with a tolerance: five voxels of 0.2 mm are 1 mm.
ROUNDING = 1e-6

#: Percentile of the robust Hausdorff distance.
HAUSDORFF_PERCENTILE = 95.0


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """For each surface voxel the distance to the other surface, in mm."""

    from_reference: NDArray[np.float64]  # (N,): reference surface voxels, to the prediction's surface
    from_prediction: NDArray[np.float64]  # (M,): prediction surface voxels, to the reference's surface


def surface_distances(
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    spacing: Sequence[float],
    axes: Sequence[int] = (0, 1, 2),
) -> SurfaceDistances | None:
    """Distances between the surfaces of two masks (Z, Y, X), `spacing` in mm; None where either mask is empty.

    `axes` are the axes along which a surface is looked for: a 2D image has none across its only slice. The masks may
    be cropped to a box that holds both.
    """
    nearby = _neighbours(tuple(float(size) for size in spacing), tuple(axes))
    # with a margin, so that looking at a neighbour never leaves the array
    margin = [(width, width) for width in nearby.margin]
    places, others = (surface_places(np.pad(mask, margin), axes) for mask in (reference, prediction))
    if not places.size or not others.size:
        return None
    shape = tuple(size + 2 * width for size, width in zip(reference.shape, nearby.margin, strict=True))
    first, second = (np.zeros(shape, dtype=np.bool_) for _ in range(2))
    first.reshape(-1)[places] = True
    second.reshape(-1)[others] = True
    return SurfaceDistances(
        _to_surface(places, second, others, nearby, spacing), _to_surface(others, first, places, nearby, spacing)
    )


def surface_places(mask: NDArray[np.bool_], axes: Sequence[int] = (0, 1, 2)) -> NDArray[np.intp]:
    """Flat indices, ascending, of the voxels of a mask (Z, Y, X) with a face neighbour outside it along one of `axes`.

    The mask must not touch the ends of the array along these axes: pad it.
    """
    flat = mask.reshape(-1)
    places = np.flatnonzero(flat)
    inner = np.ones(places.size, dtype=np.bool_)
    for axis in axes:
        step = mask.strides[axis] // mask.itemsize
        # only the mask's own voxels are looked at: it fills little of its box
        inner &= flat.take(places - step)
        inner &= flat.take(places + step)
    surface: NDArray[np.intp] = places[~inner]
    return surface


def normalized_surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Share of both surfaces within the tolerance of the other (Nikolov et al. 2021); all voxels count alike."""
    limit = tolerance_mm * (1 + ROUNDING)
    near = int((distances.from_reference <= limit).sum()) + int((distances.from_prediction <= limit).sum())
    return near / (distances.from_reference.size + distances.from_prediction.size)


def hd95(distances: SurfaceDistances) -> float:
    """Robust Hausdorff distance in mm: the larger of the two directed 95th percentiles."""
    directed = (distances.from_reference, distances.from_prediction)
    return max(float(np.percentile(values, HAUSDORFF_PERCENTILE)) for values in directed)


def mean_distance(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance (ASSD) in mm: the mean over the voxels of both surfaces."""
    total = float(distances.from_reference.sum()) + float(distances.from_prediction.sum())
    return total / (distances.from_reference.size + distances.from_prediction.size)


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """Voxels around a voxel, the nearest first."""

    offsets: NDArray[np.intp]  # (N, 3)
    distances: NDArray[np.float64]  # (N,), mm
    margin: tuple[int, int, int]  # the farthest along each axis, at least the next one


@lru_cache(maxsize=16)
def _neighbours(spacing: tuple[float, ...], axes: tuple[int, ...]) -> _Neighbours:
    """The neighbours along `axes` up to NEAR_VOXELS voxels, which differ in size: their geometric mean counts."""
    scale = np.asarray(spacing)
    limit = NEAR_VOXELS * float(np.exp(np.mean(np.log(scale[list(axes)]))))
    z, y, x = (int(limit // size) if axis in axes else 0 for axis, size in enumerate(spacing))
    grid = np.stack(np.meshgrid(*(np.arange(-size, size + 1) for size in (z, y, x)), indexing="ij"), axis=-1)
    offsets = grid.reshape(-1, 3)
    lengths = np.sqrt(((offsets * scale) ** 2).sum(axis=1))
    order = np.argsort(lengths, kind="stable")
    order = order[(lengths[order] <= limit) & (lengths[order] > 0)]
    margin_z, margin_y, margin_x = (max(size, 1) if axis in axes else 0 for axis, size in enumerate((z, y, x)))
    return _Neighbours(offsets[order], lengths[order], (margin_z, margin_y, margin_x))


def _to_surface(
    places: NDArray[np.intp],
    surface: NDArray[np.bool_],
    others: NDArray[np.intp],
    nearby: _Neighbours,
    spacing: Sequence[float],
) -> NDArray[np.float64]:
    """Distance in mm from each place to the nearest voxel of `surface` (at `others`); places are flat indices.

    Neighbours are looked at from the nearest outwards, each at all places that have found nothing yet: where two
    surfaces nearly agree, as they mostly do, a handful of looks is enough.
    """
    flat = surface.reshape(-1)
    found = np.full(places.size, np.inf)
    found[flat.take(places)] = 0.0  # most voxels of a good mask lie on the surface itself
    numbers = np.flatnonzero(np.isinf(found))
    waiting = places[numbers]
    steps = nearby.offsets @ (np.asarray(surface.strides) // surface.itemsize)
    for step, distance in zip(steps.tolist(), nearby.distances.tolist(), strict=True):
        if not numbers.size:
            return found
        hit = flat.take(waiting + step)
        if hit.any():
            found[numbers[hit]] = distance
            waiting, numbers = waiting[~hit], numbers[~hit]
    if numbers.size:
        found[numbers] = _far(waiting, surface, others, spacing)
    return found


def _far(
    places: NDArray[np.intp], surface: NDArray[np.bool_], others: NDArray[np.intp], spacing: Sequence[float]
) -> NDArray[np.float64]:
    """The same for places that have no voxel of the surface near them."""
    if places.size * VOXELS_PER_SEARCH > surface.size:
        transform: NDArray[np.float32] = edt.edt(
            ~surface, anisotropy=tuple(float(size) for size in spacing), black_border=False
        )
        return transform.reshape(-1)[places].astype(np.float64)
    scale = np.asarray(spacing, dtype=np.float64)
    points, tree_points = (np.stack(np.unravel_index(flat, surface.shape), axis=1) * scale for flat in (places, others))
    tree = cKDTree(tree_points, leafsize=32, balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(points)[0], dtype=np.float64)
