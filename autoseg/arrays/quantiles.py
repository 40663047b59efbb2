"""How the intensities of an image spread, in a few numbers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: Shares of the voxels below each quantile.
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

#: Positions in LEVELS of the two quantiles whose distance is the width of a distribution.
WIDTH = (1, 5)

#: Position in LEVELS of the median.
MEDIAN = 3

#: Of larger images a regular sample of about so many voxels is looked at.
MOST_VOXELS = 1 << 22


def channel_quantiles(image: NDArray[np.float32]) -> tuple[tuple[float, ...], ...]:
    """For each channel of an image (C, Z, Y, X) the quantiles at LEVELS of its voxels that are not zero.

    Zeros are left out, since they are what surrounds an image that was cut out or masked. Zeros where there is nothing
    else; empty for a channel that holds NaN or infinity.
    """
    return tuple(_quantiles(channel.reshape(-1)) for channel in image)


def shape_of(quantiles: tuple[float, ...]) -> tuple[float, ...]:
    """What a change of brightness and contrast leaves of quantiles at LEVELS; empty where there is no contrast."""
    width = quantiles[WIDTH[1]] - quantiles[WIDTH[0]]
    return tuple((value - quantiles[MEDIAN]) / width for value in quantiles) if width > 0 else ()


def _quantiles(values: NDArray[np.float32]) -> tuple[float, ...]:
    step = max(1, values.size // MOST_VOXELS)
    while step > 1 and math.gcd(step, values.size) > 1:  # lines and planes of a length that divides the step
        step += 1
    sample = values[::step]
    sample = sample[sample != 0]
    if sample.size == 0:
        return (0.0,) * len(LEVELS)
    found = np.quantile(sample, LEVELS, method="lower")
    return tuple(float(value) for value in found) if np.isfinite(found).all() else ()
