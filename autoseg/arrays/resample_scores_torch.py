"""Scores on another grid, plane by plane as they come: which label wins there, or how probable each is.

Linear interpolation mixes the corners of a cell with weights that are not negative. Where one label has the highest
score at all corners of a cell it therefore has it everywhere inside: only cells at a boundary between labels need
scores. The axes are interpolated one after the other, and at each only what lies in such a cell is computed: scores at
a few per cent of the points, labels by comparison everywhere else. The result is that of interpolating all scores and
taking the highest, but for ties made by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.arrays.resample import linear_taps, nearest_index

#: Rows of scores (points, K) to the index of the winner of each (points,).
Decide = Callable[[Tensor], Tensor]

#: The next planes of scores (K, planes, Y, X), in order along the first spatial axis.
Slab = Tensor | NDArray[np.float32]

#: Output voxels that are worked on together.
CHUNK_VOXELS = 1 << 20

#: Bytes of float32 scores that planes worked on together may need at most, should every cell be at a boundary; a plane
#: is worked on in any case.
CHUNK_BYTES = 64_000_000


def highest(scores: Tensor) -> Tensor:
    """The label with the highest of its scores (points, K); of equal ones the first."""
    return scores.argmax(1)


def last_positive(scores: Tensor) -> Tensor:
    """One more than the last region whose score (points, R) is above 0; 0 where none is.

    Regions are written one over the other, so the last one decides.
    """
    numbers = torch.arange(1, scores.shape[1] + 1, device=scores.device, dtype=torch.int32)
    return ((scores > 0) * numbers).amax(1)


@dataclass(frozen=True, eq=False)
class Taps:
    """For each output voxel of an axis its two input neighbours, and the weight of the upper one."""

    low: Tensor  # (n_out,) int64
    high: Tensor
    share: Tensor  # (n_out,) float32
    plain: bool  # the shares are all 0: the lower neighbour alone counts

    def to(self, device: torch.device) -> Taps:
        """The same on a device."""
        return Taps(self.low.to(device), self.high.to(device), self.share.to(device), self.plain)


AxisTaps = tuple[Taps, Taps, Taps]


def grid_taps(shape: Sequence[int], new_shape: Sequence[int], orders: Sequence[Literal[0, 1]]) -> AxisTaps:
    """How a grid of `shape` (Z, Y, X) makes one of `new_shape`: per axis order 1 linear, 0 the nearest voxel."""
    z, y, x = (_axis_taps(*sizes) for sizes in zip(shape, new_shape, orders, strict=True))
    return z, y, x


def _axis_taps(n_in: int, n_out: int, order: Literal[0, 1]) -> Taps:
    if order == 0 or n_in == n_out:
        index = torch.from_numpy(nearest_index(n_in, n_out))
        return Taps(index, index, torch.zeros(n_out), plain=True)
    low, high, share = linear_taps(n_in, n_out)
    # an upper neighbour that does not count must not make a cell look like a boundary
    high[share == 0] = low[share == 0]
    return Taps(torch.from_numpy(low), torch.from_numpy(high), torch.from_numpy(share).to(torch.float32), plain=False)


def winners_on_grid(slabs: Iterable[Slab], taps: AxisTaps, decide: Decide, count: int = 256) -> NDArray[np.integer]:
    """Winners (Z, Y, X) on the new grid, of the scores that `slabs` bring; they are numbers below `count`."""
    z, y, x = (len(axis.low) for axis in taps)
    dtype = torch.uint8 if count <= 256 else torch.int32
    found = torch.zeros((z, y, x), dtype=dtype)
    for first, planes in _chunks(slabs, _Winners(taps, decide, dtype)):
        found[first : first + len(planes)] = planes
    result: NDArray[np.integer] = found.numpy().astype(np.min_scalar_type(max(count - 1, 1)), copy=False)
    return result


def added(slabs: Iterable[Slab], terms: Sequence[tuple[int, ...]]) -> Iterator[Tensor]:
    """Slabs whose scores are sums of those in `slabs`: for each term the numbers of the heads to add up."""
    for slab in slabs:
        scores = torch.as_tensor(slab)
        yield torch.stack([scores[list(heads)].sum(0) for heads in terms])


def probabilities_on_grid(
    slabs: Iterable[Slab], taps: AxisTaps, *, independent: bool
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Probabilities (K, planes, Y, X) of the interpolated scores: softmax, or a sigmoid each where `independent`."""
    for first, scores in scores_on_grid(slabs, taps):
        yield first, (scores.sigmoid() if independent else scores.softmax(0)).cpu().numpy()


