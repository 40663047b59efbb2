"""What a model file keeps of the data that it was trained on: ranges over all cases, nothing of any one of them."""

from __future__ import annotations

from pydantic import Field

from autoseg.records.base import Record, Spacing


class ChannelRange(Record):
    """How the intensities of one channel spread, over the training cases; see `arrays.quantiles` for the levels.

    Shape is what a change of brightness and contrast leaves alone: the quantiles less their median, divided by the
    distance between two of them.
    """

    low: tuple[float, ...]  # of each quantile, the smallest of all cases
    high: tuple[float, ...]
    shape_low: tuple[float, ...] = ()  # the same of the shape
    shape_high: tuple[float, ...] = ()
    width: float  # distance between two quantiles (`arrays.quantiles.WIDTH`) of the typical case


class LabelRange(Record):
    """How large one label or region is, over the training cases that have it."""

    cases: int  # that have it
    drawn: int  # in which it was drawn, whether or not it is there
    volume_ml: tuple[float, float, float]  # smallest, median, largest


class TrainingData(Record):
    """Ranges over the training cases, axes (Z, Y, X) turned towards superior, anterior and right.

    What is not known is empty: other programs' models tell less, and so do older model files.
    """

    cases: int = 0
    spacing_min: Spacing | None = None
    spacing_max: Spacing | None = None
    extent_min: Spacing | None = None  # field of view in mm
    extent_max: Spacing | None = None
    orientations: tuple[str, ...] = ()  # axes as stored in the files, nibabel's letters; "flat" for pictures
    channels: tuple[ChannelRange, ...] = ()
    labels: dict[str, LabelRange] = Field(default_factory=dict)
    file_ending: str | None = None
