"""Linear operators along one axis of a patch, as small matrices: blurring, and losing resolution.

A separable filter with its boundary rule is one matrix per axis, and a patch axis is short, so that applying it is a
matrix product: the fastest thing that any device does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def apply_along_axes(volumes: Tensor, operators: Sequence[Tensor | None]) -> Tensor:
    """Volumes (n, *space) after one operator (n, new size, size) per axis; None leaves an axis alone."""
    for axis, operator in enumerate(operators, start=1):
        if operator is None:
            continue
        if axis == volumes.ndim - 1:
            shape = volumes.shape[:-1]
            volumes = (volumes.flatten(1, -2) @ operator.transpose(1, 2)).view(*shape, operator.shape[1])
        else:
            after = volumes.shape[axis + 1 :]
            rows = volumes.flatten(axis + 1).flatten(1, axis - 1) if axis > 1 else volumes.flatten(2)[:, None]
            between = volumes.shape[1:axis]
            volumes = (operator[:, None] @ rows).view(volumes.shape[0], *between, operator.shape[1], *after)
    return volumes


def blur_operator(size: int, sigma: float) -> NDArray[np.float32]:
    """(size, size) Gaussian blur, edges reflected without repeating the edge voxel (nnU-Net's kernel length).

    The taps are the odd number nearest to 6 sigma + 0.5, or what reflection allows (2 size − 1).
    """
    radius = min(int((6 * sigma + 0.5) / 2), size - 1)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    operator = np.zeros((size, size))
    rows = np.arange(size)
    for offset, weight in zip(offsets, weights, strict=True):
        columns = np.abs(rows + offset)
        columns = np.where(columns >= size, 2 * (size - 1) - columns, columns)
        np.add.at(operator, (rows, columns), weight)
    return operator.astype(np.float32)


@lru_cache(maxsize=512)
def low_resolution_operator(size: int, fewer: int) -> NDArray[np.float32]:
    """(size, size): down to `fewer` voxels by the nearest, and up again linearly (torch's nearest-exact and linear)."""
    down = np.zeros((fewer, size))
    down[np.arange(fewer), (2 * np.arange(fewer) + 1) * size // (2 * fewer)] = 1
    place = np.clip((np.arange(size) + 0.5) * fewer / size - 0.5, 0, fewer - 1)
    lower = np.minimum(np.floor(place).astype(int), max(fewer - 2, 0))
    share = place - lower
    up = np.zeros((size, fewer))
    up[np.arange(size), lower] = 1 - share
    if fewer > 1:
        up[np.arange(size), lower + 1] = share
    operator: NDArray[np.float32] = (up @ down).astype(np.float32)
    operator.flags.writeable = False
    return operator
