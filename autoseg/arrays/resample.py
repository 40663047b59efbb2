"""Resample images and scores to another grid, as nnU-Net does (Isensee et al. 2021), but faster.

Interpolating along an axis is a linear map of that axis, so a resize is one small matrix per axis, and applying it is
a matrix product, which the processor does near its peak. The matrices hold cubic B-splines with the edge padding of
scipy's `zoom(mode="nearest", grid_mode=True)`, hence of skimage's `resize`. Voxel centres follow the half-pixel
convention: output i lies at (i + 0.5) * n_in / n_out - 0.5 of the input.

Where one axis is much coarser than the others (more than ANISOTROPY times) its slices are resized one by one and then
taken by nearest neighbour along it: interpolating across thick slices would invent anatomy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.records import Shape, Spacing

#: Ratio of largest to smallest spacing beyond which the coarsest axis is resampled apart (nnU-Net).
ANISOTROPY = 3.0

#: Voxels by which scipy pads before it computes spline coefficients.
_SPLINE_PADDING = 12

#: Weights below this share are left out of the products; float32 does not see them.
_NEGLIGIBLE = 1e-9

#: Rows of an operator that are applied together.
_BLOCK_ROWS = 16

#: Multiplications in one product. OpenBLAS (in numpy's wheels) starts threads above 65536 * 4; below, every process
#: keeps to one core. Threads of several processes that wait for one another on the same cores cost far more than
#: they bring: up to twenty times was measured.
_PRODUCT_SIZE = 1 << 18

#: Relative time per output voxel of mapping an axis, as measured: along the last one the memory is strided.
_AXIS_COST = (1.0, 1.3, 5.0)

Order = Literal[0, 1, 3]


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of an operator, without the columns that are zero in all of them."""

    rows: slice
    columns: slice
    weights: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Weighted:
    """An axis mapped by a matrix (n_out, n_in) of interpolation weights, and the same as blocks along its band."""

    matrix: NDArray[np.float64]
    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        """Output voxels."""
        return len(self.matrix)


@dataclass(frozen=True, eq=False)
class Chosen:
    """An axis mapped by taking for each output voxel the input voxel of this index."""

    index: NDArray[np.intp]

    @property
    def size(self) -> int:
        """Output voxels."""
        return len(self.index)


#: How one axis is mapped; None where it stays.
AxisMap = Weighted | Chosen | None
AxisMaps = tuple[AxisMap, AxisMap, AxisMap]


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]) -> Shape:
    """Voxels per axis after resampling: round(spacing / new spacing * size), half to even, at least one."""
    z, y, x = (
        max(1, round(float(old) / float(new) * int(size)))
        for size, old, new in zip(shape, spacing, new_spacing, strict=True)
    )
    return z, y, x


