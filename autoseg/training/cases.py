"""Prepared cases as training reads them.

As many as fit are held in main memory, and of these, on a GPU, as many as fit beside a training step on the device,
where they are cropped; the others are read from disk by chunks. Patches are the same voxels whichever it is.

For the second stage of a cascade the label map that the first stage found is the last channel of the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.machine import free_memory
from autoseg.preprocessing.entry import StoreError
from autoseg.preprocessing.label_store import StoredLabels, open_labels
from autoseg.preprocessing.store import StoredCase, open_case, read_case
from autoseg.records import OUTSIDE, PreparedCase, Shape
from autoseg.training.patches import TrainingCase

#: Share of the free memory that prepared cases may fill.
MEMORY_SHARE = 0.4

#: Share of a device's free memory that a step and the cases together may fill; fragments and the rest need some too.
DEVICE_SHARE = 0.85

#: A measured step is taken to need this many times what it took: other steps draw other augmentations.
STEP_MARGIN = 1.25

#: Share of a device's free memory for the cases where nobody measured what a step needs.
UNMEASURED_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class CaseInMemory:
    """A prepared case held in memory."""

    prepared: PreparedCase

    @property
    def case(self) -> str:
        """Case id."""
        return self.prepared.case

    @property
    def shape(self) -> Shape:
        """Prepared shape (Z, Y, X)."""
        _, z, y, x = self.prepared.image.shape
        return (z, y, x)

    @property
    def locations(self) -> Mapping[str, NDArray[np.int32]]:
        """Foreground name -> (N, 3) voxels."""
        return self.prepared.locations

    def read_patch(self, box: tuple[slice, slice, slice]) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        """Image and labels inside a box."""
        labels = self.prepared.labels
        inside = np.full([axis.stop - axis.start for axis in box], OUTSIDE, np.int16) if labels is None else labels[box]
        return self.prepared.image[(slice(None), *box)], inside

    def read_labels(self) -> NDArray[np.int16]:
        """All labels; OUTSIDE everywhere without any."""
        labels = self.prepared.labels
        return np.full(self.shape, OUTSIDE, np.int16) if labels is None else labels


@dataclass(frozen=True, eq=False)
class CaseOnDevice:
    """A prepared case whose voxels are held on a device; patches are cropped there and come as tensors."""

    case: str
    shape: Shape
    locations: Mapping[str, NDArray[np.int32]]
    image: Tensor  # (C, Z, Y, X) float32
    labels: Tensor  # (Z, Y, X) int16

    def read_patch(self, box: tuple[slice, slice, slice]) -> tuple[Tensor, Tensor]:
        """Image and labels inside a box: views, not copies."""
        return self.image[(slice(None), *box)], self.labels[box]

    def read_labels(self) -> NDArray[np.int16]:
        """All labels, in main memory."""
        labels: NDArray[np.int16] = self.labels.cpu().numpy()
        return labels


@dataclass(frozen=True, eq=False)
class SecondStageCase:
    """A prepared case on disk, with what the first stage of a cascade found as a further channel."""

    stored: StoredCase
    first: StoredLabels

    @property
    def case(self) -> str:
        """Case id."""
        return self.stored.case

    @property
    def shape(self) -> Shape:
        """Prepared shape (Z, Y, X)."""
        return self.stored.shape

    @property
    def locations(self) -> Mapping[str, NDArray[np.int32]]:
        """Foreground name -> (N, 3) voxels."""
        return self.stored.locations

    def read_patch(self, box: tuple[slice, slice, slice]) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        """Image (C + 1, z, y, x), the first stage's labels last, and labels inside a box."""
        image, labels = self.stored.read_patch(box)
        return np.concatenate([image, self.first.read(box)[None].astype(np.float32)]), labels

    def read_labels(self) -> NDArray[np.int16]:
        """All training labels (Z, Y, X)."""
        return self.stored.read_labels()


def load_cases(
    folder: Path, case_ids: Sequence[str], first_stage: Mapping[str, Path] | None = None, processes: int = 1
) -> list[TrainingCase]:
    """The prepared cases for training, in the given order: as many in memory as fit, the others read from
    disk patch by patch.

    So many `processes` of this machine hold the cases, each for itself.
    `first_stage` names per case the label map that a first stage found, for the second stage of a cascade. Raises
    StoreError for what is missing or damaged, or a label map on another grid.
    """
    opened = [open_case(folder, case_id) for case_id in case_ids]
    found = {} if first_stage is None else {case.case: _first(case, first_stage[case.case]) for case in opened}
    room = free_memory() * MEMORY_SHARE / processes
    cases: list[TrainingCase] = []
    for case in opened:
        first = found.get(case.case)
        size = _bytes(case.channels + bool(found), case.shape)
        if size <= room:
            room -= size
            cases.append(_in_memory(read_case(folder, case.case), first))
        else:
            cases.append(case if first is None else SecondStageCase(case, first))
    return cases


def _first(case: StoredCase, path: Path) -> StoredLabels:
    labels = open_labels(path)
    if labels.shape != case.shape:
        raise StoreError(
            f"has {labels.shape} voxels, the prepared case {case.shape} (Z, Y, X)",
            where=path,
            remedy="Delete it and run the training of the first stage again: it is made anew.",
        )
    return labels


def _in_memory(prepared: PreparedCase, first: StoredLabels | None) -> CaseInMemory:
    if first is None:
        return CaseInMemory(prepared)
    image = np.concatenate([prepared.image, first.read()[None].astype(np.float32)])
    return CaseInMemory(replace(prepared, image=image))


def hold_on_device(cases: Sequence[TrainingCase], device: torch.device, room_bytes: int) -> list[TrainingCase]:
    """The cases, as many of them moved to the device as fit into so many bytes.

    Cases that did not fit into main memory stay on disk.
    """
    held: list[TrainingCase] = []
    for case in cases:
        size = _bytes(case.prepared.image.shape[0], case.shape) if isinstance(case, CaseInMemory) else 0
        if isinstance(case, CaseInMemory) and size <= room_bytes:
            room_bytes -= size
            image, labels = torch.from_numpy(case.prepared.image), torch.from_numpy(case.read_labels())
            held.append(CaseOnDevice(case.case, case.shape, case.locations, image.to(device), labels.to(device)))
        else:
            held.append(case)
    return held


def room_on_device(free_bytes: int, step_bytes: int | None) -> int:
    """Bytes of a device that cases may take: what a training step leaves of DEVICE_SHARE of the free memory.

    `step_bytes` is what a step was measured to take; None where nobody measured.
    """
    if step_bytes is None:
        return int(UNMEASURED_SHARE * free_bytes)
    return max(0, int(DEVICE_SHARE * free_bytes - STEP_MARGIN * step_bytes))


def _bytes(channels: int, shape: Shape) -> int:
    """Of image (float32) and labels (int16)."""
    return (4 * channels + 2) * int(np.prod(shape))
