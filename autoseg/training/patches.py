"""Training patches: which case, which box, and the crop.

What a sample is depends on the seed, the step and its place in the batch alone: each draws from a generator of its
own, so neither workers nor resuming nor the number of processes can change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.preprocessing.locations import annotated_voxels, label_voxels
from autoseg.records import OUTSIDE, Shape


class TrainingCase(Protocol):
    """What sampling needs of a prepared case, in memory or on disk."""

    @property
    def case(self) -> str:
        """Case id."""
        ...

    @property
    def shape(self) -> Shape:
        """Prepared shape (Z, Y, X)."""
        ...

    @property
    def locations(self) -> Mapping[str, NDArray[np.int32]]:
        """Foreground name -> (N, 3) voxels, and more with an ignore label: see `preprocessing.locations`."""
        ...

    def read_patch(
        self, box: tuple[slice, slice, slice]
    ) -> tuple[NDArray[np.float32], NDArray[np.int16]] | tuple[Tensor, Tensor]:
        """Image (C, z, y, x) and labels (z, y, x) inside a box that lies within the volume.

        Tensors where the case is held on a device, else arrays.
        """
        ...

    def read_labels(self) -> NDArray[np.int16]:
        """All training labels (Z, Y, X)."""
        ...


class Focus(Protocol):
    """What forced samples are centred on instead of nnU-Net's rule; the rules stand in `training.focus`."""

    def draw(self, generator: np.random.Generator) -> tuple[int, NDArray[np.int32]]:
        """Case and voxel to centre a patch on."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How patches are drawn: nnU-Net's rules (Isensee et al. 2021)."""

    patch_size: Shape  # what the network sees; Z = 1 for 2D
    initial_size: Shape  # what is cropped, for augmentation to rotate and scale within
    batch_size: int
    foreground_share: float
    has_ignore: bool
    seed: int
    focus: Focus | None = None  # of forced samples; None is nnU-Net's rule

    def forced(self, position: int) -> bool:
        """Whether the sample at this place of the batch must contain foreground: the last third of the batch."""
        return position >= round(self.batch_size * (1 - self.foreground_share))


def sample_generator(seed: int, step: int, position: int) -> np.random.Generator:
    """The generator of one sample: PCG64 seeded by the three numbers that name it."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, step, position))))


@dataclass(frozen=True)
class PatchDraw:
    """A drawn patch: which case and where its box begins (it may reach outside the volume)."""

    case: int
    start: Shape


def draw_patch(
    generator: np.random.Generator, cases: Sequence[TrainingCase], sampling: Sampling, position: int
) -> PatchDraw:
    """Case and box of one sample: case uniform; box uniform, or around a voxel of a uniformly chosen class.

    With a focus, forced samples are centred on what it draws.
    """
    voxel: NDArray[np.int32] | None
    if sampling.focus is not None and sampling.forced(position):
        index, voxel = sampling.focus.draw(generator)
    else:
        index = int(generator.integers(len(cases)))
        voxel = _centre(generator, cases[index].locations, sampling, position)
    lower, upper = _bounds(cases[index].shape, sampling)
    if voxel is None:
        start = [int(generator.integers(low, high + 1)) for low, high in zip(lower, upper, strict=True)]
    else:
        start = [max(low, int(v) - size // 2) for low, v, size in zip(lower, voxel, sampling.initial_size, strict=True)]
    return PatchDraw(index, (start[0], start[1], start[2]))


def _bounds(shape: Shape, sampling: Sampling) -> tuple[list[int], list[int]]:
    lower, upper = [], []
    for size, initial, final in zip(shape, sampling.initial_size, sampling.patch_size, strict=True):
        need = initial - final
        if need + size < initial:
            need = initial - size
        low = -need // 2
        high = size + need // 2 + need % 2 - initial
        lower.append(low)
        upper.append(max(low, high))
    return lower, upper


def _centre(
    generator: np.random.Generator, locations: Mapping[str, NDArray[np.int32]], sampling: Sampling, position: int
) -> NDArray[np.int32] | None:
    """The voxel that a sample is centred on by nnU-Net's rule, None for any."""
    present: list[NDArray[np.int32]] = []
    if sampling.forced(position):
        present = [found for found in label_voxels(locations, sampling.has_ignore).values() if len(found)]
    if not present:
        annotated = annotated_voxels(locations, sampling.has_ignore)
        if annotated is None or not len(annotated):
            return None
        present = [annotated]
    voxels = present[int(generator.integers(len(present)))]
    chosen: NDArray[np.int32] = voxels[int(generator.integers(len(voxels)))]
    return chosen