def separate_axis(current: Sequence[float], new: Sequence[float]) -> int | None:
    """The axis that is resampled apart, or None (nnU-Net's rule).

    The first of the two spacings whose largest entry exceeds ANISOTROPY times its smallest decides: its coarsest axis,
    unless several axes share that size.
    """
    for spacing in (current, new):
        if max(spacing) / min(spacing) > ANISOTROPY:
            coarsest = [axis for axis, size in enumerate(spacing) if size == max(spacing)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


@lru_cache(maxsize=16)
def axis_operator(n_in: int, n_out: int, order: Order) -> NDArray[np.float64]:
    """The matrix (n_out, n_in) that interpolates along an axis; read-only, since it is shared.

    Order 0 is the nearest neighbour (halves go up), 1 linear with positions clamped to the grid, 3 cubic B-splines on
    coefficients of the edge-padded axis. Equal to scipy's zoom with grid_mode and mode nearest, up to rounding.
    """
    operator: NDArray[np.float64]
    if order == 0:
        operator = np.zeros((n_out, n_in))
        operator[np.arange(n_out), nearest_index(n_in, n_out)] = 1.0
    elif order == 1:
        low, high, share = linear_taps(n_in, n_out)
        operator = np.zeros((n_out, n_in))
        operator[np.arange(n_out), low] = 1.0 - share
        operator[np.arange(n_out), high] += share
    else:
        operator = _cubic_operator(n_in, n_out)
    operator.setflags(write=False)
    return operator


def _cubic_operator(n_in: int, n_out: int) -> NDArray[np.float64]:
    padded = np.pad(np.eye(n_in), ((_SPLINE_PADDING, _SPLINE_PADDING), (0, 0)), mode="edge")
    coefficients = _spline_coefficients(padded)
    position = _positions(n_in, n_out) + _SPLINE_PADDING
    first = np.floor(position).astype(np.intp) - 1
    t = position - np.floor(position)
    weights = ((1 - t) ** 3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6, t**3 / 6)
    operator = np.zeros((n_out, n_in))
    for tap, weight in enumerate(weights):
        operator += weight[:, None] * coefficients[first + tap]
    return operator


def _spline_coefficients(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of the cubic B-spline through the values along axis 0, reflected beyond its ends.

    At a voxel the spline is (1, 4, 1) / 6 times its coefficients: a tridiagonal system, solved by elimination.
    """
    coefficients = values * 6.0
    diagonal = np.full(len(values), 4.0)
    diagonal[0] = diagonal[-1] = 5.0  # the neighbour beyond the end mirrors the end itself
    for row in range(1, len(values)):
        diagonal[row] -= 1.0 / diagonal[row - 1]
        coefficients[row] -= coefficients[row - 1] / diagonal[row - 1]
    coefficients[-1] /= diagonal[-1]
    for row in range(len(values) - 2, -1, -1):
        coefficients[row] = (coefficients[row] - coefficients[row + 1]) / diagonal[row]
    return coefficients


def _positions(n_in: int, n_out: int) -> NDArray[np.float64]:
    positions: NDArray[np.float64] = (np.arange(n_out, dtype=np.float64) + 0.5) * (n_in / n_out) - 0.5
    return positions


def nearest_index(n_in: int, n_out: int) -> NDArray[np.intp]:
    """For each output voxel of an axis the nearest input voxel; halves go up."""
    index: NDArray[np.intp] = np.clip(np.floor(_positions(n_in, n_out) + 0.5), 0, n_in - 1).astype(np.intp)
    return index


def linear_taps(n_in: int, n_out: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """For each output voxel of an axis its two input neighbours and the weight of the upper one."""
    position: NDArray[np.float64] = np.clip(_positions(n_in, n_out), 0, n_in - 1)
    low = np.floor(position).astype(np.intp)
    share = position - low.astype(np.float64)
    return low, np.minimum(low + 1, n_in - 1), share


def axis_maps(shape: Sequence[int], new_shape: Sequence[int], order: Order, apart: int | None) -> AxisMaps:
    """How the three axes are mapped; an axis that is resampled apart takes its nearest slices."""
    z, y, x = (
        _axis_map(int(n_in), int(n_out), 0 if axis == apart else order)
        for axis, (n_in, n_out) in enumerate(zip(shape, new_shape, strict=True))
    )
    return z, y, x


def _axis_map(n_in: int, n_out: int, order: Order) -> AxisMap:
    if n_in == n_out:
        return None
    return Chosen(nearest_index(n_in, n_out)) if order == 0 else _weighted(axis_operator(n_in, n_out, order))


def apply_maps(array: NDArray[np.float32], maps: AxisMaps) -> NDArray[np.float32]:
    """One channel (Z, Y, X), float32, with each axis mapped; the array itself where nothing changes."""
    for axis in _cheapest_order(maps, array.shape):
        axis_map = maps[axis]
        if isinstance(axis_map, Chosen):
            array = array.take(axis_map.index, axis=axis)
        elif isinstance(axis_map, Weighted):
            array = _multiply_along(array, axis_map, axis)
    return array


def _cheapest_order(maps: AxisMaps, shape: Sequence[int]) -> tuple[int, ...]:
    """The order of the axes with the least work; it decides how large the results in between are."""
    sizes = [n_in if axis_map is None else axis_map.size for axis_map, n_in in zip(maps, shape, strict=True)]

    def work(order: tuple[int, ...]) -> float:
        total, current = 0.0, list(shape)
        for axis in order:
            current[axis] = sizes[axis]
            total += _AXIS_COST[axis] * prod(current)
        return total

    return min(permutations(axis for axis in range(3) if maps[axis] is not None), key=work)


def _weighted(matrix: NDArray[np.float64]) -> Weighted:
    blocks = []
    for start in range(0, len(matrix), _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, len(matrix)))
        columns = _used_columns(matrix[rows])
        blocks.append(Block(rows, columns, matrix[rows, columns].astype(np.float32)))
    return Weighted(matrix, tuple(blocks))


def _multiply_along(array: NDArray[np.float32], axis_map: Weighted, axis: int) -> NDArray[np.float32]:
    """One axis of (Z, Y, X) multiplied by a banded operator, in products small enough for one core."""
    source = np.ascontiguousarray(array)
    shape = list(source.shape)
    shape[axis] = axis_map.size
    result = np.empty(shape, dtype=np.float32)
    # views (many, mapped axis, width): one product per index of the first axis, looped over within numpy
    order = ((1, 0, 2), (0, 1, 2), (0, 2, 1))[axis]
    columns_in, columns_out = source.transpose(order), result.transpose(order)
    for block in axis_map.blocks:
        width = max(16, _PRODUCT_SIZE // block.weights.size)
        for start in range(0, columns_in.shape[2], width):
            part = slice(start, start + width)
            np.matmul(block.weights, columns_in[:, block.columns, part], out=columns_out[:, block.rows, part])
    return result


def _used_columns(operator: NDArray[np.float64]) -> slice:
    used = np.flatnonzero(np.abs(operator).max(axis=0) > _NEGLIGIBLE)
    return slice(int(used[0]), int(used[-1]) + 1)


def resample_image(
    image: NDArray[np.float32], shape: Shape, current_spacing: Spacing, new_spacing: Spacing, order: Order = 3
) -> NDArray[np.float32]:
    """The image (C, Z, Y, X) on a grid of `shape` (Z, Y, X), float32.

    Each channel, or each slice where an axis is resampled apart, keeps its own range: splines overshoot at edges, and
    values beyond the input's are clipped (nnU-Net). The image itself is returned if the shape does not change.
    """
    if image.shape[1:] == shape:
        return image
    apart = separate_axis(current_spacing, new_spacing)
    maps = axis_maps(image.shape[1:], shape, order, apart)
    resampled = np.empty((image.shape[0], *shape), dtype=np.float32)
    for channel, values in enumerate(image):
        resampled[channel] = apply_maps(values, maps)
        if order == 3:  # the lower orders cannot leave the range
            low, high = _range(values, apart, shape)
            np.clip(resampled[channel], low, high, out=resampled[channel])
    return resampled


def _range(
    values: NDArray[np.float32], apart: int | None, shape: Shape
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Smallest and largest value of a channel, or of each slice across an axis, ready to broadcast over the result."""
    axes = tuple(axis for axis in range(3) if axis != apart)
    low, high = values.min(axis=axes, keepdims=True), values.max(axis=axes, keepdims=True)
    if apart is None:
        return low, high
    chosen = nearest_index(values.shape[apart], shape[apart])
    return low.take(chosen, axis=apart), high.take(chosen, axis=apart)
