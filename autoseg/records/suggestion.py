"""What is worth labelling next: unlabelled cases, or slices of them, the most worthwhile first."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from autoseg.records.base import Record
from autoseg.records.labels import Labels


class Suggested(Record):
    """A case or a slice of one."""

    case: str
    axis: str = ""  # "i", "j" or "k": the file's axis that the slice is cut across; "" for a whole case
    slice: int | None = None  # counted from 0 along that axis
    gain: float  # share of the expected loss of all candidates that it would speak for, beyond those before it
    loss: float  # one less the Dice that is expected of it
    likeness: float  # to the nearest that is labelled, 0 to 1
    index: tuple[int, int, int]  # (i, j, k) of a voxel in the middle of what is unsure, counted from 0
    position: tuple[float, float, float]  # the same in RAS+ mm


class Suggestions(Record):
    """suggestions.json: what to label next."""

    format: int = 1
    models: str  # in words
    unit: Literal["case", "slice"]
    suggested: tuple[Suggested, ...]  # the most worthwhile first
    candidates: int  # among which they were chosen
    labelled: int  # cases that are labelled already, to which candidates were compared
    labels: Labels  # that the networks know
    images: dict[str, tuple[Path, ...]] = Field(default_factory=dict)  # files of each case that is suggested
    failures: dict[str, str] = Field(default_factory=dict)
