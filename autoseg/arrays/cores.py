"""Objects as cores and borders: what a network of ordinary label outputs learns of objects that touch.

The core of an object is what lies deeper than a margin below its surface. Cores of different objects never touch, not
even by a corner, and each object that is in one piece has one core in one piece; so its core stands for the object, and
`arrays.objects` finds the objects again. Nothing here depends on how many objects there are, or on their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter

from autoseg.arrays.components import pieces_of

#: Share of an object's depth that its margin takes at most: a small object has a core as well.
LARGEST_SHARE: Final = 0.5

#: Shares of the margin tried on the side of the background for an object whose core comes apart (at a neck or a
#: process), before the largest part of its core is taken. Towards other objects the margin stays.
TOWARDS_BACKGROUND: Final = (0.5, 0.25, 0.0)


def object_cores(ids: NDArray[np.integer], spacing: Sequence[float], margin: float) -> NDArray[np.bool_]:
    """The voxels (Z, Y, X) that belong to the core of an object.

    Args:
        ids: of the objects; 0 is none. Each connected piece of an object (touching by a corner counts) has its core.
        spacing: voxel size in mm.
        margin: distance in mm to the nearest voxel that is not the object's, above which a voxel is its core; less
            for objects whose greatest depth is below twice of it, and towards the background for those whose core would
            come apart. The end of the image is no surface.

    An object that has no voxel away from other objects may be left without a core.
    """
    pieces, count = pieces_of(ids)
    depth = depths(pieces, spacing)
    margins = np.minimum(margin, LARGEST_SHARE * deepest(pieces, depth, count))
    core = _alone(pieces, _deeper(pieces, depth, margins), count)
    apart = _parts(core, pieces, count)[2] > 1
    if not apart.any():
        return core
    far = _deeper(pieces, _depths_in_territories(pieces, spacing), margins)
    thinner = margins.copy()
    for share in TOWARDS_BACKGROUND:
        thinner[apart] = share * margins[apart]
        core = _alone(pieces, far & _deeper(pieces, depth, thinner), count)
        apart = _parts(core, pieces, count)[2] > 1
        if not apart.any():
            return core
    return _largest_parts(core, pieces, count)


def depths(pieces: NDArray[np.uint32], spacing: Sequence[float]) -> NDArray[np.float32]:
    """Distance in mm (Z, Y, X) from each voxel of a piece to the nearest voxel that is not of it; 0 outside all."""
    found: NDArray[np.float32] = edt.edt(pieces, anisotropy=tuple(float(size) for size in spacing), black_border=False)
    return found


def deepest(pieces: NDArray[np.uint32], depth: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """(count + 1,) the greatest depth of each piece, in mm; infinite for one whose surface is outside the image."""
    found = np.zeros(count + 1)
    inside = pieces > 0
    np.maximum.at(found, pieces[inside], depth[inside])
    return found


# ---------------------------------------------------------------------------------------------------------- pieces


def _deeper(pieces: NDArray[np.uint32], depth: NDArray[np.float32], margins: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Voxels deeper than the margin of their piece."""
    deep: NDArray[np.bool_] = (pieces > 0) & (depth > margins.astype(np.float32)[pieces])
    return deep


def _alone(pieces: NDArray[np.uint32], deep: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Deep voxels but for those that touch another piece's."""
    lowest, highest = _neighbours(pieces, deep)
    alone: NDArray[np.bool_] = deep & (lowest == pieces) & (highest == pieces)
    # a piece that touches others everywhere keeps what it has, if it does not touch another one of this kind
    lost = np.zeros(count + 1, dtype=np.bool_)
    lost[pieces[deep]] = True
    lost[pieces[alone]] = False
    if lost[1:].any():
        crowded = deep & lost[pieces]
        lowest, _ = _neighbours(pieces, crowded)
        alone |= crowded & (lowest == pieces)
    return alone


def _depths_in_territories(pieces: NDArray[np.uint32], spacing: Sequence[float]) -> NDArray[np.float32]:
    """`depths` as if each piece reached as far as it is the nearest one: where a piece has no neighbour it is deep."""
    places = distance_transform_edt(
        pieces == 0, sampling=tuple(float(size) for size in spacing), return_distances=False, return_indices=True
    )
    return depths(pieces.reshape(-1)[np.ravel_multi_index(tuple(places), pieces.shape)], spacing)


def _neighbours(pieces: NDArray[np.uint32], among: NDArray[np.bool_]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The smallest and the largest number of a piece that a voxel or one of its 26 neighbours has, in a mask."""
    largest = np.uint32(np.iinfo(np.uint32).max)
    lowest = minimum_filter(np.where(among, pieces, largest), size=3, mode="nearest")
    highest = maximum_filter(np.where(among, pieces, np.uint32(0)), size=3, mode="nearest")
    return lowest, highest


def _parts(
    core: NDArray[np.bool_], pieces: NDArray[np.uint32], count: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """The connected parts of all cores, the piece of each part, and how many parts each piece has."""
    parts, number = pieces_of(np.where(core, pieces, np.uint32(0)))
    owner = np.zeros(number + 1, dtype=np.int64)
    owner[parts[core]] = pieces[core]
    return parts, owner, np.bincount(owner[1:], minlength=count + 1)


def _largest_parts(core: NDArray[np.bool_], pieces: NDArray[np.uint32], count: int) -> NDArray[np.bool_]:
    """The cores with one part each: the largest, of equal ones the first."""
    parts, owner, _ = _parts(core, pieces, count)
    sizes = np.bincount(parts[core], minlength=len(owner))
    order = np.lexsort((np.arange(len(owner)), -sizes, owner))
    _, first = np.unique(owner[order], return_index=True)
    kept = np.zeros(len(owner), dtype=np.bool_)
    kept[order[first]] = True
    kept[0] = False
    found: NDArray[np.bool_] = kept[parts]
    return found
