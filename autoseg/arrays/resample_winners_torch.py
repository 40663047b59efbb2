"""Which label wins on another grid, with scores at the boundaries between labels only.

Linear interpolation mixes the corners of a cell with weights that are not negative. Where one label has the highest
score at all corners of a cell it therefore has it everywhere inside: only cells at a boundary between labels need
scores. The axes are interpolated one after the other, and at each only what lies in such a cell is computed: scores at
a few per cent of the points, labels by comparison everywhere else. The result is that of interpolating all scores and
taking the highest, but for ties made by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.arrays.resample_scores_torch import CHUNK_BYTES, AxisTaps, Slab, Taps, on_device, portions_of

#: Rows of scores (points, K) to the index of the winner of each (points,).
Decide = Callable[[Tensor], Tensor]


def highest(scores: Tensor) -> Tensor:
    """The label with the highest of its scores (points, K); of equal ones the first."""
    return scores.argmax(1)


def last_positive(scores: Tensor) -> Tensor:
    """One more than the last region whose score (points, R) is above 0; 0 where none is.

    Regions are written one over the other, so the last one decides.
    """
    numbers = torch.arange(1, scores.shape[1] + 1, device=scores.device, dtype=torch.int32)
    return ((scores > 0) * numbers).amax(1)


def winners_on_grid(slabs: Iterable[Slab], taps: AxisTaps, decide: Decide, count: int = 256) -> NDArray[np.integer]:
    """Winners (Z, Y, X) on the new grid, of the scores that `slabs` bring; they are numbers below `count`."""
    z, y, x = (len(axis.low) for axis in taps)
    dtype = torch.uint8 if count <= 256 else torch.int32
    found = torch.zeros((z, y, x), dtype=dtype)
    for first, planes in portions_of(slabs, _Winners(taps, decide, dtype)):
        found[first : first + len(planes)] = planes
    result: NDArray[np.integer] = found.numpy().astype(np.min_scalar_type(max(count - 1, 1)), copy=False)
    return result


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
            self.taps = on_device(self.taps, slab.device)
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
