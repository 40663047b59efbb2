"""Where the tiles of a sliding window lie, and how much each voxel of a tile counts (nnU-Net, facts section 8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Standard deviation of the window along an axis, as a share of the patch (nnU-Net).
SIGMA_SHARE = 1.0 / 8.0


def tile_starts(size: int, patch: int, step: float) -> list[int]:
    """First voxels of the tiles along one axis, ascending and without repetition; they cover 0..size-1.

    `size` and `patch` are voxels, with size >= patch (pad first, see `padding`); `step` is the largest distance of
    neighbouring tiles as a share of the patch, 0 < step <= 1. Tiles are spread evenly (nnU-Net's rule): the last one
    ends at `size`. The step between tiles is divided out first and multiplied after; the other order would move one
    tile by a voxel for rare sizes. Raises ValueError for a size below the patch or a step out of range.
    """
    if not 0 < step <= 1:
        raise ValueError(f"tile step {step} is not in (0, 1]")
    if patch < 1 or size < patch:
        raise ValueError(f"an axis of {size} voxels cannot be tiled with patches of {patch}")
    count = int(np.ceil((size - patch) / (patch * step))) + 1
    if count == 1:
        return [0]
    distance = (size - patch) / (count - 1)
    # a patch of one voxel can be asked for a step below one voxel, which would repeat positions
    return sorted({int(np.round(distance * index)) for index in range(count)})


def axis_window(patch: int) -> NDArray[np.float64]:
    """Weights of a patch's voxels along one axis, (patch,): a Gaussian of maximum 1 at voxel patch // 2."""
    offsets = (np.arange(patch, dtype=np.float64) - patch // 2) / (patch * SIGMA_SHARE)
    return np.exp(-0.5 * offsets**2)


def gaussian_window(patch: Sequence[int]) -> NDArray[np.float32]:
    """Weights of a tile's voxels, of shape `patch`, maximum 1, all above zero (nnU-Net's window, kept in float32).

    The product of `axis_window` over the axes. Its smallest value in three dimensions is near 4e-11, far above the
    smallest float32, so that no voxel loses its weight; the floor below matters only for more axes.
    """
    window = np.ones((), dtype=np.float64)
    for size in patch:
        window = np.multiply.outer(window, axis_window(size))
    return np.maximum(window, np.finfo(np.float32).tiny).astype(np.float32)


def axis_weights(size: int, patch: int, starts: Sequence[int]) -> NDArray[np.float64]:
    """Sum of the tiles' weights at each voxel of one axis, (size,).

    Tiles form a full grid and the window is a product over axes, so the sum of all windows over a volume is the product
    of these sums, and needs no volume of its own.
    """
    total = np.zeros(size, dtype=np.float64)
    window = axis_window(patch)
    for start in starts:
        total[start : start + patch] += window
    return total


def padding(shape: Sequence[int], patch: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Voxels to add (before, after) along each axis so that the shape is at least the patch; an odd one goes after."""
    missing = [max(0, wanted - size) for size, wanted in zip(shape, patch, strict=True)]
    return tuple((count // 2, count - count // 2) for count in missing)
