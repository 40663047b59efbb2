"""Scores on another grid, portion by portion as their planes come, and how probable each label is there.

Which label wins there is told without interpolating all of them, in `arrays.resample_winners_torch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.arrays.resample import linear_taps, nearest_index

#: The next planes of scores (K, planes, Y, X), in order along the first spatial axis.
Slab = Tensor | NDArray[np.float32]

#: Output voxels that are worked on together.
CHUNK_VOXELS = 1 << 20

#: Bytes of float32 scores that planes worked on together may need at most, should every cell be at a boundary; a plane
#: is worked on in any case.
CHUNK_BYTES = 64_000_000


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


def on_device(taps: AxisTaps, device: torch.device) -> AxisTaps:
    """The same on a device."""
    z, y, x = (axis.to(device) for axis in taps)
    return z, y, x


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
    return portions_of(slabs, _Scores(taps))


class PlaneMaker(Protocol):
    """Makes planes on the new grid of planes on the old one, which it holds as long as they are needed."""

    taps: AxisTaps

    def add(self, slab: Tensor) -> None:
        """Take the next planes (K, planes, Y, X); from the first on `taps` are on their device."""

    def make(self, start: int, stop: int) -> Tensor:
        """The output planes start..stop, of which all that they need was added."""

    def forget(self, plane: int) -> None:
        """Let go of the planes before `plane`."""


def portions_of(slabs: Iterable[Slab], maker: PlaneMaker) -> Iterator[tuple[int, Tensor]]:
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

    def __init__(self, maker: PlaneMaker) -> None:
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
            self.taps = on_device(self.taps, slab.device)
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
