"""What is unlike the training cases in an image that is to be segmented, told before the network sees it.

Every rule compares a number with the range of the training cases, widened: by a factor for lengths, for intensities by
the range itself. Few cases say little of the range of all, so that the fewer there were, the wider it is made. The
widths are such that training cases which are left out are almost never unlike the others (`docs/explanation/trust.md`
has the counts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from autoseg.arrays.orientation import closest_canonical, oriented_spacing
from autoseg.arrays.quantiles import LEVELS, shape_of
from autoseg.dataset.geometry import axis_codes
from autoseg.records import ChannelRange, Geometry, Spacing, TrainingData
from autoseg.workspace import NORMALIZED_ALONE

#: A voxel may be so many times smaller or larger than any of the training cases.
SPACING_FACTOR = 1.5

#: A field of view may be so many times shorter or longer, along each axis.
EXTENT_FACTOR = 2.0

#: A quantile may lie outside the training range by so much of that range, and by so much of the typical width of an
#: image's intensities; both are made larger by FEW_CASES / number of cases.
RANGE_SHARE = 0.5
WIDTH_SHARE = 0.1
FEW_CASES = 4.0

Kind = Literal["spacing", "field of view", "orientation", "intensities", "channels"]

_AXES = ("along z", "along y", "along x")


@dataclass(frozen=True)
class Unlike:
    """One thing that sets an image apart from the training cases."""

    kind: Kind
    what: str

    def __str__(self) -> str:
        return f"{self.kind} unlike training: {self.what}"


def unlike_grid(data: TrainingData, geometry: Geometry, stored_axes: bool) -> list[Unlike]:
    """What its header tells: voxel size, field of view, and with `stored_axes` how it is stored.

    `stored_axes` is for a model that does not turn images to one orientation.
    """
    found = []
    letters = axis_codes(geometry)
    if stored_axes and data.orientations and letters not in data.orientations:
        known = ", ".join(data.orientations)
        found.append(Unlike("orientation", f"stored as {letters}, the training images as {known}"))
    orientation = closest_canonical(geometry)
    spacing = oriented_spacing(geometry, orientation)
    z, y, x = (geometry.shape[axis] * geometry.spacing[axis] for axis in orientation.axes)
    found += _lengths("spacing", spacing, data.spacing_min, data.spacing_max, SPACING_FACTOR, geometry.flat)
    found += _lengths("field of view", (z, y, x), data.extent_min, data.extent_max, EXTENT_FACTOR, geometry.flat)
    return found


def _lengths(
    kind: Kind, sizes: Spacing, low: Spacing | None, high: Spacing | None, factor: float, flat: bool
) -> list[Unlike]:
    if low is None or high is None:
        return []
    found = []
    for axis in range(1 if flat else 0, 3):
        size = sizes[axis]
        if low[axis] / factor <= size <= high[axis] * factor:
            continue
        found.append(Unlike(kind, f"{size:.4g} mm {_AXES[axis]}, in training {_between(low[axis], high[axis])} mm"))
    return found


def unlike_intensities(
    data: TrainingData, quantiles: Sequence[tuple[float, ...]], channels: Sequence[str], schemes: Sequence[str]
) -> list[Unlike]:
    """What the intensities tell.

    Args:
        data: of the training cases.
        quantiles: per channel, of the image (`arrays.quantiles.channel_quantiles`).
        channels: names of the channels.
        schemes: how the model normalizes each: where each image is brought to one scale by itself, only the shape of
            its distribution is compared, otherwise the values as they are.
    """
    if len(data.channels) != len(quantiles) or not all(quantiles):
        return []
    alone = [scheme in NORMALIZED_ALONE - {"NoNormalization"} for scheme in schemes]
    beyond = [
        _beyond(known, own, data.cases, by_itself)
        for known, own, by_itself in zip(data.channels, quantiles, alone, strict=True)
    ]
    swapped = _swapped(data, quantiles, beyond, alone)
    if swapped is not None:
        first, second = (channels[number] for number in swapped)
        return [Unlike("channels", f"{first} looks as {second} did in training, and {second} as {first}")]
    return [
        Unlike("intensities", f"{name}: {told}" if len(channels) > 1 else told)
        for name, told in zip(channels, beyond, strict=True)
        if told
    ]


def _beyond(known: ChannelRange, own: tuple[float, ...], cases: int, alone: bool) -> str:
    """How the intensities of one channel leave the training range, in words; empty where they do not."""
    values, low, high, width = own, known.low, known.high, known.width
    if alone:
        values, low, high, width = shape_of(own), known.shape_low, known.shape_high, 1.0
        if not low:
            return ""
        if not values:
            return f"nearly all voxels have one value, {own[len(own) // 2]:.3g}"
    few = 1 + FEW_CASES / max(cases, 1)
    worst, told = 0.0, ""
    for level, value, least, most in zip(LEVELS, values, low, high, strict=True):
        slack = few * (RANGE_SHARE * (most - least) + WIDTH_SHARE * width)
        excess = max(least - slack - value, value - most - slack)
        if excess > worst * slack:
            worst = excess / slack if slack > 0 else float("inf")
            told = f"{level:.0%} of the voxels are below {value:.4g}, in training below {_between(least, most)}"
    return f"{told} (image scaled to median 0 and width 1)" if told and alone else told


def _between(low: float, high: float) -> str:
    first, last = f"{low:.4g}", f"{high:.4g}"
    return first if first == last else f"{first} to {last}"


def _swapped(
    data: TrainingData, quantiles: Sequence[tuple[float, ...]], beyond: Sequence[str], alone: Sequence[bool]
) -> tuple[int, int] | None:
    """Two channels of which each is within the range of the other, and not within its own."""
    wrong = [number for number, told in enumerate(beyond) if told]
    for first in wrong:
        for second in wrong:
            if first < second and not (
                _beyond(data.channels[second], quantiles[first], data.cases, alone[second])
                or _beyond(data.channels[first], quantiles[second], data.cases, alone[first])
            ):
                return first, second
    return None
