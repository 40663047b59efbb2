"""Objects that are counted one by one."""

from __future__ import annotations

from autoseg.records.base import Record


class FoundObject(Record):
    """One object of an instance map; its axes are those of the file, as stored."""

    id: int  # its value in the instance map
    label: str
    voxels: int
    ml: float
    centre: tuple[float, float, float]  # mean place of its voxels (k, j, i), whole numbers at the centres of voxels
    centre_mm: tuple[float, float, float]  # the same in RAS+ millimetres
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # half-open, along k, j and i
    score: float | None = None  # mean over its voxels of the probability of its label; None where that is not known
