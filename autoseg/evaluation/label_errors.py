"""Label errors: where networks that had not seen a case surely say another label than its reference.

Confident learning (Northcutt, Jiang & Chuang 2021, "Confident learning: estimating uncertainty in dataset labels")
with voxels as examples: a label is *sure* at a voxel where its probability is at least the mean that it has where the
references have it. So a label of which the networks are always unsure is not found wanting for it, and nor is one that
all references draw a little larger. Voxels far from all foreground are left out of the means: they are background for
certain, and would raise its threshold to where nothing passes.

Three things are of our own making, since voxels of a volume are no independent examples. Sure disagreement is grouped
into connected places. It is counted as a share of the label, so that an error in a small label weighs as much as one in
a large label. And the share is set against what is usual for the label, in units of how much its cases differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from autoseg.evaluation.calibration import near_foreground
from autoseg.records import Shape

#: Differences of this share of a label are nothing to speak of, however alike its other cases are.
SLACK = 0.05

#: A label's share is taken of its voxels and this part of its usual size, so that a speck is not the whole of it.
SPECK = 0.1

#: Suspicion from which on a case or place is told to be suspicious, as is usual for deviations from a median.
SUSPICIOUS = 3.0

#: A probability that is so little below a threshold passes, lest rounding decide where networks are always as sure.
ROUNDING = 0.01

#: A deviation that is comparable with the standard deviation of a normal distribution.
_MAD_TO_DEVIATION = 1.4826

#: Voxels of a place at least, and places of a case at most.
FEWEST_VOXELS, MOST_PLACES = 3, 20

Voxel = tuple[int, int, int]  # (k, j, i) on the file's grid


@dataclass(frozen=True, eq=False)
class Contradiction:
    """Voxels (N) of one case at which mask and reference differ, and what is counted of all its voxels.

    Labels are training labels; V is their number, background counted.
    """

    shape: Shape
    index: NDArray[np.int64]  # (N,) places in the flattened (k, j, i)
    truth: NDArray[np.int16]  # (N,) what the reference says
    found: NDArray[np.int16]  # (N,) what the networks say
    own: NDArray[np.float32]  # (N,) probability of what the reference says
    best: NDArray[np.float32]  # (N,) probability of what the networks say
    sums: NDArray[np.float64]  # (V,) sum of the probabilities of what the reference says, near the foreground
    near: NDArray[np.int64]  # (V,) voxels that were summed
    voxels: NDArray[np.int64]  # (V,) voxels of the reference


def contradiction(
    truth: NDArray[np.int16],
    found: NDArray[np.int16],
    own: NDArray[np.floating],
    best: NDArray[np.floating],
    known: NDArray[np.bool_],
) -> Contradiction:
    """What one case says for and against its reference.

    Args:
        truth, found: training labels (k, j, i) of reference and mask; values of `truth` from V on are not counted.
        own, best: probabilities (k, j, i) of what `truth` and `found` say.
        known: (V,) labels that were drawn in this case; of others the reference says nothing.
    """
    count = len(known)
    counted = (truth < count) & (truth >= 0)
    counted &= known[np.where(counted, truth, 0)]
    near = near_foreground(counted & (truth > 0), found > 0) & counted
    different = np.flatnonzero(counted & (found != truth) & known[found])
    labels = truth[near]
    shape = (int(truth.shape[0]), int(truth.shape[1]), int(truth.shape[2]))
    return Contradiction(
        shape=shape,
        index=different.astype(np.int64),
        truth=truth.reshape(-1)[different],
        found=found.reshape(-1)[different].astype(np.int16),
        own=own.reshape(-1)[different].astype(np.float32),
        best=best.reshape(-1)[different].astype(np.float32),
        sums=np.bincount(labels, weights=own[near].astype(np.float64), minlength=count).astype(np.float64),
        near=np.bincount(labels, minlength=count).astype(np.int64),
        voxels=np.bincount(truth[counted], minlength=count).astype(np.int64),
    )


def label_thresholds(cases: Sequence[Contradiction]) -> NDArray[np.float64]:
    """(V,) the mean probability of each label where the references have it; of one that no reference has it is 1."""
    sums = np.sum([case.sums for case in cases], axis=0)
    near = np.sum([case.near for case in cases], axis=0)
    found: NDArray[np.float64] = np.where(near > 0, sums / np.maximum(near, 1), 1.0)
    return found


def sure_margins(case: Contradiction, thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N,) by how much the networks prefer what they say, where they are sure of it; 0 elsewhere."""
    margin = np.maximum(case.best - case.own, 0)
    sure = case.best >= thresholds[case.found] - ROUNDING
    found: NDArray[np.float32] = np.where(sure, margin, 0).astype(np.float32)
    return found


# -------------------------------------------------------------------------------------------------------------- labels


@dataclass(frozen=True)
class LabelDoubt:
    """One label of one case."""

    share: float
    size: float  # what it is a share of, in voxels
    dice: float | None


@dataclass(frozen=True)
class Usual:
    """What is usual for a label: the median share over its cases, and by how much these differ."""

    share: float
    scale: float

    def suspicion(self, share: float) -> float:
        """By how many units of the scale a share is above the usual one."""
        return (share - self.share) / self.scale