def scores_on_grid(slabs: Iterable[Slab], taps: AxisTaps) -> Iterator[tuple[int, Tensor]]:
    """Interpolated scores (K, planes, Y, X) on the new grid, with the number of their first plane.

    The planes come in the same portions whatever the slabs are, so that several models can be followed side by side.
    """
    return _chunks(slabs, _Scores(taps))


def _chunks(slabs: Iterable[Slab], maker: _Winners | _Scores) -> Iterator[tuple[int, Tensor]]:
    """Portions of output planes, each as soon as the planes that it needs are there."""
    portions = _Portions(maker)
    for slab in slabs:
        yield from portions.of(torch.as_tensor(slab))


class ScorePortions:
    """`scores_on_grid` for who is handed the slabs one by one: somebody else consumes them at the same time."""

    def __init__(self, taps: AxisTaps) -> None:
        self._portions = _Portions(_Scores(taps))

    def of(self, slab: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Interpolated scores (K, planes, Y, X) that this next slab completes, with the number of their first plane."""
        return self._portions.of(slab)


class _Portions:
    """Portions of output planes from slabs of input planes."""

    def __init__(self, maker: _Winners | _Scores) -> None:
        self._maker = maker
        depth = maker.taps[0]
        self._planes = len(depth.low)
        self._low, self._last = depth.low.tolist(), depth.high.tolist()
        self._made = self._available = self._thickness = 0

    def of(self, slab: Tensor) -> Iterator[tuple[int, Tensor]]:
        """What the next slab completes."""
        self._thickness = self._thickness or _thickness(self._maker.taps, slab.shape[0])
        self._maker.add(slab)
        self._available += slab.shape[1]
        while self._made < self._planes:
            start, stop = self._made, min(self._made + self._thickness, self._planes)
            if self._last[stop - 1] >= self._available:
                return
            yield start, self._maker.make(start, stop)
            self._made = stop
            if stop < self._planes:
                self._maker.forget(self._low[stop])


def _thickness(taps: AxisTaps, heads: int) -> int:
    """Output planes that are worked on together."""
    area = len(taps[1].low) * len(taps[2].low)
    return max(1, min(CHUNK_VOXELS // area, CHUNK_BYTES // (4 * heads * area)))


class _Scores:
    """All scores, interpolated."""

    def __init__(self, taps: AxisTaps) -> None:
        self.taps = taps
        self._first = 0  # plane at which `_held` begins
        self._held: Tensor | None = None  # (K, planes, Y, X)

    def add(self, slab: Tensor) -> None:
        """Take the next planes."""
        if self._held is None:
            self.taps = _on_device(self.taps, slab.device)
        self._held = slab if self._held is None else torch.cat((self._held, slab), dim=1)

    def make(self, start: int, stop: int) -> Tensor:
        """Scores (K, planes, Y, X) of the output planes start..stop."""
        z, y, x = self.taps
        held = self._held
        if held is None:
            raise ValueError("no planes were added")
        made = _mixed_axis(held, 1, z.low[start:stop] - self._first, z.high[start:stop] - self._first, z, start)
        made = _mixed_axis(made, 2, y.low, y.high, y, 0)
        return _mixed_axis(made, 3, x.low, x.high, x, 0)

    def forget(self, plane: int) -> None:
        """Let go of the planes before `plane`."""
        if self._held is not None:
            count = min(plane - self._first, self._held.shape[1])
            self._held = self._held[:, count:].clone()
            self._first += count


def _mixed_axis(scores: Tensor, axis: int, low: Tensor, high: Tensor, taps: Taps, first: int) -> Tensor:
    below = scores.index_select(axis, low)
    if taps.plain:
        return below
    share = taps.share[first : first + len(low)]
    return below.lerp_(scores.index_select(axis, high), share.view(-1, *(1,) * (scores.ndim - axis - 1)))


class _Winners:
    """Which label wins, with scores at boundaries only."""

    def __init__(self, taps: AxisTaps, decide: Decide, dtype: torch.dtype) -> None:
        self.taps = taps
        self._decide = decide
        self._dtype = dtype
        self._first = 0  # plane at which what is held begins
        self._rows: Tensor | None = None  # (planes, Y * X, K)
        self._winners: Tensor | None = None  # (planes, Y, X)

    def add(self, slab: Tensor) -> None:
        """Take the next planes (K, planes, Y, X)."""
        heads, planes, height, width = slab.shape
        # one row per voxel: rows are what is picked out later, and a row in one place is read at once
        rows = slab.permute(1, 2, 3, 0).contiguous().view(planes, height * width, heads)
        winners = self._decide(rows.view(-1, heads)).to(self._dtype).view(planes, height, width)
        if self._rows is None or self._winners is None:
            self.taps = _on_device(self.taps, slab.device)
            self._rows, self._winners = rows, winners
        else:
            self._rows, self._winners = torch.cat((self._rows, rows)), torch.cat((self._winners, winners))

    def forget(self, plane: int) -> None:
        """Let go of the planes before `plane`."""
        if self._rows is not None and self._winners is not None:
            count = min(plane - self._first, len(self._rows))
            self._rows, self._winners = self._rows[count:].clone(), self._winners[count:].clone()
            self._first += count

    def make(self, start: int, stop: int) -> Tensor:
        """Winners (planes, Y, X) of the output planes start..stop."""
        if self._rows is None or self._winners is None:
            raise ValueError("no planes were added")
        z, y, x = self.taps
        height, width = self._winners.shape[1:]
        area = height * width
        scores = self._rows.view(-1, self._rows.shape[2])

        low, high = z.low[start:stop] - self._first, z.high[start:stop] - self._first
        lower, upper = self._winners.index_select(0, low), self._winners.index_select(0, high)  # (n, Y, X)
        index = _points_of_boundary_cells(lower, upper).flatten().nonzero()[:, 0]
        plane, point = index // area, index % area
        scores = _mixed(scores, low[plane] * area + point, high[plane] * area + point, z, start + plane)
        current = self._decided(lower, index, scores)

        place = _places(index, lower.numel())
        lower, upper = current.index_select(1, y.low), current.index_select(1, y.high)  # (n, new Y, X)
        index = _points_of_boundary_edges(lower, upper).flatten().nonzero()[:, 0]
        line, column = index // width, index % width
        row = line % len(y.low)
        base = line // len(y.low) * area + column
        scores = _mixed(scores, place[base + y.low[row] * width], place[base + y.high[row] * width], y, row)
        current = self._decided(lower, index, scores)

        place = _places(index, lower.numel())
        lower, upper = current.index_select(2, x.low), current.index_select(2, x.high)  # (n, new Y, new X)
        points = (lower != upper).flatten().nonzero()[:, 0]
        for index in torch.split(points, max(1, CHUNK_BYTES // (16 * scores.shape[1]))):
            line, column = index // len(x.low) * width, index % len(x.low)
            mixed = _mixed(scores, place[line + x.low[column]], place[line + x.high[column]], x, column)
            self._decided(lower, index, mixed)
        return lower

    def _decided(self, winners: Tensor, index: Tensor, scores: Tensor) -> Tensor:
        """The winners, in place, with those at `index` decided by their scores (points, K)."""
        if len(index):
            winners.view(-1)[index] = self._decide(scores).to(self._dtype)
        return winners


def _on_device(taps: AxisTaps, device: torch.device) -> AxisTaps:
    z, y, x = (axis.to(device) for axis in taps)
    return z, y, x


def _mixed(scores: Tensor, low: Tensor, high: Tensor, taps: Taps, number: Tensor) -> Tensor:
    """Scores (points, K) between the rows `low` and `high`, with the shares of the output voxels `number`."""
    below = scores.index_select(0, low)
    return below if taps.plain else below.lerp_(scores.index_select(0, high), taps.share[number, None])


def _places(index: Tensor, points: int) -> Tensor:
    """For each point its row among those at `index`; what stands at the others is never asked for."""
    places = torch.zeros(points, dtype=torch.int64, device=index.device)
    places[index] = torch.arange(len(index), device=index.device)
    return places


def _points_of_boundary_edges(lower: Tensor, upper: Tensor) -> Tensor:
    """Points (n, Y, X) that belong to a pair of neighbours along X where lower and upper winners are not all one."""
    same = lower == upper
    if same.shape[2] == 1:
        return ~same
    boundary = ~(same[..., 1:] & same[..., :-1] & (lower[..., 1:] == lower[..., :-1]))
    return _ends(boundary, 2)


def _points_of_boundary_cells(lower: Tensor, upper: Tensor) -> Tensor:
    """Points (n, Y, X) that belong to a cell of four neighbours where lower and upper winners are not all one."""
    same = lower == upper
    if same.shape[2] > 1:
        same = same[..., 1:] & same[..., :-1] & (lower[..., 1:] == lower[..., :-1])
    if same.shape[1] > 1:
        first = lower[..., : same.shape[2]]
        same = same[:, 1:] & same[:, :-1] & (first[:, 1:] == first[:, :-1])
    boundary = ~same
    if lower.shape[1] > 1:
        boundary = _ends(boundary, 1)
    return _ends(boundary, 2) if lower.shape[2] > 1 else boundary


def _ends(intervals: Tensor, axis: int) -> Tensor:
    """Points that are an end of a marked interval along an axis: one more than there are intervals."""
    before = torch.nn.functional.pad(intervals, (1, 0) if axis == 2 else (0, 0, 1, 0))
    after = torch.nn.functional.pad(intervals, (0, 1) if axis == 2 else (0, 0, 0, 1))
    return before | after
