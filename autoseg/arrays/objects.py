"""Objects found again in a map of cores and borders, their labels, and the table of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from autoseg.arrays.components import pieces_of
from autoseg.records import FoundObject, Geometry

#: Voxels that are counted together.
BLOCK_VOXELS: Final = 1 << 20

#: Ids up to which a table of all of them is no matter.
FEW_NUMBERS: Final = 1 << 16

#: A voxel's neighbours in flooding: those that make pieces, so that every voxel of a piece is reached.
_TOUCHING = np.ones((3, 3, 3), dtype=np.bool_)


def find_objects(
    foreground: NDArray[np.bool_],
    core: NDArray[np.bool_],
    spacing: Sequence[float],
    smallest_core: float = 1,
    smallest: float = 1,
) -> NDArray[np.uint32]:
    """Ids 1, 2, … of the objects (Z, Y, X), 0 where none is.

    Each connected core is an object, and each voxel of the foreground belongs to the nearest core of those that it is
    connected to; so objects meet in the middle between their cores. A connected part of the foreground without any core
    is an object too.

    Args:
        foreground, core: (Z, Y, X) voxels of any object, and of cores.
        spacing: voxel size in mm.
        smallest_core: voxels; smaller cores do not count where a part of the foreground has one that is not.
        smallest: voxels; what is smaller is no object.

    Only parts of the foreground with several cores are divided, each in its box. Memory is about 13 bytes a voxel, and
    about 40 for each in the box of the largest of these.
    """
    ids, count = pieces_of(foreground | core)
    if core.any():
        _divide(ids, count, core, spacing, smallest_core)
    return _large_enough(ids, smallest) if smallest > 1 else ids


def _divide(
    ids: NDArray[np.uint32], count: int, core: NDArray[np.bool_], spacing: Sequence[float], smallest_core: float
) -> None:
    """Divide the parts of the foreground that have several cores, in place."""
    seeds, cores = pieces_of(core)
    owner = np.zeros(cores + 1, dtype=np.int64)
    owner[seeds[core]] = ids[core]
    sizes = np.asarray(cc3d.statistics(seeds, no_slice_conversion=True)["voxel_counts"], dtype=np.int64)
    counted = sizes[: cores + 1] >= smallest_core
    counted[0] = False
    crowded = np.flatnonzero(np.bincount(owner[counted], minlength=count + 1) > 1)
    if not crowded.size:
        return
    boxes, next_id = cc3d.statistics(ids)["bounding_boxes"], count + 1
    for group in crowded:  # they get numbers that no other group has, and so may be written over
        box = boxes[int(group)]
        inside = ids[box] == group
        markers, found = _numbered(np.where(inside & counted[seeds[box]], seeds[box], np.uint32(0)))
        split = _divided(markers, inside, spacing)
        # the first keeps the number of the whole, so that all numbers are used
        numbers = np.concatenate([[0, group], np.arange(next_id, next_id + found - 1)]).astype(np.uint32)
        ids[box][inside] = numbers[split[inside]]
        next_id += found - 1


def _large_enough(ids: NDArray[np.uint32], smallest: float) -> NDArray[np.uint32]:
    """The objects of so many voxels or more, with numbers 1, 2, … in the same order."""
    sizes = np.asarray(cc3d.statistics(ids, no_slice_conversion=True)["voxel_counts"])
    kept = sizes >= smallest
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.uint32)
    found: NDArray[np.uint32] = numbers[ids]
    return found


def _numbered(markers: NDArray[np.uint32]) -> tuple[NDArray[np.int32], int]:
    """The markers with numbers 1, 2, …, and how many there are."""
    inside = markers > 0
    occurring, places = np.unique(markers[inside], return_inverse=True)
    numbered = np.zeros(markers.shape, dtype=np.int32)
    numbered[inside] = places.reshape(-1) + 1
    return numbered, len(occurring)


def _divided(markers: NDArray[np.int32], inside: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.int32]:
    """The number of the marker that each voxel of a connected part belongs to.

    It is that of the nearest marker, as the crow flies. What is cut off from its marker thereby, because the crow flew
    over voxels outside, is flooded from the rest.
    """
    places = distance_transform_edt(
        markers == 0, sampling=tuple(float(size) for size in spacing), return_distances=False, return_indices=True
    )
    nearest = np.where(inside, markers.reshape(-1)[np.ravel_multi_index(tuple(places), markers.shape)], np.int32(0))
    del places
    parts, count = pieces_of(nearest)
    joined = np.zeros(count + 1, dtype=np.bool_)
    joined[parts[markers > 0]] = True
    kept: NDArray[np.int32] = np.where(joined[parts], nearest, np.int32(0))
    rest = inside & (kept == 0)
    if not rest.any():
        return kept
    from skimage.segmentation import watershed  # takes long to import, and few datasets have objects

    distance = edt.edt(np.ascontiguousarray(kept == 0), anisotropy=tuple(float(size) for size in spacing))
    flooded: NDArray[np.int32] = watershed(distance, kept, connectivity=_TOUCHING, mask=inside)  # type: ignore[no-untyped-call]
    return flooded


def labels_of_objects(ids: NDArray[np.integer], values: NDArray[np.integer], among: Collection[int]) -> dict[int, int]:
    """The value that most voxels of each object have, of those in `among`; of equally many the smallest.

    `ids` and `values` are (Z, Y, X). An object without a voxel of any of these values is not in the answer.
    """
    ascending = np.array(sorted(among), dtype=np.int64)
    if not ascending.size or not ids.size:
        return {}
    numbered, occurring = _small_numbers(ids)
    counts = np.zeros(len(occurring) * len(ascending), dtype=np.int64)
    for own, found in _blocks(numbered, values):
        counted = (own > 0) & np.isin(found, ascending)
        places = own[counted].astype(np.int64) * len(ascending) + np.searchsorted(ascending, found[counted])
        np.add.at(counts, *np.unique(places, return_counts=True))
    by_object = counts.reshape(-1, len(ascending))
    best = by_object.argmax(axis=1)  # of equal ones the first
    return {int(occurring[row]): int(ascending[best[row]]) for row in np.flatnonzero(by_object.any(axis=1))}


def object_table(
    ids: NDArray[np.integer],
    values: Mapping[int, int],
    names: Mapping[int, str],
    geometry: Geometry,
    sure: Mapping[int, NDArray[np.uint8]] | None = None,
) -> tuple[FoundObject, ...]:
    """A row for each object of a map (k, j, i), axes as stored, in the order of the ids.

    Args:
        ids: 0 is no object.
        values: value of each object, by id.
        names: name of each value.
        geometry: the grid of the map.
        sure: for each value the probability (k, j, i) that a voxel has it, 255 is 1; its mean over the voxels of an
            object with that value is the object's score.
    """
    if not ids.any():
        return ()
    numbered, occurring = _small_numbers(ids)
    told = cc3d.statistics(numbered)
    sums = None if sure is None else _sums(numbered, occurring, values, sure)
    sizes = np.array(told["voxel_counts"], dtype=np.int64)
    sizes[0] = 0
    rows = []
    for place in np.flatnonzero(sizes):
        voxels, centre = int(sizes[place]), np.asarray(told["centroids"][place], dtype=np.float64)
        z, y, x = ((int(side.start), int(side.stop)) for side in told["bounding_boxes"][place])
        number = int(occurring[place])
        rows.append(
            FoundObject(
                id=number,
                label=names[values[number]],
                voxels=voxels,
                ml=voxels * geometry.voxel_ml,
                centre=(float(centre[0]), float(centre[1]), float(centre[2])),
                centre_mm=_in_world(centre, geometry),
                box=(z, y, x),
                score=None if sums is None else float(sums[place] / (255 * voxels)),
            )
        )
    return tuple(rows)


def _sums(
    numbered: NDArray[np.uint32],
    occurring: NDArray[np.integer],
    values: Mapping[int, int],
    sure: Mapping[int, NDArray[np.uint8]],
) -> NDArray[np.float64]:
    """The sum over each object of the probability of its value."""
    value_of = np.array([values.get(int(number), 0) for number in occurring])
    sums = np.zeros(len(occurring))
    for value, whole in sure.items():
        counted = value_of == value
        for own, probability in _blocks(numbered, whole):
            inside = counted[own]
            found, places = np.unique(own[inside], return_inverse=True)
            sums[found] += np.bincount(places.reshape(-1), weights=probability[inside])
    return sums


def _blocks(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """The same parts of arrays of one shape, flat, one after the other: what is made of each takes little memory."""
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, BLOCK_VOXELS):
        yield tuple(array[start : start + BLOCK_VOXELS] for array in flat)


def _small_numbers(ids: NDArray[np.integer]) -> tuple[NDArray[np.uint32], NDArray[np.integer]]:
    """The map with small numbers, which may be the ids themselves, and the id of each number."""
    largest = int(ids.max())
    if largest < ids.size and largest < max(FEW_NUMBERS, ids.size // 16):  # tables of them are small
        return np.ascontiguousarray(ids, dtype=np.uint32), np.arange(largest + 1)
    found = np.zeros(ids.shape, dtype=np.uint32)
    inside = ids > 0
    occurring, places = np.unique(ids[inside], return_inverse=True)
    found[inside] = places.reshape(-1) + 1
    return found, np.concatenate([np.zeros(1, dtype=occurring.dtype), occurring])


def _in_world(centre: NDArray[np.float64], geometry: Geometry) -> tuple[float, float, float]:
    """RAS+ millimetres of a place (k, j, i)."""
    x, y, z, _ = geometry.matrix @ np.array([centre[2], centre[1], centre[0], 1.0])
    return (float(x), float(y), float(z))
