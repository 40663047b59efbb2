"""Rotation, scaling and elastic deformation of training patches, and mirroring (nnU-Net's, Isensee et al. 2021).

Every patch comes out of a larger one, so that turning it does not pull in emptiness. An output voxel o of a patch of
size f reads the larger patch of size P at A · (o − (f − 1) / 2) + (P − 1) / 2 plus an elastic displacement.
Axes here are those of the patch: two or three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.devices import sent
from autoseg.training.interpolation import sample_images, sample_labels
from autoseg.training.operators import apply_along_axes

#: A patch so much flatter than it is wide is turned in its slices only.
FLAT_PATCH_RATIO = 3.0

#: Zoom for which the larger patch leaves room.
ROOM_FOR_SCALING = 0.85

#: Control points per axis of the elastic deformation.
CONTROL_POINTS = 6


@dataclass(frozen=True)
class Spatial:
    """How often and how far patches are turned, scaled and bent. Probabilities per sample."""

    rotation_probability: float = 0.2
    scaling_probability: float = 0.2
    scaling_range: tuple[float, float] = (0.7, 1.4)  # above 1 objects become smaller
    elastic_probability: float = 0.0
    elastic_strength: float = 0.06  # standard deviation of control points, as a share of the patch's edge


@dataclass(frozen=True, eq=False)
class SpatialDraw:
    """What was drawn for one sample."""

    matrix: NDArray[np.float64]  # (D, D)
    displacement: NDArray[np.float64] | None  # (D, control points per axis...) in voxels


def is_flat(patch_size: Sequence[int]) -> bool:
    """Whether a 3D patch is turned in its slices only, as if it were 2D (nnU-Net's dummy 2D)."""
    return len(patch_size) == 3 and max(patch_size) / patch_size[0] > FLAT_PATCH_RATIO


def largest_rotation(patch_size: Sequence[int]) -> float:
    """Largest angle in radians, either way, about every axis that turns."""
    if len(patch_size) == 3:
        return math.pi if is_flat(patch_size) else math.radians(30)
    return math.radians(15) if max(patch_size) / min(patch_size) > 1.5 else math.pi


def enlarged_patch(patch_size: Sequence[int]) -> tuple[int, ...]:
    """Size of the patch to crop, so that rotations find something (nnU-Net's rule, its signs included)."""
    angle = min(math.pi / 2, largest_rotation(patch_size))
    c, s = math.cos(angle), math.sin(angle)
    size = tuple(float(edge) for edge in patch_size)
    turned: list[tuple[float, ...]]
    if len(size) == 2:
        h, w = size
        turned = [(c * h + s * w, c * w - s * h)]
    else:
        x, y, z = size
        turned = [
            (x, c * y + s * z, c * z - s * y),
            (c * x - s * z, y, c * z + s * x),
            (c * x + s * y, c * y - s * x, z),
        ]
    largest = [max(abs(row[axis]) for row in [size, *turned]) for axis in range(len(size))]
    enlarged = [int(edge / ROOM_FOR_SCALING) for edge in largest]
    if is_flat(patch_size):
        enlarged[0] = patch_size[0]
    return tuple(enlarged)


def draw_spatial(generator: np.random.Generator, settings: Spatial, patch_size: Sequence[int]) -> SpatialDraw | None:
    """Rotation, scaling and bending of one sample; None where none applies and a crop does."""
    dimensions = 2 if is_flat(patch_size) else len(patch_size)
    rotates = generator.random() < settings.rotation_probability
    scales = generator.random() < settings.scaling_probability
    bends = settings.elastic_probability > 0 and generator.random() < settings.elastic_probability
    matrix = np.eye(dimensions)
    if rotates:
        limit = largest_rotation(patch_size)
        matrix = rotation_matrix(generator.uniform(-limit, limit, size=3 if dimensions == 3 else 1))
    if scales:
        matrix = matrix * generator.uniform(*settings.scaling_range)
    displacement = None
    if bends:
        edges = np.asarray(patch_size[-dimensions:], dtype=np.float64)
        shape = (dimensions, *(CONTROL_POINTS,) * dimensions)
        scale = (settings.elastic_strength * edges).reshape(-1, *(1,) * dimensions)
        displacement = generator.standard_normal(shape) * scale
    return SpatialDraw(matrix, displacement) if rotates or scales or bends else None


def rotation_matrix(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation by one angle (2D), or by three in turn, each about the array axis of its place."""
    if len(angles) == 1:
        c, s = math.cos(angles[0]), math.sin(angles[0])
        return np.array([[c, -s], [s, c]])
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def transform(
    images: Tensor, labels: Tensor, draws: Sequence[SpatialDraw | None], patch_size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Patches cut out of larger ones: the centre where nothing was drawn, else turned, scaled and bent.

    Images are interpolated linearly with 0 outside; labels take the label of most weight among the voxels around a
    point, OUTSIDE counting as one.

    Args:
        images: (B, C, *larger).
        labels: (B, *larger) integers, or several maps of a sample, (B, M, *larger).
        draws: per sample.
        patch_size: of the result.

    Returns:
        Images (B, C, *patch) and labels (B, *patch) or (B, M, *patch), new in memory.
    """
    larger = images.shape[2:]
    starts = [big // 2 - small // 2 for big, small in zip(larger, patch_size, strict=True)]
    centre = tuple(slice(start, start + small) for start, small in zip(starts, patch_size, strict=True))
    cut_images = images[(slice(None), slice(None), *centre)].clone(memory_format=torch.contiguous_format)
    inner = (*(slice(None),) * (labels.ndim - len(centre)), *centre)
    cut_labels = labels[inner].clone(memory_format=torch.contiguous_format)
    chosen = {number: draw for number, draw in enumerate(draws) if draw is not None}
    if not chosen:
        return cut_images, cut_labels
    dimensions = 2 if is_flat(patch_size) else len(patch_size)
    # slices of a flat patch are channels: they share their coordinates
    index = sent(torch.tensor(list(chosen)), images.device)
    picked_images = images[index].flatten(1, images.ndim - 1 - dimensions)
    maps = labels.ndim - 1 - dimensions  # axes of what shares coordinates: several maps, slices, or neither
    picked_labels = labels[index].flatten(1, maps) if maps else labels[index].unsqueeze(1)
    source, wanted = larger[-dimensions:], tuple(patch_size[-dimensions:])
    positions = _positions(list(chosen.values()), source, wanted, images.device)
    cut_images[index] = sample_images(picked_images, positions).view(len(chosen), *cut_images.shape[1:])
    cut_labels[index] = sample_labels(picked_labels, positions).view(len(chosen), *cut_labels.shape[1:])
    return cut_images, cut_labels


def _positions(
    draws: Sequence[SpatialDraw], source: Sequence[int], wanted: Sequence[int], device: torch.device
) -> Tensor:
    """Where each voxel of the patches reads, (n, D, *patch), in voxels of the larger patches."""
    matrices = np.stack([draw.matrix for draw in draws]).astype(np.float32)  # (n, D, D)
    # a sum of one line per axis of the patch: lines are short, so that a device is given little and few things to do
    terms = []
    for other, small in enumerate(wanted):
        lines = matrices[:, :, other, None] * (np.arange(small, dtype=np.float32) - np.float32((small - 1) / 2))
        if other == 0:
            lines += (np.asarray(source, dtype=np.float32)[:, None] - 1) / 2
        along = [-1 if place == other else 1 for place in range(len(wanted))]
        terms.append(sent(lines, device).view(*lines.shape[:2], *along))
    positions = reduce(torch.add, terms)
    for number, draw in enumerate(draws):
        if draw.displacement is not None:
            bends = sent(draw.displacement.astype(np.float32), device)
            splines = [sent(spline_operator(bends.shape[1], small), device) for small in wanted]
            positions[number] += apply_along_axes(bends, [spline.expand(len(wanted), -1, -1) for spline in splines])
    return positions


@lru_cache(maxsize=64)
def spline_operator(points: int, size: int) -> NDArray[np.float32]:
    """(size, points) weights of uniform cubic B-splines: a free-form deformation (Rueckert et al. 1999)."""
    # control points reach one beyond each end, as a cubic needs
    place = np.linspace(0, points - 3, size)
    first = np.minimum(np.floor(place).astype(int), points - 4)
    t = place - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    operator = np.zeros((size, points), dtype=np.float32)
    for tap in range(4):
        operator[np.arange(size), first + tap] = weights[:, tap]
    return operator


def draw_mirrors(generator: np.random.Generator, mirror_axes: Sequence[int]) -> tuple[int, ...]:
    """The axes along which one sample is flipped, each with probability one half."""
    return tuple(axis for axis in mirror_axes if generator.random() < 0.5)


def mirror(images: Tensor, labels: Tensor, draws: Sequence[Sequence[int]]) -> None:
    """Flip each sample of images (B, C, *patch) and labels (B, *patch) or (B, M, *patch) along its axes, in place."""
    for axes, image, label in zip(draws, images.unbind(), labels.unbind(), strict=True):
        if axes:
            flipped = [axis - (images.ndim - 2) for axis in axes]  # counted from the last
            image.copy_(image.flip(flipped))
            label.copy_(label.flip(flipped))
