"""Prepared cases as training reads them: held in memory where they fit, else read from disk by chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from autoseg.preprocessing.store import open_case, read_case
from autoseg.records import OUTSIDE, PreparedCase, Shape
from autoseg.training.patches import TrainingCase

#: Share of the free memory that prepared cases may fill.
MEMORY_SHARE = 0.4


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


def load_cases(folder: Path, case_ids: Sequence[str]) -> list[TrainingCase]:
    """The prepared cases for training, in the given order: in memory if all fit, else lazily from disk."""
    opened = [open_case(folder, case_id) for case_id in case_ids]
    size = sum(case.channels * 4 * int(np.prod(case.shape)) + 2 * int(np.prod(case.shape)) for case in opened)
    if size > psutil.virtual_memory().available * MEMORY_SHARE:
        return list(opened)
    return [CaseInMemory(read_case(folder, case_id)) for case_id in case_ids]
