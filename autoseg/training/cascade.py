"""Faults put into the first stage's labels, so that the second learns to correct, not to copy (nnU-Net's).

Labels are grown, shrunk, opened or closed, and small pieces of them are lost. A label map stays a label map: voxels
that one label gains are taken from the others. What happens to a sample is drawn from its own generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from torch import Tensor

Operator = Literal["dilation", "erosion", "opening", "closing"]

OPERATORS: tuple[Operator, ...] = ("dilation", "erosion", "closing", "opening")


@dataclass(frozen=True)
class FirstStageFaults:
    """How often and how much the first stage's labels are changed: nnU-Net's figures."""

    operator_probability: float = 0.4  # per sample
    operator_label_probability: float = 0.5  # then per label
    radius: tuple[float, float] = (1.0, 8.0)  # of the ball, in voxels
    removal_probability: float = 0.2  # per sample
    removal_label_probability: float = 0.5  # then per label
    largest_removed: float = 0.15  # a piece is lost only if it covers less of the patch


@dataclass(frozen=True)
class FaultDraw:
    """What was drawn for one sample, in the order in which it happens."""

    operators: tuple[tuple[int, Operator, float], ...] = ()  # label, what happens to it, radius
    removals: tuple[tuple[int, float], ...] = ()  # label, and which of its pieces: 0 to 1 along their list


#: Labels as they are.
NO_FAULTS = FaultDraw()


def draw_faults(generator: np.random.Generator, settings: FirstStageFaults, labels: int) -> FaultDraw:
    """The faults of one sample whose first stage knows labels 1 to `labels`."""
    operators: list[tuple[int, Operator, float]] = []
    removals: list[tuple[int, float]] = []
    if generator.random() < settings.operator_probability:
        for label in generator.permutation(labels) + 1:
            if generator.random() < settings.operator_label_probability:
                operator = OPERATORS[int(generator.integers(len(OPERATORS)))]
                operators.append((int(label), operator, float(generator.uniform(*settings.radius))))
    if generator.random() < settings.removal_probability:
        for label in generator.permutation(labels) + 1:
            if generator.random() < settings.removal_label_probability:
                removals.append((int(label), float(generator.random())))
    return FaultDraw(tuple(operators), tuple(removals))


def add_faults(previous: Tensor, draws: Sequence[FaultDraw], settings: FirstStageFaults) -> None:
    """Change label maps (B, *patch), integers, in place by what was drawn for each sample."""
    for number, draw in enumerate(draws):
        for label, operator, radius in draw.operators:
            apply_operator(previous[number], label, operator, radius)
        for label, which in draw.removals:
            remove_piece(previous[number], label, which, settings.largest_removed)


def apply_operator(labels: Tensor, label: int, operator: Operator, radius: float) -> None:
    """Grow, shrink, open or close one label of a label map, in place, by a ball of so many voxels.

    Beyond the patch the label is taken to go on as at its edge: nothing is worn away from there.
    """
    mask = labels == label
    size = int(2 * radius + 1)
    region = _surroundings(mask, 2 * size)
    if region is None:
        return
    before = mask[region]
    if before.device.type == "mps":
        before = before.cpu()  # not every version of Apple's has Fourier transforms
    element = ball(size, labels.ndim)
    if operator == "dilation":
        after = _dilated(before, element)
    elif operator == "erosion":
        after = ~_dilated(~before, element)
    elif operator == "opening":
        after = _dilated(~_dilated(~before, element), _turned(element)) & before
    else:
        after = ~_dilated(~_dilated(before, element), _turned(element)) | before
    part = labels[region]
    part[(before & ~after).to(labels.device)] = 0
    part[after.to(labels.device)] = label


def remove_piece(labels: Tensor, label: int, which: float, largest: float) -> None:
    """Take one connected piece of a label out of a label map, in place; only pieces below a share of the patch.

    `which`, 0 to 1, picks among them. Voxels that touch by a corner are connected.
    """
    mask = (labels == label).cpu().numpy()
    pieces, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    small = np.flatnonzero(sizes < largest * mask.size) + 1
    if len(small):
        chosen = small[min(int(which * len(small)), len(small) - 1)]
        labels[torch.from_numpy(pieces == chosen).to(labels.device)] = 0


@lru_cache(maxsize=64)
def ball(size: int, dimensions: int) -> NDArray[np.bool_]:
    """A ball of so many voxels across; its centre lies between voxels where the size is even."""
    offsets = np.arange(size) - (size - 1) / 2
    distance = sum(np.square(axis) for axis in np.meshgrid(*(offsets,) * dimensions, indexing="ij"))
    element: NDArray[np.bool_] = distance <= ((size - 1) / 2) ** 2 + 1e-9
    element.flags.writeable = False
    return element


def _turned(element: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The element seen from the other side: where its size is even its centre lies half a voxel off, now the other way.

    So opening and closing leave a shape in its place.
    """
    if element.shape[0] % 2:
        return element
    return np.pad(element, [(0, 1)] * element.ndim)


def _dilated(mask: Tensor, element: NDArray[np.bool_]) -> Tensor:
    """The mask grown by the element, of the same shape: a convolution by Fourier transform."""
    sizes = [
        fft.next_fast_len(edge + width - 1, real=True) for edge, width in zip(mask.shape, element.shape, strict=True)
    ]
    axes = list(range(mask.ndim))
    kernel = torch.from_numpy(element.astype(np.float32)).to(mask.device)
    product = torch.fft.rfftn(mask.to(torch.float32), s=sizes, dim=axes) * torch.fft.rfftn(kernel, s=sizes, dim=axes)
    counts = torch.fft.irfftn(product, s=sizes, dim=axes)
    starts = [(width - 1) // 2 for width in element.shape]
    inside = tuple(slice(start, start + edge) for start, edge in zip(starts, mask.shape, strict=True))
    grown: Tensor = counts[inside] > 0.5
    return grown


def _surroundings(mask: Tensor, margin: int) -> tuple[slice, ...] | None:
    """The box around what is in the mask with a margin, within the patch; None for an empty mask."""
    voxels = mask.nonzero()
    if not len(voxels):
        return None
    low, high = voxels.amin(0).tolist(), voxels.amax(0).tolist()
    return tuple(
        slice(max(0, first - margin), min(edge, last + 1 + margin))
        for first, last, edge in zip(low, high, mask.shape, strict=True)
    )
