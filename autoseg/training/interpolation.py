"""Values between the voxels of a batch of patches: of images by linear weights, of labels the one of most weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from autoseg.devices import sent
from autoseg.records import OUTSIDE

#: Voxels among unlike labels that are looked at together: each holds 2^D x 2^D numbers meanwhile.
MIXED_AT_A_TIME = 2**19

#: Scores closer than this are a tie: sums of the same weights in another order.
TIE = 1e-5


def sample_images(images: Tensor, positions: Tensor) -> Tensor:
    """Linear interpolation (n, C, *patch) of images (n, C, *larger) at positions (n, D, *patch); 0 outside."""
    sizes = sent(torch.tensor(images.shape[2:], dtype=torch.float32), images.device)
    scale = sizes.view(-1, *(1,) * (positions.ndim - 2))
    # torch counts -1..1 from edge to edge of the volume, axes last to first
    grid = ((2 * positions + 1) / scale - 1).flip(1).movedim(1, -1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def sample_labels(labels: Tensor, positions: Tensor) -> Tensor:
    """The label of most linear weight around each position; ties go to the nearest voxel's, then to the smallest.

    What nnU-Net gets by interpolating every label's indicator, at a cost that does not grow with the labels: the
    voxels whose surrounding voxels all agree, nearly all, need one look-up.

    Args:
        labels: (n, N, *larger) integers; the N maps share their positions.
        positions: (n, D, *patch) in voxels. Outside, labels are OUTSIDE.

    Returns:
        (n, N, *patch), of the labels' dtype.
    """
    count, maps, *size = labels.shape
    patch = positions.shape[2:]
    padded = functional.pad(labels, (1, 1) * len(size), value=OUTSIDE)
    corners, shares = _cells(positions + 1, padded.shape[2:])
    index = _flat_index(corners, padded.shape[2:])
    flat = padded.flatten(2)
    result = flat.gather(2, index[:, None].expand(-1, maps, -1))
    mixed_cells = _mixed(padded)
    cell = _flat_index(corners, mixed_cells.shape[2:])
    mixed = mixed_cells.flatten(2).gather(2, cell[:, None].expand(-1, maps, -1))
    places = mixed.nonzero(as_tuple=True)
    if not len(places[0]):
        return result.view(count, maps, *patch)
    ways = torch.cartesian_prod(*(torch.arange(2, device=labels.device),) * len(size))  # (2^D, D)
    steps = _flat_index(list(ways.T[:, None]), padded.shape[2:])  # (1, 2^D)
    for sample, which, voxel in zip(*(axis.split(MIXED_AT_A_TIME) for axis in places), strict=True):
        around = flat[sample[:, None], which[:, None], index[sample, voxel][:, None] + steps]
        within = torch.stack([share[sample, voxel] for share in shares], dim=1)
        result[sample, which, voxel] = _heaviest(around, within, ways)
    return result.view(count, maps, *patch)


def _cells(positions: Tensor, shape: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Per axis the lower corner (n, V) of the cell that holds each position, and how far within it lies (0 to 1).

    Positions beyond the volume are moved to its edge.
    """
    corners, shares = [], []
    for axis, size in enumerate(shape):
        place = positions[:, axis].flatten(1).clamp(0, size - 1)
        corner = place.floor().clamp_(max=size - 2)
        corners.append(corner.long())
        shares.append(place - corner)
    return corners, shares


def _flat_index(corners: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Index into a flattened volume, from one index per axis."""
    index = corners[0]
    for corner, size in zip(corners[1:], shape[1:], strict=True):
        index = index * size + corner
    return index


def _mixed(labels: Tensor) -> Tensor:
    """Whether the corners of each cell differ: (n, N, *space) to (n, N, *space − 1)."""
    least = most = labels
    for axis in range(2, labels.ndim):
        cells = least.shape[axis] - 1
        least = torch.minimum(least.narrow(axis, 0, cells), least.narrow(axis, 1, cells))
        most = torch.maximum(most.narrow(axis, 0, cells), most.narrow(axis, 1, cells))
    return least != most


def _heaviest(around: Tensor, shares: Tensor, ways: Tensor) -> Tensor:
    """The label of most weight in each cell.

    Args:
        around: (n, 2^D) labels of the corners.
        shares: (n, D) how far the position lies within its cell.
        ways: (2^D, D) which corners are upper ones.
    """
    weights = torch.where(ways.bool(), shares[:, None], 1 - shares[:, None]).prod(2)  # (n, 2^D)
    scores = ((around[:, :, None] == around[:, None, :]) * weights[:, None]).sum(2)
    best = scores >= scores.amax(1, keepdim=True) - TIE
    nearest = _flat_index(list((shares >= 0.5).long().T), (2,) * shares.shape[1])[:, None]
    smallest = torch.where(best, around, torch.iinfo(around.dtype).max).amin(1)
    return torch.where(best.gather(1, nearest)[:, 0], around.gather(1, nearest)[:, 0], smallest)
