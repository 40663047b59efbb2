"""How far each label of a case is in doubt, against what is usual for the label over all cases.

Two things tell. *Sure disagreement*, weighted by its margin, is counted as a share of the label, so that an error in a
small label weighs as much as one in a large label. The *bias* is how much larger networks draw the label than the
reference does, as a share too: a border that is drawn a little inside all around is nowhere surely wrong, but networks
err to both sides, and the references of other cases are not all missed to one. Either is set against its median over
the cases, in units of how much these differ; both together count by their length, as independent deviations do.

The foreground as a whole is looked at as a label is: between two labels networks err more than at the outer border.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluation.label_errors import Contradiction

#: Differences of this share of a label are nothing to speak of, however alike its other cases are.
SLACK = 0.05

#: A label's share is taken of its voxels and this part of its usual size, so that a speck is not the whole of it.
SPECK = 0.1

#: Suspicion from which on a case or place is told to be suspicious, as is usual for deviations from a median.
SUSPICIOUS = 3.0

#: A deviation that is comparable with the standard deviation of a normal distribution.
_MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True)
class LabelDoubt:
    """One label of one case."""

    share: float  # sure disagreement
    bias: float  # what only the networks draw less what only the reference draws
    size: float  # what these are shares of, in voxels
    dice: float | None


@dataclass(frozen=True)
class Spread:
    """A median, and by how much cases differ from it."""

    middle: float
    scale: float

    def deviation(self, value: float) -> float:
        """By how many units of the scale a value is above the median."""
        return (value - self.middle) / self.scale


@dataclass(frozen=True)
class Usual:
    """What is usual for a label over its cases."""

    share: Spread
    bias: Spread

    def suspicion(self, doubt: LabelDoubt) -> float:
        """How unusual a label of a case is. A share below the usual one is nothing to complain of."""
        return math.hypot(max(0.0, self.share.deviation(doubt.share)), self.bias.deviation(doubt.bias))


def with_whole(membership: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same table (V, R) with a column for all foreground, unless a region is that."""
    whole = membership.any(axis=1, keepdims=True)
    if (membership == whole).all(axis=0).any():
        return membership
    return np.concatenate([membership, whole], axis=1)


def usual_sizes(cases: Sequence[Contradiction], membership: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(R,) the median number of voxels of each label or region over the references that have it; 0 where none has.

    `membership` (V, R) is `Labels.value_membership`, or that `with_whole`.
    """
    sizes = np.stack([case.voxels @ membership for case in cases])
    return np.array([np.median(column[column > 0]) if column.any() else 0.0 for column in sizes.T])


def label_doubts(
    case: Contradiction, margins: NDArray[np.float32], membership: NDArray[np.bool_], sizes: NDArray[np.float64]
) -> dict[int, LabelDoubt]:
    """The doubt in each label or region (its column of `membership`) that reference or mask has."""
    drawn = case.voxels @ membership
    found: dict[int, LabelDoubt] = {}
    for label in range(membership.shape[1]):
        inside = membership[:, label]
        added, lost = inside[case.found] & ~inside[case.truth], inside[case.truth] & ~inside[case.found]
        extra, missed = int(added.sum()), int(lost.sum())
        either = int(drawn[label]) + extra
        if not either:
            continue
        both = int(drawn[label]) - missed
        size = either + SPECK * float(sizes[label])
        mass = float(margins[added | lost].sum(dtype=np.float64))
        found[label] = LabelDoubt(mass / size, (extra - missed) / size, size, 2 * both / (either + both))
    return found


def spread(values: Sequence[float]) -> Spread:
    """What is usual for shares: their median, and their median deviation with a slack."""
    middle = float(np.median(values))
    deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(np.array(values) - middle)))
    return Spread(middle, deviation + SLACK)


def usual_doubts(doubts: Sequence[Mapping[int, LabelDoubt]]) -> dict[int, Usual]:
    """What is usual for each label, over the cases that have it."""
    by_label: dict[int, list[LabelDoubt]] = {}
    for case in doubts:
        for label, doubt in case.items():
            by_label.setdefault(label, []).append(doubt)
    return {
        label: Usual(spread([one.share for one in found]), spread([one.bias for one in found]))
        for label, found in by_label.items()
    }
