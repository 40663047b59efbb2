"""Connected places at which networks surely contradict a reference, the most suspicious first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.components import pieces_of
from autoseg.evaluation.label_doubts import LabelDoubt, Usual
from autoseg.evaluation.label_errors import Contradiction

#: Voxels of a place at least, and places of a case at most.
FEWEST_VOXELS, MOST_PLACES = 3, 20

Voxel = tuple[int, int, int]  # (k, j, i) on the file's grid


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
    box = np.zeros(tuple(int(side) + 1 for side in high - low), dtype=np.bool_)
    inside = tuple((where - low).T)
    box[inside] = True
    numbers, _ = pieces_of(box)
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
        int(label): usual[int(label)].share.deviation(float(weights[differs[:, label]].sum()) / doubts[int(label)].size)
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
