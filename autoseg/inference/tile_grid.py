"""The tiles of a volume, their mirrored copies, and how many patches that makes. Arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from autoseg.arrays.tiles import padding, tile_starts

#: First voxel of a tile, in padded voxels (Z, Y, X).
Start = tuple[int, int, int]


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one volume. A 2D patch is a patch of one slice, and every slice is visited."""

    shape: tuple[int, int, int]  # (Z, Y, X) of the unpadded volume
    patch: tuple[int, int, int]
    dimensions: int  # spatial axes that the network sees: 2 or 3
    pads: tuple[tuple[int, int], ...]  # voxels before and after, per axis
    starts: tuple[tuple[int, ...], ...]  # per axis, in padded voxels
    flat_axis: int = 0  # the one that a 2D network does not see

    @property
    def padded_shape(self) -> tuple[int, int, int]:
        """Shape of the padded volume."""
        z, y, x = (size + before + after for size, (before, after) in zip(self.shape, self.pads, strict=True))
        return (z, y, x)

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return math.prod(len(starts) for starts in self.starts)


def tile_grid(shape: Sequence[int], patch_size: Sequence[int], step: float = 0.5, flat_axis: int = 0) -> TileGrid:
    """The tiles that cover a volume of `shape` (Z, Y, X).

    `patch_size` has three numbers, or two for a network that sees slices; `step` is the distance of tiles as a share of
    the patch. A volume smaller than the patch is padded with zeros around its centre. A 2D network does not see along
    `flat_axis`. Raises ValueError for a patch of other than two or three axes.
    """
    z, y, x = shape
    patch = tuple(patch_size)
    if len(patch) == 2:
        patch = (*patch[:flat_axis], 1, *patch[flat_axis:])
    if len(patch) != 3:
        raise ValueError(f"a patch of {len(patch_size)} axes; it must have 2 or 3")
    pads = padding((z, y, x), patch)
    padded = [size + before + after for size, (before, after) in zip((z, y, x), pads, strict=True)]
    starts = tuple(tuple(tile_starts(size, length, step)) for size, length in zip(padded, patch, strict=True))
    return TileGrid((z, y, x), (patch[0], patch[1], patch[2]), len(patch_size), pads, starts, flat_axis)


def mirror_sets(mirror_axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All subsets of the axes, the empty one first: the mirrored copies over which scores are averaged."""
    axes = tuple(sorted(set(mirror_axes)))
    return [subset for count in range(len(axes) + 1) for subset in combinations(axes, count)]
