"""How a score grows with the number of training cases: a curve through few trainings, and what chance leaves open.

The curve is an inverse power law, score = a - b n^-c (Figueroa et al. 2012, "Predicting sample size required for
classification performance"). Three sizes do not determine three numbers, so c is chosen among EXPONENTS, and a and b
are the line of Theil (1950) and Sen (1968) over n^-c: medians, which one failed training does not move. b may be
negative: a curve that can only rise would leave 0 out of every interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: Exponents c that are tried. Those found for deep networks lie between 0.07 and 0.35 (Hestness et al. 2017), those of
#: theory at 0.5 and 1.
EXPONENTS = tuple(round(0.1 + 0.05 * step, 2) for step in range(19))

#: No score is higher.
_BEST = 1.0

#: Mean distances that differ by less are equal: rounding does not decide between exponents that fit alike.
_ALIKE = 1e-12


@dataclass(frozen=True, eq=False)
class Curves:
    """score = a - b n^-c, one curve per draw; all arrays (draws,)."""

    limit: FloatArray  # a
    slope: FloatArray  # b
    exponent: FloatArray  # c

    def at(self, cases: float) -> FloatArray:
        """The scores (draws,) that the curves expect of so many training cases."""
        expected: FloatArray = np.minimum(self.limit - self.slope * cases**-self.exponent, _BEST)
        return expected

    def gain(self, cases: float, more: float) -> FloatArray:
        """What so many cases on top bring (draws,)."""
        return self.at(cases + more) - self.at(cases)


def fitted(sizes: Sequence[int], scores: FloatArray) -> Curves:
    """A curve per draw through the scores (draws, sizes, seeds) of trainings with so many cases each.

    Of all exponents the one whose line has the smallest mean distance from the scores. Needs two different sizes.
    """
    draws, _, seeds = scores.shape
    n, y = np.repeat(np.asarray(sizes, dtype=np.float64), seeds), scores.reshape(draws, -1)
    best = np.full(draws, np.inf)
    found = np.full((3, draws), np.nan)
    for exponent in EXPONENTS:
        x = -(n**-exponent)
        limit, slope = _line(x, y)
        distance = np.abs(y - limit[:, np.newaxis] - slope[:, np.newaxis] * x).mean(axis=1)
        better = distance < best - _ALIKE
        best = np.where(better, distance, best)
        found = np.where(better, np.stack([limit, slope, np.full(draws, exponent)]), found)
    return Curves(*found)


def _line(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Intercepts and slopes (draws,) of the lines through the points x (points,), y (draws, points): Theil and Sen."""
    first, second = np.nonzero(x[:, np.newaxis] < x)
    slopes = np.median((y[:, second] - y[:, first]) / (x[second] - x[first]), axis=1)
    return np.median(y - slopes[:, np.newaxis] * x, axis=1), slopes