@dataclass(frozen=True, eq=False)
class Crop:
    """What of a box lies within the volume, and where in the box that is."""

    place: tuple[slice, slice, slice]
    image: NDArray[np.float32] | Tensor  # (C, z, y, x)
    labels: NDArray[np.int16] | Tensor  # (z, y, x)


def crop(case: TrainingCase, start: Shape, size: Shape) -> Crop:
    """The part of a box that lies within the volume; the box may reach outside, or lie there as a whole."""
    inner_low = [max(0, s) for s in start]
    inner_high = [min(n, s + p) for s, p, n in zip(start, size, case.shape, strict=True)]
    if any(high <= low for low, high in zip(inner_low, inner_high, strict=True)):
        inner_low, inner_high, start = [0, 0, 0], [0, 0, 0], (0, 0, 0)
    box = tuple(slice(low, high) for low, high in zip(inner_low, inner_high, strict=True))
    image, labels = case.read_patch((box[0], box[1], box[2]))
    place = tuple(slice(low - s, high - s) for low, high, s in zip(inner_low, inner_high, start, strict=True))
    return Crop((place[0], place[1], place[2]), image, labels)


def padded(crops: Sequence[Crop], size: Shape) -> tuple[NDArray[np.float32], NDArray[np.int16]] | tuple[Tensor, Tensor]:
    """Images (B, C, *size) and labels (B, *size) of a batch; outside of the volumes images are 0, labels OUTSIDE.

    Tensors on the device that holds any of the crops, else arrays.
    """
    channels = crops[0].image.shape[0]
    shapes = (len(crops), channels, *size), (len(crops), *size)
    device = next((one.image.device for one in crops if isinstance(one.image, Tensor)), None)
    if device is None:
        images, labels = np.zeros(shapes[0], np.float32), np.full(shapes[1], OUTSIDE, np.int16)
        for number, one in enumerate(crops):
            images[(number, slice(None), *one.place)] = one.image
            labels[(number, *one.place)] = one.labels
        return images, labels
    held_images = torch.zeros(shapes[0], device=device)
    held_labels = torch.full(shapes[1], OUTSIDE, dtype=torch.int16, device=device)
    for number, one in enumerate(crops):
        held_images[(number, slice(None), *one.place)] = torch.as_tensor(one.image)
        held_labels[(number, *one.place)] = torch.as_tensor(one.labels)
    return held_images, held_labels


@dataclass(frozen=True, eq=False)
class Batch:
    """Cropped samples of one step: tensors where any case is held on a device, else arrays.

    They are augmented by the step that learns from them, or ahead of it.
    """

    step: int
    images: NDArray[np.float32] | Tensor  # (B, C, *initial size), 2D without Z
    labels: NDArray[np.int16] | Tensor  # (B, *initial size)
    generators: tuple[np.random.Generator, ...]  # each sample's own, advanced past the draws above
    cases: tuple[str, ...]
    augmented: bool = False
    ready: torch.cuda.Event | None = None  # of another stream, after which images and labels are there


def make_batch(
    cases: Sequence[TrainingCase], sampling: Sampling, step: int, places: Sequence[int] | None = None
) -> Batch:
    """The batch of a step: draws and crops, the same whoever makes it.

    `places` are those of the batch that are made; None is all.
    """
    crops, generators, names = [], [], []
    for position in range(sampling.batch_size) if places is None else places:
        generator = sample_generator(sampling.seed, step, position)
        draw = draw_patch(generator, cases, sampling, position)
        crops.append(crop(cases[draw.case], draw.start, sampling.initial_size))
        generators.append(generator)
        names.append(cases[draw.case].case)
    images, labels = padded(crops, sampling.initial_size)  # (B, C, Z, Y, X), (B, Z, Y, X)
    if sampling.patch_size[0] == 1 and sampling.initial_size[0] == 1:
        images, labels = images[:, :, 0], labels[:, 0]  # (B, C, Y, X), (B, Y, X)
    return Batch(step, images, labels, tuple(generators), tuple(names))


def batch_cases(cases: Sequence[TrainingCase], sampling: Sampling, step: int) -> tuple[str, ...]:
    """The cases of a whole batch, whoever makes which part of it."""
    return tuple(
        cases[draw_patch(sample_generator(sampling.seed, step, position), cases, sampling, position).case].case
        for position in range(sampling.batch_size)
    )
