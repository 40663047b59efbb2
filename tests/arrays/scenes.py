"""Made-up scenes of objects that touch."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np
from numpy.typing import NDArray


def touching(
    seed: int, shape: Sequence[int], objects: int, radii: tuple[float, float], smallest: int = 30
) -> NDArray[np.uint32]:
    """Ids (Z, Y, X) of discs or ellipsoids at random places; where they overlap each gets what is nearer to it.

    So they touch along surfaces, straight or bent. Every object is in one piece of at least `smallest` voxels.
    """
    generator = np.random.default_rng(seed)
    grids = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in shape), indexing="ij", sparse=True)
    ids, nearest = np.zeros(tuple(shape), dtype=np.uint32), np.ones(tuple(shape), dtype=np.float32)
    for number in range(1, objects + 1):
        radius = generator.uniform(*radii) * generator.uniform(0.8, 1.25, len(shape))
        centre = [generator.uniform(0, size - 1) for size in shape]
        distance = sum(
            ((grid - middle) / (length if size > 1 else 1.0)) ** 2
            for grid, middle, length, size in zip(grids, centre, radius, shape, strict=True)
        )
        inside = distance < nearest
        ids[inside], nearest[inside] = number, distance[inside]
    return whole_objects(ids, smallest)


def whole_objects(ids: NDArray[np.uint32], smallest: int) -> NDArray[np.uint32]:
    """The largest piece of each object, where it is large enough."""
    pieces = cc3d.connected_components(np.pad(ids, 1), connectivity=26)[1:-1, 1:-1, 1:-1]
    sizes = np.bincount(pieces.reshape(-1))
    sizes[0] = 0
    kept = np.zeros_like(ids)
    for number in np.unique(ids[ids > 0]):
        own = np.unique(pieces[ids == number])
        best = own[np.argmax(sizes[own])]
        if sizes[best] >= smallest:
            kept[pieces == best] = number
    return kept
