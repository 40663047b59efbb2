"""Whether differences of the same cases could be chance: the signed-rank test, and a correction for several tests.

Apart from the means and intervals, since `scipy.stats` takes a while to load.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata, wilcoxon

from autoseg.evaluation.paired import DECIMALS

#: Up to so many differences all ways to give them signs are counted out: 8192.
COUNTED_OUT = 13


def signed_rank(differences: Sequence[float]) -> float | None:
    """Two-sided p of the signed-rank test of paired differences (Wilcoxon 1945); None without any difference given.

    Cases without a difference tell for neither side and are left out, as Wilcoxon did; where no others are left p is 1.
    It is exact up to COUNTED_OUT differences, and up to 50 of which no two are of one size; else by the normal
    distribution.
    """
    known = np.round(np.asarray(differences, dtype=np.float64), DECIMALS)
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    changed = known[known != 0]
    if not len(changed):
        return 1.0
    if len(changed) > COUNTED_OUT:
        return float(wilcoxon(changed, correction=True).pvalue)
    ranks = rankdata(np.abs(changed))
    ways = 1 - 2 * (np.arange(2 ** len(ranks))[:, np.newaxis] >> np.arange(len(ranks)) & 1)
    # ranks are multiples of a half: their sums are exact, and can be compared
    return float(np.mean(np.abs(ways @ ranks) >= abs(np.sign(changed) @ ranks)))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for being several (Holm 1979), in the same order; None stays None and counts for nothing.

    The smallest of n is multiplied by n, the next by n - 1, and so on; none becomes smaller than one before it.
    """
    order = sorted((value, place) for place, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (value, place) in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * value))
        corrected[place] = least
    return corrected
