"""Label errors: where networks that had not seen a case surely say another label than its reference.

Confident learning (Northcutt, Jiang & Chuang 2021, "Confident learning: estimating uncertainty in dataset labels")
with voxels as examples: a label is *sure* at a voxel where its probability is at least the mean that it has where the
references have it. So a label of which the networks are always unsure is not found wanting for it, and nor is one that
all references draw a little larger. Voxels far from all foreground are left out of the means: they are background for
certain, and would raise its threshold to where nothing passes.

Voxels of a volume are no independent examples, so what they say is gathered: by label (`label_doubts`), by connected
place (`error_places`), and by what would correct the whole reference (`error_kinds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluation.calibration import near_foreground
from autoseg.records import Shape

#: A probability that is so little below a threshold passes, lest rounding decide where networks are always as sure.
ROUNDING = 0.01


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


def joint_counts(case: Contradiction) -> NDArray[np.int64]:
    """(V, V) voxels by what the reference says (row) and what the networks say (column)."""
    count = len(case.voxels)
    apart = np.bincount(case.truth.astype(np.int64) * count + case.found, minlength=count * count)
    found: NDArray[np.int64] = apart.reshape(count, count).astype(np.int64)
    return found + np.diag(case.voxels - found.sum(axis=1))


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
