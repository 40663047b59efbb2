"""Finding lesions: connected components of reference and mask, matched one to one.

A lesion of the reference is found (true positive) if a component of the mask overlaps it by at least a threshold of
IoU; with threshold 0 any shared voxel does. Each component matches one other at most, the best overlaps first. What
remains is missed (false negative) or a false alarm (false positive). F1 = 2 TP / (2 TP + FP + FN).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.components import pieces_of
from autoseg.records import LesionBin, LesionScore

#: Edges in ml of the sizes that are told apart: below the first, between, and from the last on.
SIZE_EDGES_ML = (0.1, 1.0, 10.0)


def match_lesions(
    reference: NDArray[np.bool_], mask: NDArray[np.bool_], voxel_ml: float, threshold: float = 0.0
) -> LesionScore:
    """Lesions of one label in one case.

    Args:
        reference, mask: (Z, Y, X) on one grid.
        voxel_ml: volume of a voxel, for the bins of size.
        threshold: IoU from which a lesion counts as found; 0 is any overlap.
    """
    truth, true_sizes = _components(reference)
    found, found_sizes = _components(mask)
    pairs = _matched(truth, found, true_sizes, found_sizes, threshold)
    hit = np.zeros(len(true_sizes), dtype=np.bool_)
    used = np.zeros(len(found_sizes), dtype=np.bool_)
    for mine, other in pairs:
        hit[mine], used[other] = True, True
    true_bins, found_bins = (np.digitize(sizes * voxel_ml, SIZE_EDGES_ML) for sizes in (true_sizes, found_sizes))
    bins = tuple(
        LesionBin(
            found=int((hit & (true_bins == number)).sum()),
            missed=int((~hit & (true_bins == number)).sum()),
            false_alarms=int((~used & (found_bins == number)).sum()),
        )
        for number in range(len(SIZE_EDGES_ML) + 1)
    )
    return lesion_score(bins)


def lesion_score(bins: Sequence[LesionBin]) -> LesionScore:
    """The score of what was counted by size."""
    hits, missed, alarms = (sum(getattr(b, name) for b in bins) for name in ("found", "missed", "false_alarms"))
    total = 2 * hits + missed + alarms
    return LesionScore(
        true_positives=hits,
        false_positives=alarms,
        false_negatives=missed,
        f1=2 * hits / total if total else None,
        sensitivity=hits / (hits + missed) if hits + missed else None,
        precision=hits / (hits + alarms) if hits + alarms else None,
        by_size=tuple(bins),
    )


def pooled(scores: Iterable[LesionScore]) -> LesionScore:
    """The lesions of all cases together: every lesion counts alike, whichever case it is in."""
    rows = [score.by_size for score in scores]
    return lesion_score(
        tuple(
            LesionBin(
                found=sum(row[number].found for row in rows),
                missed=sum(row[number].missed for row in rows),
                false_alarms=sum(row[number].false_alarms for row in rows),
            )
            for number in range(len(SIZE_EDGES_ML) + 1)
        )
    )


def bin_names() -> tuple[str, ...]:
    """What the bins of size are called."""
    edges = [f"{edge:g}" for edge in SIZE_EDGES_ML]
    between = (f"{low} to {high} ml" for low, high in pairwise(edges))
    return (f"below {edges[0]} ml", *between, f"{edges[-1]} ml and more")


def _components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Numbered components (touching by a corner counts), and their sizes in voxels."""
    numbered, count = pieces_of(mask)
    return numbered, np.bincount(numbered[mask], minlength=count + 1)[1:].astype(np.int64)


def _matched(
    truth: NDArray[np.integer],
    found: NDArray[np.integer],
    true_sizes: NDArray[np.int64],
    found_sizes: NDArray[np.int64],
    threshold: float,
) -> list[tuple[int, int]]:
    """Pairs of components, the largest IoU first; numbers count from 0."""
    both = (truth > 0) & (found > 0)
    codes, shared = np.unique(truth[both].astype(np.int64) * (len(found_sizes) + 1) + found[both], return_counts=True)
    mine, other = codes // (len(found_sizes) + 1) - 1, codes % (len(found_sizes) + 1) - 1
    iou = shared / (true_sizes[mine] + found_sizes[other] - shared)
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    used: set[int] = set()
    for number in np.argsort(-iou, kind="stable"):
        first, second = int(mine[number]), int(other[number])
        if iou[number] >= threshold and first not in taken and second not in used:
            taken.add(first)
            used.add(second)
            pairs.append((first, second))
    return pairs
