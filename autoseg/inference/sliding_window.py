"""Scores of a whole volume from a network that sees one patch at a time (nnU-Net's sliding window, facts section 8).

Tiles overlap; each is averaged over its mirrored copies, weighted by a Gaussian and added up. The volume is worked off
along its first axis, and planes that no later tile touches leave as a finished slab, so that whoever can use slabs
never holds the scores of the whole volume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.arrays.tiles import axis_weights, axis_window, gaussian_window, padding, tile_starts
from autoseg.errors import PredictionError

#: Largest weight of nnU-Net's window, so that half precision has room below it.
HALF_WINDOW_MAXIMUM = 10.0

Forward = Callable[[Tensor], Tensor]  # (B, C, *patch) -> (B, K, *patch)
Start = tuple[int, int, int]


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one volume. A 2D patch is a patch of one slice, and every slice is visited."""

    shape: tuple[int, int, int]  # (Z, Y, X) of the unpadded volume
    patch: tuple[int, int, int]
    dimensions: int  # spatial axes that the network sees: 2 or 3
    pads: tuple[tuple[int, int], ...]  # voxels before and after, per axis
    starts: tuple[tuple[int, ...], ...]  # per axis, in padded voxels

    @property
    def padded_shape(self) -> tuple[int, int, int]:
        """Shape of the padded volume."""
        z, y, x = (size + before + after for size, (before, after) in zip(self.shape, self.pads, strict=True))
        return (z, y, x)

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return math.prod(len(starts) for starts in self.starts)


def tile_grid(shape: Sequence[int], patch_size: Sequence[int], step: float = 0.5) -> TileGrid:
    """The tiles that cover a volume of `shape` (Z, Y, X).

    `patch_size` has three numbers, or two for a network that sees slices; `step` is the distance of tiles as a share of
    the patch. A volume smaller than the patch is padded with zeros around its centre.
    """
    z, y, x = shape
    patch = (1, *patch_size) if len(patch_size) == 2 else tuple(patch_size)
    if len(patch) != 3:
        raise ValueError(f"a patch of {len(patch_size)} axes; it must have 2 or 3")
    pads = padding((z, y, x), patch)
    padded = [size + before + after for size, (before, after) in zip((z, y, x), pads, strict=True)]
    starts = tuple(tuple(tile_starts(size, length, step)) for size, length in zip(padded, patch, strict=True))
    return TileGrid((z, y, x), (patch[0], patch[1], patch[2]), len(patch_size), pads, starts)


