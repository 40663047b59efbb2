"""Whether two files hold the same image: a hash of the voxels that no header and no turning of the axes alters."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

#: Voxels that are summed together: few enough for a processor's cache.
_BLOCK = 1 << 16


def content_hash(image: NDArray[np.float32]) -> str:
    """32 hex digits for an image (C, Z, Y, X): equal for equal voxels, however their axes are ordered and reversed.

    The bits of each value are taken as a whole number, and those of every plane across every axis are summed modulo
    2^32: reversing an axis reverses its sums, swapping axes swaps them. Geometry and file format do not enter, values
    do: an image saved again with other numbers (rescaled, resampled, cropped) is another one.

    Images that differ in up to three voxels never agree: some plane has only one of them. Where more differ, several
    sums of unrelated numbers must agree, each by chance in 1 of 2^32 cases: for a pair of images of different things,
    far below 2^-64. Only exchanges of values that leave every plane's sum as it was go unseen.

    An image without any contrast gets "": blank pictures are alike and still not the same.
    """
    if not any(_has_contrast(channel) for channel in image):
        return ""
    digest = hashlib.sha256(b"%d" % image.shape[0])
    for channel in image:
        for sums in sorted(_canonical(sums) for sums in _plane_sums(channel)):
            digest.update(b"%d:" % len(sums) + sums)
    return digest.hexdigest()[:32]


def _has_contrast(channel: NDArray[np.float32]) -> bool:
    first = channel[0, 0, 0]
    return any(bool(np.any(plane != first)) for plane in channel)


def _plane_sums(channel: NDArray[np.float32]) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
    """Sums, modulo 2^32, of the words of every plane across Z, Y and X of a channel (Z, Y, X)."""
    words = np.ascontiguousarray(channel).view(np.uint32)
    slices, rows, columns = words.shape
    step = max(1, _BLOCK // (rows * columns))
    across_z = np.zeros(slices, dtype=np.uint32)
    projection = np.zeros((rows, columns), dtype=np.uint32)
    for start in range(0, slices, step):
        block = words[start : start + step]
        projection += block.sum(axis=0, dtype=np.uint32)
        across_z[start : start + step] = block.reshape(len(block), -1).sum(axis=1, dtype=np.uint32)
    return across_z, projection.sum(axis=1, dtype=np.uint32), projection.sum(axis=0, dtype=np.uint32)


def _canonical(sums: NDArray[np.uint32]) -> bytes:
    """The bytes of the sums in that direction along their axis which comes first."""
    forward = sums.astype("<u4")
    return min(forward.tobytes(), forward[::-1].tobytes())
