"""Intensity normalization of one channel: a dict of functions, under nnU-Net's names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import DatasetError
from autoseg.records import IntensityStatistics

#: (channel (Z, Y, X), foreground statistics of that channel over the dataset, where to normalize or None for
#: everywhere) -> normalized channel. The channel that comes in is not changed.
Normalization = Callable[
    [NDArray[np.float32], IntensityStatistics, NDArray[np.bool_] | None],
    NDArray[np.float32],
]

#: Smallest divisor (nnU-Net's).
SMALLEST_DIVISOR = 1e-8


def ct(
    channel: NDArray[np.float32],
    statistics: IntensityStatistics,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Clipped to the dataset's foreground percentiles 0.5 and 99.5, then standardized with its mean and deviation.

    For images with absolute units such as CT (nnU-Net). The mask is not used: all voxels are on one scale.
    """
    del inside
    normalized = np.clip(channel, np.float32(statistics.percentile_00_5), np.float32(statistics.percentile_99_5))
    normalized -= np.float32(statistics.mean)
    normalized /= np.float32(max(statistics.std, SMALLEST_DIVISOR))
    return normalized


def z_score(
    channel: NDArray[np.float32],
    statistics: IntensityStatistics | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Standardized with the image's own mean and deviation; with a mask both come from inside, the rest stays.

    nnU-Net's choice for MR and all that has no absolute units. A constant image becomes zero.
    """
    del statistics
    values = channel if inside is None else channel[inside]
    if values.size == 0:
        return channel.copy()
    # sums in double precision: a float32 mean of a large volume with a large offset loses digits
    mean = float(values.mean(dtype=np.float64))
    centred = values - np.float32(mean)
    deviation = float(np.sqrt(_mean_square(centred)))
    centred /= np.float32(max(deviation, SMALLEST_DIVISOR))
    if inside is None:
        return centred
    normalized = channel.copy()
    normalized[inside] = centred
    return normalized


def _mean_square(values: NDArray[np.float32]) -> float:
    """Mean of the squares, summed in double precision, without a copy of the whole array in that precision."""
    flat = values.reshape(-1)
    block = 1 << 16
    total = sum(
        float(np.square(flat[start : start + block], dtype=np.float64).sum()) for start in range(0, flat.size, block)
    )
    return total / flat.size


def unchanged(
    channel: NDArray[np.float32],
    statistics: IntensityStatistics | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """A copy of the channel."""
    del statistics, inside
    return channel.copy()


def rescale_to_01(
    channel: NDArray[np.float32],
    statistics: IntensityStatistics | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Shifted and scaled to the range 0..1 by the image's own minimum and maximum."""
    del statistics, inside
    normalized: NDArray[np.float32] = channel - channel.min()
    normalized /= np.float32(max(float(normalized.max()), SMALLEST_DIVISOR))
    return normalized


def rgb_to_01(
    channel: NDArray[np.float32],
    statistics: IntensityStatistics | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """8-bit colours divided by 255. Raises DatasetError if a value lies outside 0..255."""
    del statistics, inside
    lowest, highest = float(channel.min()), float(channel.max())
    if lowest < 0 or highest > 255:
        raise DatasetError(
            f"colour values must lie in 0..255 for RGBTo01Normalization, found {lowest:g}..{highest:g}",
            remedy="Name the channel otherwise in dataset.json (zscore, rescale_to_0_1), or store 8-bit colours.",
        )
    return channel / np.float32(255)


NORMALIZATIONS: dict[str, Normalization] = {
    "CTNormalization": ct,
    "ZScoreNormalization": z_score,
    "NoNormalization": unchanged,
    "RescaleTo01Normalization": rescale_to_01,
    "RGBTo01Normalization": rgb_to_01,
}

_SCHEME_OF_CHANNEL = {
    "ct": "CTNormalization",
    "nonorm": "NoNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}


def scheme_for_channel(name: str) -> str:
    """The key of NORMALIZATIONS for a channel name of dataset.json; any unknown name gets z-scores (nnU-Net).

    A channel may also be called by the key itself, which is how one that a module added is asked for.
    """
    if name in NORMALIZATIONS:
        return name
    return _SCHEME_OF_CHANNEL.get(name.casefold(), "ZScoreNormalization")