def usual_sizes(cases: Sequence[Contradiction], membership: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(R,) the median number of voxels of each label or region over the references that have it; 0 where none has.

    `membership` (V, R) is `Labels.value_membership`.
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
        either = int(drawn[label]) + int(added.sum())
        if not either:
            continue
        both = int(drawn[label]) - int(lost.sum())
        size = either + SPECK * float(sizes[label])
        mass = float(margins[added | lost].sum(dtype=np.float64))
        found[label] = LabelDoubt(mass / size, size, 2 * both / (either + both))
    return found


def usual_shares(doubts: Sequence[Mapping[int, LabelDoubt]]) -> dict[int, Usual]:
    """What is usual for each label, over the cases that have it."""
    by_label: dict[int, list[float]] = {}
    for case in doubts:
        for label, doubt in case.items():
            by_label.setdefault(label, []).append(doubt.share)
    usual = {}
    for label, shares in by_label.items():
        median = float(np.median(shares))
        deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(np.array(shares) - median)))
        usual[label] = Usual(median, deviation + SLACK)
    return usual


# -------------------------------------------------------------------------------------------------------------- places


@dataclass(frozen=True)
class Place:
    """A connected component of sure disagreement; touching by a corner is enough."""

    voxels: int
    mass: float  # sum of the margins
    label: int  # the column of `membership` of which it is the largest share
    suspicion: float
    truth: int  # training labels of the reference and of the networks, by the margins' sum
    found: int
    middle: Voxel  # the voxel of it that lies nearest to its centre
    low: Voxel
    high: Voxel


def places_of(
    case: Contradiction,
    margins: NDArray[np.float32],
    membership: NDArray[np.bool_],
    doubts: Mapping[int, LabelDoubt],
    usual: Mapping[int, Usual],
) -> list[Place]:
    """The places of sure disagreement of a case, the most suspicious first.

    Those below FEWEST_VOXELS are left out, and of more than MOST_PLACES those with less margin in all.
    """
    sure = np.flatnonzero(margins > 0)
    if not len(sure):
        return []
    where = np.stack(np.unravel_index(case.index[sure], case.shape), axis=1)
    number = _components(where)
    size, mass = np.bincount(number), np.bincount(number, weights=margins[sure])
    largest = [int(one) for one in np.argsort(-mass, kind="stable") if size[one] >= FEWEST_VOXELS][:MOST_PLACES]
    found = []
    for one in largest:
        inside = np.flatnonzero(number == one)
        found.append(_place(case, where[inside], sure[inside], margins, membership, doubts, usual))
    return sorted(found, key=lambda place: -place.suspicion)


def _components(where: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of its component, from 0 on, of each of the voxels (n, 3)."""
    low, high = where.min(axis=0), where.max(axis=0)
    # cc3d 4.1.1 fails where every other voxel of an odd array is set, as in [1, 0, 1]; with a margin it does not
    box = np.zeros(tuple(int(side) + 3 for side in high - low), dtype=np.bool_)
    inside = tuple((where - low + 1).T)
    box[inside] = True
    numbers: NDArray[np.integer] = cc3d.connected_components(box, connectivity=26)
    found: NDArray[np.int64] = numbers[inside].astype(np.int64) - 1
    return found


def _place(
    case: Contradiction,
    where: NDArray[np.int64],
    voxels: NDArray[np.int64],
    margins: NDArray[np.float32],
    membership: NDArray[np.bool_],
    doubts: Mapping[int, LabelDoubt],
    usual: Mapping[int, Usual],
) -> Place:
    weights = margins[voxels].astype(np.float64)
    truth, found = case.truth[voxels].astype(np.int64), case.found[voxels].astype(np.int64)
    pairs, which = np.unique(truth * len(membership) + found, return_inverse=True)
    pair = int(pairs[np.bincount(which.reshape(-1), weights=weights).argmax()])
    differs = membership[truth] != membership[found]  # (n, R)
    suspicions = {
        int(label): usual[int(label)].suspicion(float(weights[differs[:, label]].sum()) / doubts[int(label)].size)
        for label in np.flatnonzero(differs.any(axis=0))
    }
    label = max(suspicions, key=lambda one: suspicions[one])
    centre = (where * weights[:, None]).sum(axis=0) / weights.sum()
    middle = where[((where - centre) ** 2).sum(axis=1).argmin()]
    return Place(
        voxels=len(voxels),
        mass=float(weights.sum()),
        label=label,
        suspicion=suspicions[label],
        truth=pair // len(membership),
        found=pair % len(membership),
        middle=_voxel(middle),
        low=_voxel(where.min(axis=0)),
        high=_voxel(where.max(axis=0)),
    )


def _voxel(place: NDArray[np.int64]) -> Voxel:
    return int(place[0]), int(place[1]), int(place[2])


# --------------------------------------------------------------------------------------------------------------- pairs


def sure_pairs(
    cases: Sequence[Contradiction], margins: Sequence[NDArray[np.float32]]
) -> dict[tuple[int, int], tuple[int, int]]:
    """(reference, networks) -> voxels of sure disagreement and cases that have any: the confident joint off its
    diagonal."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for case, margin in zip(cases, margins, strict=True):
        sure = margin > 0
        if not sure.any():
            continue
        pairs, counts = np.unique(np.stack([case.truth[sure], case.found[sure]]), axis=1, return_counts=True)
        for (truth, other), count in zip(pairs.T, counts, strict=True):
            voxels, seen = found.get((int(truth), int(other)), (0, 0))
            found[int(truth), int(other)] = (voxels + int(count), seen + 1)
    return found
