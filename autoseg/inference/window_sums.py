"""The sums of a sliding window: only the planes that tiles still reach, in a ring that is used again and again.

A tile adds its weighted scores at its place. Planes that no later tile reaches are divided by their weights and leave
in thin slabs, and their room in the ring is that of the planes to come: the sums of a volume never take more than one
patch's depth of it, wherever they lie (device, main memory, or a file).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from autoseg.arrays.tiles import axis_weights, axis_window, gaussian_window
from autoseg.errors import PredictionError
from autoseg.inference.tile_grid import Start, TileGrid

#: Largest weight of nnU-Net's window, so that half precision has room below it.
HALF_WINDOW_MAXIMUM = 10.0

#: Bytes of the scores of one slab that leaves; a slab has one plane at least.
SLAB_BYTES = 32_000_000

#: Makes a tensor of zeros of a shape and type: in memory, on a device, or in a file.
Allocate = Callable[[Sequence[int], torch.dtype], Tensor]


class WindowSums(Protocol):
    """What both kinds of sums offer."""

    first: int  # padded plane at which the sums begin

    @property
    def device(self) -> torch.device:
        """Where the sums lie."""

    def add(self, start: Start, scores: Tensor) -> None:
        """Add one mirrored copy of a patch, float32 (K, Z, Y, X) on `device`; no plane before `start` is reached again.

        The planes before `start` must have been taken.
        """

    def take(self, plane: int, heads: int) -> Iterator[tuple[int, Tensor]]:
        """The planes before `plane`, without padding, in slabs thin enough for `heads` scores per voxel."""

    def move(self, device: torch.device) -> None:
        """Let the sums lie on another device from now on."""


class Window:
    """Sums in float32; the weights of a full grid of tiles are a product over axes."""

    def __init__(self, grid: TileGrid, channels: int, copies: int, allocate: Allocate) -> None:
        self.grid = grid
        self.copies = copies  # mirrored copies of each tile
        self.first = 0
        self._sums = allocate((channels, *_ring_shape(grid)), torch.float32)
        self._weights = [
            torch.from_numpy(axis_weights(size, length, starts)).to(torch.float32)
            for size, length, starts in zip(grid.padded_shape, grid.patch, grid.starts, strict=True)
        ]
        self._window = torch.from_numpy(gaussian_window(grid.patch))
        self.move(self._sums.device)

    @property
    def device(self) -> torch.device:
        """Where the sums lie."""
        return self._sums.device

    def move(self, device: torch.device) -> None:
        """Let the sums lie on another device from now on."""
        self._sums, self._window = self._sums.to(device), self._window.to(device)
        self._weights = [weights.to(device) for weights in self._weights]

    def add(self, start: Start, scores: Tensor) -> None:
        """Add one mirrored copy of a patch at its place."""
        # the product is formed in float32 whatever the network's type; nnU-Net's float16 sums lose small weights
        for ring, patch in _pieces(start[0], self.grid.patch[0]):
            _place(self._sums, ring, start, self.grid).addcmul_(scores[:, patch], self._window[patch])

    def take(self, plane: int, heads: int) -> Iterator[tuple[int, Tensor]]:
        """The planes before `plane`, without padding."""
        z, y, x = self._weights
        (_, (top, _), (left, _)), (_, height, width) = self.grid.pads, self.grid.shape
        rows, columns = slice(top, top + height), slice(left, left + width)
        area = y[rows, None] * x[columns]
        for begin, planes, ring in _leaving(self.grid, self.first, plane, heads):
            with torch.inference_mode():
                weights = z[planes, None, None] * self.copies * area
                slab = _finite(self._sums[:, ring, rows, columns] / weights)
            yield begin, slab
        self._forget(plane)

    def _forget(self, plane: int) -> None:
        with torch.inference_mode():
            for ring in _ring_slices(self.first, plane, self.grid.patch[0]):
                self._sums[:, ring] = 0
        self.first = plane


class HalfWindow:
    """The same sums as nnU-Net makes them, for models that were trained there and whose masks are to stay the same.

    Sums and weights are held in half precision, and no weight is 0. Near the corners of a volume the weights are so
    small that half precision shows: scores that are not sure there come out differently from float32.
    """

    def __init__(self, grid: TileGrid, channels: int, copies: int, allocate: Allocate) -> None:
        self.grid = grid
        self.copies = copies
        self.first = 0
        self._sums = allocate((channels, *_ring_shape(grid)), torch.float16)
        self._weights = torch.zeros((1, *_ring_shape(grid)), dtype=torch.float16)
        z, y, x = (torch.from_numpy(axis_window(length)) for length in grid.patch)
        window = (HALF_WINDOW_MAXIMUM * z[:, None, None] * y[:, None] * x).to(torch.float16)
        self._window = torch.where(window == 0, window[window > 0].min(), window)
        self._total: Tensor | None = None  # of the copies of the tile that is being added
        self._added = 0
        self.move(self._sums.device)

    @property
    def device(self) -> torch.device:
        """Where the sums lie."""
        return self._sums.device

    def move(self, device: torch.device) -> None:
        """Let the sums lie on another device from now on."""
        self._sums, self._weights, self._window = (
            tensor.to(device) for tensor in (self._sums, self._weights, self._window)
        )
        self._total = None if self._total is None else self._total.to(device)

    def add(self, start: Start, scores: Tensor) -> None:
        """Add one mirrored copy of a patch; the mean of all of them is what counts."""
        self._total = scores.clone() if self._total is None else self._total.add_(scores)
        self._added += 1
        if self._added < self.copies:
            return
        weighted = self._total / self.copies * self._window
        self._total, self._added = None, 0
        for ring, patch in _pieces(start[0], self.grid.patch[0]):
            _place(self._sums, ring, start, self.grid).add_(weighted[:, patch])
            _place(self._weights, ring, start, self.grid).add_(self._window[patch])

    def take(self, plane: int, heads: int) -> Iterator[tuple[int, Tensor]]:
        """The planes before `plane`, without padding."""
        (_, (top, _), (left, _)), (_, height, width) = self.grid.pads, self.grid.shape
        rows, columns = slice(top, top + height), slice(left, left + width)
        for begin, _, ring in _leaving(self.grid, self.first, plane, heads):
            place = (slice(None), ring, rows, columns)
            with torch.inference_mode():
                slab = _finite(self._sums[place] / self._weights[place])
            yield begin, slab
        with torch.inference_mode():
            for ring in _ring_slices(self.first, plane, self.grid.patch[0]):
                self._sums[:, ring], self._weights[:, ring] = 0, 0
        self.first = plane


class BothSums:
    """The first channels summed as nnU-Net does, the others in float32; slabs of both together are float32."""

    def __init__(self, half: HalfWindow, exact: Window, split: int) -> None:
        self.first = 0
        self._half, self._exact, self._split = half, exact, split

    @property
    def device(self) -> torch.device:
        """Where the sums lie."""
        return self._half.device

    def move(self, device: torch.device) -> None:
        """Let the sums lie on another device from now on."""
        self._half.move(device)
        self._exact.move(device)

    def add(self, start: Start, scores: Tensor) -> None:
        """Add one mirrored copy of a patch."""
        self._half.add(start, scores[: self._split])
        self._exact.add(start, scores[self._split :])

    def take(self, plane: int, heads: int) -> Iterator[tuple[int, Tensor]]:
        """The planes before `plane`, without padding."""
        for half, exact in zip(self._half.take(plane, heads), self._exact.take(plane, heads), strict=True):
            with torch.inference_mode():
                slab = torch.cat([half[1].to(torch.float32), exact[1]])
            yield half[0], slab
        self.first = plane


def window_sums(grid: TileGrid, channels: int, copies: int, allocate: Allocate, *, exact: int) -> WindowSums:
    """Sums of which the last `exact` channels are float32, and those before as nnU-Net makes them."""
    if exact == channels:
        return Window(grid, channels, copies, allocate)
    half = HalfWindow(grid, channels - exact, copies, allocate)
    return half if exact == 0 else BothSums(half, Window(grid, exact, copies, allocate), channels - exact)


def planes_per_slab(heads: int, shape: Sequence[int]) -> int:
    """Planes of a volume (Z, Y, X) whose scores leave together."""
    return max(1, SLAB_BYTES // (4 * heads * shape[1] * shape[2]))


def ring_planes(grid: TileGrid) -> int:
    """Planes of a volume whose sums are held at one time."""
    return grid.patch[0]


def _ring_shape(grid: TileGrid) -> tuple[int, int, int]:
    return (ring_planes(grid), *grid.padded_shape[1:])


def _pieces(plane: int, depth: int) -> Iterator[tuple[slice, slice]]:
    """Where the planes of a patch that begins at `plane` lie in the ring, and which planes of the patch those are."""
    done = 0
    for ring in _ring_slices(plane, plane + depth, depth):
        count = ring.stop - ring.start
        yield ring, slice(done, done + count)
        done += count


def _ring_slices(start: int, stop: int, depth: int) -> Iterator[slice]:
    """The places in a ring of `depth` planes of the planes start..stop, at most `depth` of them."""
    while start < stop:
        first = start % depth
        count = min(stop - start, depth - first)
        yield slice(first, first + count)
        start += count


def _place(sums: Tensor, ring: slice, start: Start, grid: TileGrid) -> Tensor:
    """The view of the sums where some planes of a tile lie."""
    (_, y, x), (_, height, width) = start, grid.patch
    return sums[:, ring, y : y + height, x : x + width]


def _leaving(grid: TileGrid, first: int, plane: int, heads: int) -> Iterator[tuple[int, slice, slice]]:
    """The planes first..plane that are no padding, in slabs: unpadded number, padded planes, place in the ring."""
    before, depth = grid.pads[0][0], grid.shape[0]
    most = planes_per_slab(heads, grid.shape)
    start, stop = max(first, before), min(plane, before + depth)
    for ring in _ring_slices(start, stop, grid.patch[0]):
        for low in range(ring.start, ring.stop, most):
            high = min(low + most, ring.stop)
            yield start - before, slice(start, start + high - low), slice(low, high)
            start += high - low


def _finite(slab: Tensor) -> Tensor:
    """The slab; an error where a score is not finite."""
    if not torch.isfinite(slab).all():
        raise PredictionError(
            "the network's scores are not finite",
            remedy="Look for NaN or extreme intensities in the image, or use --precision float32.",
        )
    return slab
