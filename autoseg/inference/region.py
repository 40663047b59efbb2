"""The region of interest: found in a coarse pass, so that the fine one looks at nothing else.

The coarse pass is one network with tiles side by side and without mirroring: the one of a low resolution where the
model has one, else the first of the model's own. In a cascade it costs nothing: the first stage sees the whole volume
anyway. The fine pass takes the tiles that the whole volume would have, and leaves out those that are far from what was
found: so scores within the region are those of the whole volume, but near its border, where tiles are missing whose
edge alone reached in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.arrays.crop import Box, bounding_box
from autoseg.inference.chosen_labels import chosen_indices
from autoseg.inference.tile_grid import TileGrid
from autoseg.inference.window_sums import planes_per_slab
from autoseg.records import Labels, PredictSettings, Shape

#: Tiles of the coarse pass lie side by side: each voxel is seen once.
COARSE = PredictSettings(step=1.0, mirror=False)

#: Margin around what the coarse pass finds, as a share of the patch: the standard deviation of the tiles' window. The
#: window gives little weight to scores near a tile's border since they are often wrong, and in the coarse pass, where
#: tiles do not overlap, they are all there is.
MARGIN_SHARE = 1 / 8

#: Smallest margin, in voxels: of slices, which a 2D network sees one by one, a few at the ends may be missed.
SMALLEST_MARGIN = 4

#: Score of what lies outside the region, in favour of the background: e^-60 is what a softmax leaves to a label.
OUTSIDE_SCORE = 30.0


@dataclass(frozen=True)
class Region:
    """Where the fine pass looks, in one group's prepared grid (Z, Y, X)."""

    kept: Box  # what may be foreground
    cut: Box  # what the tiles see: at least `kept`
    grid: TileGrid  # the tiles within `cut`
    shape: Shape  # of the whole prepared image

    @property
    def share(self) -> float:
        """Share of the volume that the network looks at."""
        return _voxels(self.cut) / float(np.prod(self.shape))


def found_box(found: NDArray[np.integer], labels: Labels, names: Sequence[str] = ()) -> Box | None:
    """The box of the named labels (of all foreground where none is named) in training labels; None without any."""
    wanted = np.isin(found, chosen_indices(labels, names))
    return bounding_box(wanted) if wanted.any() else None


def moved_box(box: Box, shape: Sequence[int], new_shape: Sequence[int]) -> Box:
    """The box in another grid over the same space, rounded outwards."""
    z, y, x = (
        (start * new // old, -(-stop * new // old))
        for (start, stop), old, new in zip(box, shape, new_shape, strict=True)
    )
    return z, y, x


def region_of(box: Box, whole: TileGrid) -> Region:
    """The region around a box of the volume that `whole` tiles.

    A margin is added (MARGIN_SHARE, SMALLEST_MARGIN); then each voxel keeps the tile in whose middle it lies best.
    """
    axes = [
        _axis(interval, whole.shape[axis], whole.patch[axis], whole.starts[axis], whole.pads[axis])
        for axis, interval in enumerate(box)
    ]
    kept, cut = _box([axis[0] for axis in axes]), _box([axis[1] for axis in axes])
    z, y, x = (stop - start for start, stop in cut)
    grid = replace(whole, shape=(z, y, x), starts=tuple(axis[2] for axis in axes))
    return Region(kept, cut, grid, whole.shape)


Interval = tuple[int, int]


def _axis(
    box: Interval, size: int, patch: int, starts: Sequence[int], pads: tuple[int, int]
) -> tuple[Interval, Interval, tuple[int, ...]]:
    """Along one axis: what is kept, what is cut out, and the tiles within that."""
    margin = max(SMALLEST_MARGIN, round(patch * MARGIN_SHARE))
    kept = (max(0, box[0] - margin), min(size, box[1] + margin))
    if any(pads):  # shorter than the patch: there is one tile
        return kept, (0, size), tuple(starts)
    middles = np.asarray(starts) + (patch - 1) / 2
    first, last = (int(np.abs(middles - voxel).argmin()) for voxel in (kept[0], kept[1] - 1))
    cut = (starts[first], starts[last] + patch)
    return kept, cut, tuple(start - cut[0] for start in starts[first : last + 1])


def _box(intervals: Sequence[Interval]) -> Box:
    z, y, x = intervals
    return z, y, x


def _voxels(box: Box) -> int:
    return int(np.prod([stop - start for start, stop in box]))


def in_whole(slabs: Iterator[Tensor], region: Region, labels: Labels) -> Iterator[Tensor]:
    """Scores (K, planes, Y, X) of the whole prepared image, from those of what was cut out.

    Around what is kept all is background.
    """
    (begin, end), (top, _), (left, _) = region.cut
    (first, last), (upper, lower), (near, far) = region.kept
    plane = begin
    outside = torch.empty(0)
    most = planes_per_slab(labels.heads, region.shape)
    for slab in (part for finished in slabs for part in finished.split(most, dim=1)):
        if plane == begin:
            outside = _background(slab, region.shape, labels)
            yield from _repeated(outside, begin, most)
        whole = outside.expand(-1, slab.shape[1], -1, -1).clone(memory_format=torch.contiguous_format)
        planes = slice(max(first - plane, 0), max(min(last - plane, slab.shape[1]), 0))
        whole[:, planes, upper:lower, near:far] = slab[:, planes, upper - top : lower - top, near - left : far - left]
        yield whole
        plane += slab.shape[1]
    yield from _repeated(outside, region.shape[0] - end, most)


def _background(slab: Tensor, shape: Shape, labels: Labels) -> Tensor:
    """One plane (K, 1, Y, X) of scores that are sure of the background; it takes no memory."""
    scores = torch.full((len(slab), 1, 1, 1), -OUTSIDE_SCORE, dtype=slab.dtype, device=slab.device)
    scores[labels.heads :] = 0  # of a disagreement there is none
    if not labels.has_regions:
        scores[0] = OUTSIDE_SCORE
    return scores.expand(-1, -1, *shape[1:])


def _repeated(plane: Tensor, count: int, most: int) -> Iterator[Tensor]:
    """So many planes, at most `most` at a time: who resamples them makes copies."""
    for start in range(0, count, most):
        yield plane.expand(-1, min(most, count - start), -1, -1)
