"""Scores of a whole volume from a network that sees one patch at a time (nnU-Net's sliding window, facts section 8).

Tiles overlap; each is averaged over its mirrored copies, weighted by a Gaussian and added up. The volume is worked off
along its first axis, and planes that no later tile touches leave as finished slabs, so that whoever can use slabs
never holds the scores of the whole volume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.devices import release_memory
from autoseg.errors import is_out_of_memory
from autoseg.inference.tile_grid import Start, TileGrid, mirror_sets
from autoseg.inference.window_sums import Allocate, WindowSums, window_sums

Forward = Callable[[Tensor], Tensor]  # (B, C, *patch) -> (B, K, *patch)

#: One patch that goes through the network: where its tile begins, and the axes along which it is mirrored.
Pass = tuple[Start, tuple[int, ...]]


@dataclass(frozen=True)
class Room:
    """What room a sliding window has. It decides memory and speed, never the scores (but for rounding)."""

    image: torch.device | None = None  # where the image lies; None: with the network
    sums: torch.device | None = None  # where the sums lie; None: with the network
    allocate: Allocate | None = None  # makes the sums elsewhere, such as in a file; then `sums` does not count
    batch_size: int | None = None  # patches that go through the network together at most


#: Everything beside the network, in the batches that are quickest.
PLENTY = Room()


def score_slabs(
    forward: Forward,
    image: NDArray[np.float32],
    grid: TileGrid,
    *,
    heads: int,
    mirror_axes: Sequence[int] = (),
    batch_size: int = 1,
    device: torch.device,
    room: Room = PLENTY,
    finished_heads: int | None = None,
    precise: Forward | None = None,
    half_sums: bool = False,
    exact: int = 0,
    on_tile: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Finished scores in order along axis 0: (first plane, slab (K, planes, Y, X) float32 where the sums lie).

    `forward` maps a batch (B, C, *patch) on `device` to (B, heads, *patch) in any float type. `mirror_axes` are axes of
    (Z, Y, X); for a 2D network axis 0 cannot be one. `batch_size` is how many patches (tiles or their mirrored copies)
    go through the network together; where the device's memory does not suffice for them, fewer do, from the patch on
    at which that happened. Scores are summed in float32; with `half_sums` as nnU-Net does it, see `HalfWindow`,
    but for the last `exact` of the heads.
    Slabs are thin, even if who takes them makes `finished_heads` scores of the `heads` of a voxel.
    Patches whose scores are not finite go through `precise` once more, the network in full precision, if that is given.
    `on_tile` is told the number of tiles finished since its last call. Raises PredictionError when a score is not
    finite, ValueError when a 2D network is to be mirrored across slices.
    """
    if grid.dimensions == 2 and grid.flat_axis in mirror_axes:
        raise ValueError("a 2D network cannot be mirrored across slices")
    mirrors = mirror_sets(mirror_axes)
    make = room.allocate or _on(room.sums or device)
    window = window_sums(grid, heads, len(mirrors), make, exact=exact if half_sums else heads)
    thin = max(heads, finished_heads or 0)
    passes: list[Pass] = [(start, mirror) for start in product(*grid.starts) for mirror in mirrors]  # type: ignore[misc]
    run = _Run(forward, precise, grid, device, _volume(image, grid, room.image or device))
    done = 0
    for batch, patches in _scored(run, window, passes, min(batch_size, room.batch_size or batch_size)):
        for (start, _), scores in zip(batch, patches, strict=True):
            if start[0] > window.first:
                yield from window.take(start[0], thin)
            with torch.inference_mode():
                window.add(start, scores)
        done += len(batch)
        finished = done // len(mirrors) - (done - len(batch)) // len(mirrors)
        if on_tile is not None and finished:
            on_tile(finished)
    yield from window.take(grid.padded_shape[0], thin)


class _Run:
    """A network and the padded image that it goes over."""

    def __init__(
        self, forward: Forward, precise: Forward | None, grid: TileGrid, device: torch.device, volume: Tensor
    ) -> None:
        self.forward = forward
        self.precise = precise
        self.grid = grid
        self.device = device
        self.volume = volume  # (C, Z, Y, X)

    def scores(self, batch: Sequence[Pass], device: torch.device) -> list[Tensor]:
        """Scores (K, Z, Y, X) of some patches, mirrored back, in float32 on a device."""
        with torch.inference_mode():
            patches = _patches(self.volume, batch, self.grid).to(self.device)
            scores = self.forward(patches)
            if self.precise is not None and not bool(torch.isfinite(scores).all()):
                scores = self.precise(patches)  # half precision ran out of range
            scores = (scores if self.grid.dimensions == 3 else scores.unsqueeze(2 + self.grid.flat_axis)).to(
                device, torch.float32
            )
            return [
                passed.flip([axis + 1 for axis in mirror]) if mirror else passed
                for (_, mirror), passed in zip(batch, scores, strict=True)
            ]


def _scored(
    run: _Run, window: WindowSums, passes: Sequence[Pass], batch_size: int
) -> Iterator[tuple[Sequence[Pass], list[Tensor]]]:
    """All passes in batches with their scores; nothing is computed twice where the device's memory runs out.

    Then the same patches go in a smaller batch. A single one that does not fit makes room: sums and image leave the
    device. What still does not fit raises the device's error.
    """
    begin, size = 0, max(1, batch_size)
    while begin < len(passes):
        batch = passes[begin : begin + size]
        try:
            scores = run.scores(batch, window.device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            size = _smaller(run, window, len(batch), error)
        else:
            begin += len(batch)
            yield batch, scores
            continue
        release_memory(run.device)  # outside the handler, which keeps the failed step's tensors alive


def _smaller(run: _Run, window: WindowSums, size: int, error: Exception) -> int:
    """The batch to try after `size` patches did not fit on the device."""
    if size > 1:
        return size // 2
    main_memory = torch.device("cpu")
    if run.device == main_memory or (window.device == run.volume.device == main_memory):
        raise error
    window.move(main_memory)
    run.volume = run.volume.to(main_memory)
    return 1


def _on(device: torch.device) -> Allocate:
    """Makes tensors of zeros on a device."""
    return lambda shape, dtype: torch.zeros(tuple(shape), dtype=dtype, device=device)


def _volume(image: NDArray[np.float32], grid: TileGrid, device: torch.device) -> Tensor:
    """The image (C, Z, Y, X) with zeros around it where a patch is larger, on a device."""
    if any(before or after for before, after in grid.pads):
        padded = np.pad(image.astype(np.float32, copy=False), ((0, 0), *grid.pads))
    else:
        padded = np.require(image, np.float32, ["C", "W"])  # torch warns of memory that cannot be written
    return torch.from_numpy(padded).to(device)


def _patches(volume: Tensor, batch: Sequence[Pass], grid: TileGrid) -> Tensor:
    """Patches (B, C, *patch) cut from the padded volume (C, Z, Y, X), each mirrored along its axes."""
    depth, height, width = grid.patch
    patches = []
    for (z, y, x), mirror in batch:
        patch = volume[:, z : z + depth, y : y + height, x : x + width]
        patches.append(patch.flip([axis + 1 for axis in mirror]) if mirror else patch)
    stacked = torch.stack(patches)
    return stacked if grid.dimensions == 3 else stacked.squeeze(2 + grid.flat_axis)
