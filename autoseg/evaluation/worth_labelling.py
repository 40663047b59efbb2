"""What to label first: by the loss that networks expect of themselves, and by how many others a label would speak for.

Yang et al. 2017 ("Suggestive annotation", MICCAI) choose among the images that networks are least sure of those that
represent the unlabelled ones best, by the features in which networks see them: the sum over all images of the
similarity to the nearest chosen one (facility location), which is submodular, so that choosing greedily comes within
1 - 1/e of the best (Nemhauser, Wolsey & Fisher 1978). Here both steps are one: each image counts in that sum by the
loss that is expected of it. Labelling one is worth the loss of all images like it, as far as nothing that is labelled
or chosen already is like them.

The similarity is 1 for equal features, and 0 from the median distance of two images on: then what is left is the
objective of k-medoids, each image weighted by its loss, with that distance as the cost of one that nobody speaks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A Dice is taken of a label's voxels and this part of its usual size, so that a speck is not the whole of it.
SPECK = 0.1

#: Rows of a matrix of distances that are computed at once.
_ROWS = 256


@dataclass(frozen=True)
class Pick:
    """One of the candidates, in the order in which they are worth labelling."""

    index: int
    gain: float  # share of the expected loss of all candidates that it would speak for


# ---------------------------------------------------------------------------------------------------------------- loss


def usual_sizes(voxels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) median voxels of each label over the candidates (N, R) in which it was found; 0 where it never was."""
    return np.array([np.median(column[column > 0]) if (column > 0).any() else 0.0 for column in voxels.T])


def expected_losses(
    voxels: NDArray[np.float64], inside: NDArray[np.float64], total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) one less the Dice that probabilities p lead to expect, mean over the labels that any candidate has.

    The Dice is the soft confidence of `inference.evidence`, 2 * inside / (voxels + total), with a tenth of the label's
    usual size added above and below: a label of which there is next to nothing is no loss. Where no label is found in
    any candidate all are worth the same.

    Args:
        voxels: (N, R) voxels of each label in the mask.
        inside: (N, R) sum of its p there.
        total: (N, R) sum of its p everywhere.
    """
    sizes = usual_sizes(voxels)
    seen = sizes > 0
    if not seen.any():
        return np.ones(len(voxels))
    floor = SPECK * sizes[seen]
    dice = (2 * inside[:, seen] + floor) / (voxels[:, seen] + total[:, seen] + floor)
    found: NDArray[np.float64] = np.clip(1 - dice, 0, 1).mean(axis=1)
    return found


# ------------------------------------------------------------------------------------------------------------ likeness


def comparable(features: NDArray[np.float32], others: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Features (N, F) of candidates and (M, F) of labelled ones, each feature with the spread 1 over all of them."""
    both = np.concatenate([features, others]).astype(np.float64)
    middle, spread = both.mean(axis=0), both.std(axis=0)
    kept = spread > 1e-6 * max(float(np.abs(both).max(initial=0.0)), 1e-12)
    scaled = ((both[:, kept] - middle[kept]) / spread[kept]).astype(np.float32)
    return scaled[: len(features)], scaled[len(features) :]


def distances(features: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, M) Euclidean distances between rows."""
    found = np.empty((len(features), len(others)), dtype=np.float32)
    columns = others.astype(np.float64)  # squares are subtracted from one another: equal rows must have no distance
    norms = np.einsum("mf,mf->m", columns, columns)
    for start in range(0, len(features), _ROWS):
        rows = features[start : start + _ROWS].astype(np.float64)
        squares = np.einsum("nf,nf->n", rows, rows)[:, None] + norms - 2 * rows @ columns.T
        found[start : start + _ROWS] = np.sqrt(np.maximum(squares, 0))
    return found


def nearest_distances(features: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) distance of each row to the nearest of others (M, F); infinite where there is none."""
    found = np.full(len(features), np.inf, dtype=np.float32)
    for start in range(0, len(others), _ROWS):
        np.minimum(found, distances(features, others[start : start + _ROWS]).min(axis=1), out=found)
    return found


def reach_of(between: NDArray[np.float32]) -> float:
    """The distance from which on two candidates have nothing in common: the median over all pairs (N, N)."""
    pairs = between[np.triu_indices(len(between), 1)]
    return float(np.median(pairs)) if pairs.size else 0.0


def likeness(between: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Similarities of distances: 1 at no distance, 0 from `reach` on."""
    if reach <= 0:
        return (between <= 0).astype(np.float32)
    found: NDArray[np.float32] = np.maximum(0, 1 - between / np.float32(reach)).astype(np.float32)
    return found


# ------------------------------------------------------------------------------------------------------------- choosing


def picked_greedily(
    losses: NDArray[np.float64], alike: NDArray[np.float32], covered: NDArray[np.float32], count: int
) -> list[Pick]:
    """The candidates that are worth labelling most, one after the other, at most `count`.

    Args:
        losses: (N,) expected loss of each.
        alike: (N, N) similarity of each to each, 1 on the diagonal.
        covered: (N,) similarity of each to the nearest one that is labelled already; 0 where none is.
        count: how many.
    """
    total = float(losses.sum()) or 1.0
    weights = losses.astype(np.float32)
    nearest = covered.astype(np.float32).copy()
    left = np.ones(len(losses), dtype=np.bool_)
    picks: list[Pick] = []
    for _ in range(min(count, len(losses))):
        gains = _gains(weights, alike, nearest)
        gains[~left] = -1.0
        # of equal gains the one of the larger loss, then the first
        best = int(np.lexsort((np.arange(len(gains)), -losses, -gains))[0])
        picks.append(Pick(best, float(max(gains[best], 0.0)) / total))
        left[best] = False
        np.maximum(nearest, alike[:, best], out=nearest)
    return picks


def _gains(
    weights: NDArray[np.float32], alike: NDArray[np.float32], nearest: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(N,) the loss that each candidate would speak for beyond what is spoken for."""
    gains = np.zeros(len(weights))
    for start in range(0, len(weights), _ROWS):
        rows = slice(start, start + _ROWS)
        gains += weights[rows] @ np.maximum(alike[rows] - nearest[rows, None], 0)
    return gains


def foremost(losses: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """The `most` candidates of the largest loss, in their own order, where there are too many to compare all."""
    order: Sequence[int] = np.argsort(-losses, kind="stable")[:most].tolist()
    return np.array(sorted(order), dtype=np.int64)
