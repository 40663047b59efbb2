"""The queue of what is worth labelling next, of what was seen of all images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.orientation import in_world
from autoseg.evaluation.worth_labelling import (
    comparable,
    distances,
    expected_losses,
    foremost,
    likeness,
    nearest_distances,
    picked_greedily,
    reach_of,
)
from autoseg.pipeline.suggest_evidence import Seen
from autoseg.records import Suggested

#: Candidates that are compared, each with each: of more those of the largest expected loss. Their distances take 64 MB.
MOST_CANDIDATES = 4000

#: Slices of one volume have nothing in common from this share of its extent on, where networks see it as a whole.
SLICE_REACH = 0.1

_AXES = ("k", "j", "i")
_SUMS = ("voxels", "inside", "total")


@dataclass(frozen=True)
class _Candidates:
    """What may be labelled: N cases, or slices of them."""

    seen: tuple[Seen, ...]
    plane: NDArray[np.int64]  # (N,) the plane of `sums` of which the middle is shown
    losses: NDArray[np.float64]  # (N,)
    features: NDArray[np.float32]  # (N, F)
    along: NDArray[np.float64] | None  # (N,) place of a slice in its volume, 0 to 1, where features do not tell


def ranked(
    seen: Sequence[Seen], labelled: Sequence[Seen], unit: Literal["case", "slice"], count: int
) -> tuple[list[Suggested], int]:
    """The `count` most worthwhile candidates of one image or more, and among how many they were chosen."""
    candidates = _slices(seen) if unit == "slice" else _cases(seen)
    total = len(candidates.seen)
    candidates = _foremost(candidates)
    own, others = comparable(candidates.features, _features_of(labelled, candidates, unit))
    between = distances(own, own)
    reach = reach_of(between)
    alike = likeness(between, reach)
    if candidates.along is not None:
        apart = np.abs(candidates.along[:, None] - candidates.along[None, :]).astype(np.float32)
        alike *= likeness(apart, SLICE_REACH)
    covered = likeness(nearest_distances(own, others), reach)
    picks = picked_greedily(candidates.losses, alike, covered, count)
    return [_suggested(candidates, pick.index, unit, pick.gain, float(covered[pick.index])) for pick in picks], total


def _cases(seen: Sequence[Seen]) -> _Candidates:
    return _Candidates(
        seen=tuple(seen),
        plane=np.array([_worst_plane(one) for one in seen], dtype=np.int64),
        losses=expected_losses(*(np.stack([getattr(one.sums, name).sum(axis=0) for one in seen]) for name in _SUMS)),
        features=np.stack([one.features for one in seen]),
        along=None,
    )


def _worst_plane(seen: Seen) -> int:
    """The plane in which most is lost: most that is not sure to be right."""
    sums = seen.sums
    return int((sums.voxels + sums.total - 2 * sums.inside).sum(axis=1).argmax())


def _slices(seen: Sequence[Seen]) -> _Candidates:
    counts = [len(one.sums.place) for one in seen]
    flat = all(len(one.planes) == count for one, count in zip(seen, counts, strict=True))
    rows = [one.planes if flat else np.repeat(one.features[None], len(one.sums.place), axis=0) for one in seen]
    along = [one.sums.place[:, one.sums.axis] / max(one.geometry.shape[one.sums.axis] - 1, 1) for one in seen]
    return _Candidates(
        seen=tuple(one for one, count in zip(seen, counts, strict=True) for _ in range(count)),
        plane=np.concatenate([np.arange(count) for count in counts]),
        losses=expected_losses(*(np.concatenate([getattr(one.sums, name) for one in seen]) for name in _SUMS)),
        features=np.concatenate(rows),
        along=None if flat else np.concatenate(along),
    )


def _foremost(candidates: _Candidates) -> _Candidates:
    kept = foremost(candidates.losses, MOST_CANDIDATES)
    return _Candidates(
        seen=tuple(candidates.seen[int(index)] for index in kept),
        plane=candidates.plane[kept],
        losses=candidates.losses[kept],
        features=candidates.features[kept],
        along=None if candidates.along is None else candidates.along[kept],
    )


def _features_of(labelled: Sequence[Seen], candidates: _Candidates, unit: str) -> NDArray[np.float32]:
    """(M, F) features of labelled cases, or of their slices where those of candidates are of slices."""
    of_planes = unit == "slice" and candidates.along is None
    rows = [one.planes if of_planes else one.features[None] for one in labelled]
    return np.concatenate([candidates.features[:0], *rows])


def _suggested(
    candidates: _Candidates, index: int, unit: Literal["case", "slice"], gain: float, near: float
) -> Suggested:
    seen, sums = candidates.seen[index], candidates.seen[index].sums
    k, j, i = (int(part) for part in sums.place[candidates.plane[index]])
    return Suggested(
        case=seen.case,
        axis=_AXES[sums.axis] if unit == "slice" else "",
        slice=(k, j, i)[sums.axis] if unit == "slice" else None,
        gain=round(gain, 6),
        loss=round(float(candidates.losses[index]), 6),
        likeness=round(near, 6),
        index=(i, j, k),
        position=in_world(seen.geometry, (k, j, i)),
    )