def mirror_sets(mirror_axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All subsets of the axes, the empty one first: the mirrored copies over which scores are averaged."""
    axes = tuple(sorted(set(mirror_axes)))
    return [subset for count in range(len(axes) + 1) for subset in combinations(axes, count)]


def count_passes(shape: Sequence[int], patch_size: Sequence[int], step: float, mirror_axes: Sequence[int]) -> int:
    """Patches that go through the network for one prepared volume of `shape` (Z, Y, X)."""
    return tile_grid(shape, patch_size, step).tiles * len(mirror_sets(mirror_axes))


def score_slabs(
    forward: Forward,
    image: NDArray[np.float32],
    grid: TileGrid,
    *,
    heads: int,
    mirror_axes: Sequence[int] = (),
    batch_size: int = 1,
    device: torch.device,
    accumulator: torch.device | None = None,
    precise: Forward | None = None,
    half_sums: bool = False,
    on_tile: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Finished scores in order along axis 0: (first plane, slab (K, planes, Y, X) float32 on the accumulator's device).

    `forward` maps a batch (B, C, *patch) on `device` to (B, heads, *patch) in any float type. `mirror_axes` are axes of
    (Z, Y, X); for a 2D network axis 0 cannot be one. `batch_size` is how many patches (tiles or their mirrored copies)
    go through the network together. Scores are summed in float32 on `accumulator` (by default the network's device);
    with `half_sums` as nnU-Net does it, see `_HalfWindow`.
    Patches whose scores are not finite go through `precise` once more, the network in full precision, if that is given.
    `on_tile` is told the number of tiles finished since its last call. Raises PredictionError when a score is not
    finite, ValueError when a 2D network is to be mirrored across slices.
    """
    mirrors = mirror_sets(mirror_axes)
    kind = _HalfWindow if half_sums else _Window
    window = kind(grid, heads, accumulator or device, len(mirrors))
    if grid.dimensions == 2 and 0 in mirror_axes:
        raise ValueError("a 2D network cannot be mirrored across slices")
    volume = torch.from_numpy(_padded(image, grid.pads)).to(device)
    starts: list[Start] = [(z, y, x) for z, y, x in product(*grid.starts)]
    passes = [(start, mirror) for start in starts for mirror in mirrors]
    done = 0
    for begin in range(0, len(passes), max(1, batch_size)):
        batch = passes[begin : begin + max(1, batch_size)]
        with torch.inference_mode():
            scores = _finite(forward, precise, _patches(volume, batch, grid))
            scores = scores if grid.dimensions == 3 else scores.unsqueeze(2)
            for (start, mirror), passed in zip(batch, scores.to(window.device), strict=True):
                window.add(start, passed.flip([axis + 1 for axis in mirror]) if mirror else passed)
        finished = (begin + len(batch)) // len(mirrors)  # tiles; the next one may have been begun
        if on_tile is not None and finished > done:
            on_tile(finished - done)
        done = finished
        next_plane = starts[finished][0] if finished < len(starts) else grid.padded_shape[0]
        with torch.inference_mode():
            slab = window.take(next_plane)
        if slab is not None:
            yield slab


def _finite(forward: Forward, precise: Forward | None, patches: Tensor) -> Tensor:
    """Scores of patches; again in full precision where half precision ran out of range."""
    scores = forward(patches)
    if precise is None or bool(torch.isfinite(scores).all()):
        return scores
    return precise(patches)


class _Window:
    """Sums of the planes that tiles still reach; finished planes are divided by their weights and leave."""

    def __init__(self, grid: TileGrid, heads: int, device: torch.device, copies: int) -> None:
        self.grid = grid
        self.device = device
        self.copies = copies  # mirrored copies of each tile
        self.first = 0  # padded plane at which the sums begin
        self.sums = torch.zeros((heads, 0, *grid.padded_shape[1:]), dtype=torch.float32, device=device)
        self.window = torch.from_numpy(gaussian_window(grid.patch)).to(device)
        self.weights = [
            torch.from_numpy(axis_weights(size, length, starts)).to(device, torch.float32)
            for size, length, starts in zip(grid.padded_shape, grid.patch, grid.starts, strict=True)
        ]

    def add(self, start: Start, scores: Tensor) -> None:
        """Add one patch's scores (K, Z, Y, X) at its place."""
        self.sums = _reaching(self.sums, start[0] + self.grid.patch[0] - self.first)
        # the product is formed in float32 whatever the network's type; nnU-Net's float16 sums lose small weights
        _part(self.sums, start, self.grid, self.first).addcmul_(scores.to(torch.float32), self.window)

    def take(self, plane: int) -> tuple[int, Tensor] | None:
        """The planes before `plane`, without padding: means over tiles and mirrored copies. None if there are none."""
        inner = _inner(self.grid, self.first, plane)
        if inner is None:
            return None
        planes, rows, columns = inner
        z, y, x = self.weights
        weights = z[self.first + planes.start : self.first + planes.stop, None, None] * self.copies
        slab = self.sums[:, planes, rows, columns] / (weights * y[rows, None] * x[columns])
        begin = self.first + planes.start - self.grid.pads[0][0]
        self.sums, self.first = self.sums[:, plane - self.first :].clone(), plane
        return _checked(begin, slab)


class _HalfWindow:
    """The same sums as nnU-Net makes them, for models that were trained there and whose masks are to stay the same.

    Sums and weights are held in half precision, and no weight is 0. Near the corners of a volume the weights are so
    small that half precision shows: scores that are not sure there come out differently from float32.
    """

    def __init__(self, grid: TileGrid, heads: int, device: torch.device, copies: int) -> None:
        self.grid = grid
        self.device = device
        self.copies = copies
        self.first = 0
        self.sums = torch.zeros((heads, 0, *grid.padded_shape[1:]), dtype=torch.float16, device=device)
        self.weights = self.sums.new_zeros((1, *self.sums.shape[1:]))
        z, y, x = (torch.from_numpy(axis_window(length)) for length in grid.patch)
        window = (HALF_WINDOW_MAXIMUM * z[:, None, None] * y[:, None] * x).to(device, torch.float16)
        self.window = torch.where(window == 0, window[window > 0].min(), window)
        self._copies: list[Tensor] = []  # of the tile that is being added

    def add(self, start: Start, scores: Tensor) -> None:
        """Add one mirrored copy of a patch; the mean of all of them is what counts."""
        self._copies.append(scores.to(torch.float32))
        if len(self._copies) < self.copies:
            return
        total = self._copies[0].clone()
        for copy in self._copies[1:]:
            total += copy
        self._copies.clear()
        end = start[0] + self.grid.patch[0] - self.first
        self.sums, self.weights = _reaching(self.sums, end), _reaching(self.weights, end)
        _part(self.sums, start, self.grid, self.first).add_(total / self.copies * self.window)
        _part(self.weights, start, self.grid, self.first).add_(self.window)

    def take(self, plane: int) -> tuple[int, Tensor] | None:
        """The planes before `plane`, without padding. None if there are none."""
        inner = _inner(self.grid, self.first, plane)
        if inner is None:
            return None
        place = (slice(None), *inner)
        slab = self.sums[place] / self.weights[place]
        begin, count = self.first + inner[0].start - self.grid.pads[0][0], plane - self.first
        self.sums, self.weights, self.first = self.sums[:, count:].clone(), self.weights[:, count:].clone(), plane
        return _checked(begin, slab)


def _reaching(sums: Tensor, planes: int) -> Tensor:
    """Sums (K, Z, Y, X) with zeros appended until they hold so many planes."""
    missing = planes - sums.shape[1]
    if missing <= 0:
        return sums
    return torch.cat([sums, sums.new_zeros((sums.shape[0], missing, *sums.shape[2:]))], dim=1)


def _part(sums: Tensor, start: Start, grid: TileGrid, first: int) -> Tensor:
    """The view of the sums where a tile lies."""
    (z, y, x), (depth, height, width) = start, grid.patch
    return sums[:, z - first : z - first + depth, y : y + height, x : x + width]


def _inner(grid: TileGrid, first: int, plane: int) -> tuple[slice, slice, slice] | None:
    """Where in the sums, which begin at `first`, the planes before `plane` are, without padding; None for no plane."""
    count = plane - first
    if count <= 0:
        return None
    (before, _), (top, _), (left, _) = grid.pads
    depth, height, width = grid.shape
    low, high = max(0, before - first), min(count, before + depth - first)
    return slice(low, max(low, high)), slice(top, top + height), slice(left, left + width)


def _checked(begin: int, slab: Tensor) -> tuple[int, Tensor] | None:
    """The slab, unless it is only padding; an error where a score is not finite."""
    if slab.shape[1] == 0:
        return None
    if not torch.isfinite(slab).all():
        raise PredictionError(
            "the network's scores are not finite",
            remedy="Look for NaN or extreme intensities in the image, or use --precision float32.",
        )
    return begin, slab


def _patches(volume: Tensor, batch: Sequence[tuple[Start, tuple[int, ...]]], grid: TileGrid) -> Tensor:
    """Patches (B, C, *patch) cut from the padded volume (C, Z, Y, X), each mirrored along its axes."""
    depth, height, width = grid.patch
    patches = []
    for (z, y, x), mirror in batch:
        patch = volume[:, z : z + depth, y : y + height, x : x + width]
        patches.append(patch.flip([axis + 1 for axis in mirror]) if mirror else patch)
    stacked = torch.stack(patches)
    return stacked if grid.dimensions == 3 else stacked.squeeze(2)


def _padded(image: NDArray[np.float32], pads: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """The image with zeros around it; the image itself where none are needed."""
    if not any(before or after for before, after in pads):
        return np.require(image, np.float32, ["C", "W"])  # torch warns of memory that cannot be written
    return np.pad(image.astype(np.float32, copy=False), ((0, 0), *pads))
