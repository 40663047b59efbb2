"""Distances between the surfaces of two masks, in millimetres.

A voxel is on the surface when it belongs to the mask and one of its face neighbours does not; what lies outside the
volume belongs to no mask. This is MONAI's definition, so the figures can be compared with its metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

#: Distance, in voxels, up to which nearest surface voxels are searched one by one; farther ones need the whole box.
NEAR_VOXELS = 10.0

#: As many far surface voxels are still searched one by one.
FEW_POINTS = 200

#: Relative allowance for rounding in comparisons with a tolerance: five voxels of 0.2 mm are 1 mm.
ROUNDING = 1e-6

#: Percentile of the robust Hausdorff distance.
HAUSDORFF_PERCENTILE = 95.0


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """For each surface voxel the distance to the other surface, in mm."""

    from_reference: NDArray[np.float64]  # (N,): reference surface voxels, to the prediction's surface
    from_prediction: NDArray[np.float64]  # (M,): prediction surface voxels, to the reference's surface


def surface_voxels(mask: NDArray[np.bool_], axes: Sequence[int] = (0, 1, 2)) -> NDArray[np.bool_]:
    """Voxels of the mask (Z, Y, X) with a face neighbour outside it along one of `axes`, or at the array's border."""
    inner = mask.copy()
    for axis in axes:
        lower: tuple[slice, ...] = (slice(None),) * axis + (slice(None, -1),)
        upper: tuple[slice, ...] = (slice(None),) * axis + (slice(1, None),)
        inner[upper] &= mask[lower]
        inner[lower] &= mask[upper]
        border: tuple[slice | list[int], ...] = (slice(None),) * axis + ([0, -1],)
        inner[border] = False
    return mask & ~inner


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
    first, second = surface_voxels(reference, axes), surface_voxels(prediction, axes)
    if not first.any() or not second.any():
        return None
    return SurfaceDistances(_to_surface(first, second, spacing, axes), _to_surface(second, first, spacing, axes))


def normalized_surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Share of both surfaces within the tolerance of the other (Nikolov et al. 2021); all voxels count alike."""
    limit = tolerance_mm * (1 + ROUNDING)
    near = int((distances.from_reference <= limit).sum()) + int((distances.from_prediction <= limit).sum())
    return near / (distances.from_reference.size + distances.from_prediction.size)


def hd95(distances: SurfaceDistances) -> float:
    """Robust Hausdorff distance in mm: the larger of the two directed 95th percentiles."""
    directed = (distances.from_reference, distances.from_prediction)
    return max(float(np.percentile(values, HAUSDORFF_PERCENTILE)) for values in directed)


def _to_surface(
    points: NDArray[np.bool_], surface: NDArray[np.bool_], spacing: Sequence[float], axes: Sequence[int]
) -> NDArray[np.float64]:
    """Distance in mm from each voxel of `points` to the nearest voxel of `surface`, in C order of the points."""
    places = np.argwhere(points)
    found = np.zeros(len(places))
    apart = np.flatnonzero(~surface[points])  # most voxels of a good mask lie on the surface itself
    if not apart.size:
        return found
    scale = np.asarray(spacing, dtype=np.float64)
    tree = cKDTree(np.argwhere(surface) * scale, balanced_tree=False, compact_nodes=False)
    bound = NEAR_VOXELS * float(np.exp(np.mean(np.log(scale[list(axes)]))))
    found[apart] = tree.query(places[apart] * scale, distance_upper_bound=bound)[0]
    far = np.flatnonzero(np.isinf(found))
    if far.size <= FEW_POINTS:
        # without a bound the tree is slow where many surface voxels are about equally far (a speck amid a shell)
        found[far] = tree.query(places[far] * scale)[0]
    else:
        transform = edt.edt(~surface, anisotropy=tuple(scale.tolist()), black_border=False)
        found[far] = transform[tuple(places[far].T)]
    return found
