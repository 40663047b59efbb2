"""The box around what is not zero: found, cut out and put back."""

from __future__ import annotations

from typing import TypeVar

import cc3d
import numpy as np
from numpy.typing import NDArray

from autoseg.records import Shape

ScalarT = TypeVar("ScalarT", bound=np.generic)

#: Share of an array from which its crop stays in the array's own memory, which then is not given back.
IN_PLACE_SHARE = 0.5

#: Voxels that move together where a crop stays in place.
_MOVED_VOXELS = 1 << 18

#: Half-open interval per axis (Z, Y, X).
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def nonzero_mask(image: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Where any channel of an image (C, Z, Y, X) is not zero, with enclosed holes filled: bool (Z, Y, X).

    A hole is background from which no path of face neighbours leads to the border of the array (nnU-Net's rule), so in
    a single slice nothing is ever filled.
    """
    return fill_holes(any_nonzero(image))


def any_nonzero(image: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Where any channel of an image (C, Z, Y, X) is not zero: bool (Z, Y, X). Its box is that of `nonzero_mask`."""
    mask: NDArray[np.bool_] = image[0] != 0
    for channel in image[1:]:
        mask |= channel != 0
    return mask


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask (Z, Y, X) with its enclosed holes filled; equals scipy's binary_fill_holes with face neighbours."""
    box = bounding_box(mask)
    # outside the box all is background and joined to the border, so the search can stay inside
    inner = crop(mask, box)
    if min(inner.shape) < 3 or inner.all():
        return mask
    background = cc3d.connected_components(np.ascontiguousarray(~inner), connectivity=6)
    hole = np.ones(int(background.max()) + 1, dtype=np.bool_)
    hole[0] = False  # the mask itself
    for axis in range(3):
        for face in (0, -1):
            hole[np.unique(background.take(face, axis=axis))] = False
    if not hole.any():
        return mask
    filled = mask.copy()
    crop(filled, box)[hole[background]] = True
    return filled


def bounding_box(mask: NDArray[np.bool_]) -> Box:
    """The smallest box that holds all true voxels of a mask (Z, Y, X); the full box if there is none."""
    intervals: list[tuple[int, int]] = []
    inner = mask
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hits = np.flatnonzero(inner.any(axis=others))
        if hits.size == 0:
            return full_box(mask.shape)
        intervals.append((int(hits[0]), int(hits[-1]) + 1))
        # what is left out can hold no true voxel: the next axis looks at less
        inner = inner[(slice(None),) * axis + (slice(*intervals[-1]),)]
    return intervals[0], intervals[1], intervals[2]


def full_box(shape: tuple[int, ...]) -> Box:
    """The box that holds everything of the last three axes of this shape."""
    z, y, x = shape[-3:]
    return (0, z), (0, y), (0, x)


def crop(array: NDArray[ScalarT], box: Box) -> NDArray[ScalarT]:
    """A view of the part of the last three axes that lies in the box."""
    z, y, x = (slice(start, stop) for start, stop in box)
    return array[..., z, y, x]


def cropped_in_place(array: NDArray[ScalarT], box: Box) -> NDArray[ScalarT]:
    """The part in the box as an array in C order, for who needs the whole array no more and lets it be written over.

    Where the box holds most of an array in C order, its voxels move to the front of the same memory, so that no second
    array is made; otherwise the part is copied, so that the memory of the rest can go.
    """
    part = crop(array, box)
    if part.flags.c_contiguous:
        return part
    if not array.flags.c_contiguous or part.size < IN_PLACE_SHARE * array.size:
        return np.array(part, order="C")
    front = array.reshape(-1)[: part.size].reshape(part.shape)
    rows = max(1, _MOVED_VOXELS // part.shape[-1])
    # no voxel moves back, and they move in the order in which they lie: none is written over before it has moved
    for plane in np.ndindex(*part.shape[:-2]):
        for row in range(0, part.shape[-2], rows):
            block = (*plane, slice(row, row + rows))
            front[block] = part[block].copy()
    return front


def uncrop(array: NDArray[ScalarT], box: Box, shape: Shape, fill: float) -> NDArray[ScalarT]:
    """The cropped array in its place in a grid of `shape` (Z, Y, X), with `fill` around; leading axes stay."""
    if box == full_box(shape):
        return array
    whole = np.full((*array.shape[:-3], *shape), fill, dtype=array.dtype)
    crop(whole, box)[...] = array
    return whole
