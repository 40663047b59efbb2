"""From a file's number type to ours: float32 for images, small integers for labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Rounding error of a whole number that went through a float32 slope.
WHOLE_NUMBER_TOLERANCE = 1e-4


def to_float32(stored: NDArray[np.generic], slope: float = 1.0, inter: float = 0.0) -> NDArray[np.float32]:
    """Stored numbers times slope plus intercept as float32, in a new array of the same shape, C order.

    Scaling is done in float64 slice by slice, so that memory stays at one slice of it. A number too large for
    float32 becomes infinite, which `checks.check_case` reports.
    """
    image = np.empty(stored.shape, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        if slope == 1.0 and inter == 0.0:
            np.copyto(image, stored, casting="unsafe")
            return image
        for channel in range(stored.shape[0]):
            for z in range(stored.shape[1]):
                image[channel, z] = stored[channel, z].astype(np.float64) * slope + inter
    return image


def small_integers(stored: NDArray[np.generic], slope: float = 1.0, inter: float = 0.0) -> NDArray[np.generic]:
    """Labels in the smallest fitting integer type (unsigned where none is negative), in a new array.

    Floats that are all whole become integers; with any fraction, NaN or infinity they stay floats, for
    `checks.check_case` to report.
    """
    scaled = slope != 1.0 or inter != 0.0
    values: NDArray[np.generic] = stored
    if scaled:
        with np.errstate(over="ignore", invalid="ignore"):  # what is no finite number is told below
            values = stored.astype(np.float64) * slope + inter
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            return np.array(values)
        whole = np.rint(values)
        tolerance = WHOLE_NUMBER_TOLERANCE if scaled else 0.0
        if np.abs(values - whole).max(initial=0) > tolerance or np.abs(whole).max(initial=0) >= 2**53:
            return np.array(values)
        values = whole
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    return np.array(values, dtype=smallest_type(int(low), int(high)), order="C")


def smallest_type(low: int, high: int) -> np.dtype[np.integer]:
    """Smallest integer type that holds low and high; unsigned where low is not negative."""
    if low >= 0:
        return np.min_scalar_type(high)
    return np.result_type(np.min_scalar_type(low), np.min_scalar_type(-max(high + 1, 1)))


def whole_values(labels: NDArray[np.generic]) -> dict[int, int]:
    """Each value of an integer label map with its number of voxels, ascending."""
    if labels.dtype in (np.uint8, np.uint16):
        # slab by slab: bincount would make 8 bytes of each voxel at once
        total = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.int64)
        slabs = labels.reshape(1, -1) if labels.size < 1 << 20 else labels.reshape(labels.shape[0], -1)
        for slab in slabs:
            total += np.bincount(slab, minlength=total.size)
        return {int(value): int(total[value]) for value in np.flatnonzero(total)}
    values, counts = np.unique(labels, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def replace_not_finite(stored: NDArray[np.generic], *, downwards: bool = False) -> NDArray[np.generic]:
    """Stored numbers (C, ...) with the smallest of its channel in place of each NaN and infinity, in a new array.

    `downwards` says that larger stored numbers mean smaller values, so that the largest takes their place.
    Raises ValueError naming a channel without any number.
    """
    values = np.array(stored)
    for number, channel in enumerate(values):
        finite = np.isfinite(channel)
        if not finite.any():
            raise ValueError(f"channel {number} holds no number at all")
        if not finite.all():
            known = channel[finite]
            channel[~finite] = known.max() if downwards else known.min()
    return values
