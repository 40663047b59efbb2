"""Where the labels of a dataset lie: which of them are the left and the right of one thing, and across which axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.records import CaseFingerprint, Labels

#: Place of the left-right axis in the oriented array (Z, Y, X).
LEFT_RIGHT = 2

#: Cases that must have both labels before their places say anything: sides that agree by chance do so in 1 of 2^(N-1).
FEWEST_CASES = 5

#: Share of these cases in which two labels must lie as mirror images, always on the same sides.
NEARLY_ALL = 0.9

#: Two labels are alike where neither has more than so many times the other's volume, or edge of the bounding box.
MOST_VOLUME_RATIO = 2.0
MOST_EDGE_RATIO = 1.6

#: Their centres lie apart by at least this share of their mean width: halves that touch at the midline do.
LEAST_APART = 0.6

#: Across the other axes their centres may lie apart by this share of their distance from side to side: without names
#: that say the same, and with them.
MOST_SLANT = 0.25
MOST_SLANT_NAMED = 0.5

#: How far from the middle of the image the plane between them may lie, as a share of its width; and how far from the
#: plane of other pairs.
MOST_OFF_CENTRE = 0.2
MOST_BETWEEN_PLANES = 0.08


@dataclass(frozen=True)
class MirroredPair:
    """Two labels that lie as mirror images of each other from left to right."""

    left: str
    right: str
    cases: int  # that have both
    plane: float  # median place of the plane between them, 0..1 of the image's width


@dataclass(frozen=True)
class PlacedPair:
    """Two labels named as sides, and where they lie."""

    left: str
    right: str
    axis: int  # oriented axis (Z, Y, X) that leads from one to the other
    ascending: tuple[str, ...]  # cases in which the left one comes first along it
    descending: tuple[str, ...]  # cases in which the right one does

    @property
    def cases(self) -> int:
        """Cases that lie across the axis."""
        return len(self.ascending) + len(self.descending)


def is_oriented(case: CaseFingerprint) -> bool:
    """Whether a case has labels with places in patient axes."""
    return bool(case.label_centres) and case.orientation not in ("flat", "unknown")


def mirrored_pairs(cases: Sequence[CaseFingerprint], labels: Labels) -> tuple[MirroredPair, ...]:
    """Pairs of labels whose places and sizes show them to be the left and the right of one thing.

    Only volumes whose orientation is known can show that. Among pairs that mirror each other across different planes,
    those count whose plane most others share.
    """
    names = tuple(labels.foreground)
    oriented = [case for case in cases if is_oriented(case)]
    if len(oriented) < FEWEST_CASES or len(names) < 2:
        return ()
    places = _places(oriented, names)
    pairs = [pair for first in range(len(names) - 1) for pair in _pairs_with(places, names, first)]
    common = float(np.median([pair.plane for pair in pairs])) if pairs else 0.5
    agreeing = tuple(pair for pair in pairs if abs(pair.plane - common) <= MOST_BETWEEN_PLANES)
    return agreeing or tuple(pairs)


def placed_pairs(cases: Sequence[CaseFingerprint], named: Sequence[tuple[str, str]]) -> tuple[PlacedPair, ...]:
    """The pairs of names (left, right) that lie clearly across one axis, the same in nearly all cases with both."""
    found = []
    for left, right in named:
        both = [case for case in cases if is_oriented(case) and {left, right} <= case.label_centres.keys()]
        if len(both) < FEWEST_CASES:
            continue
        places = _places(both, (left, right))
        offsets = (places.centres[:, 1] - places.centres[:, 0]) * places.shapes[:, 0]
        distances = np.abs(offsets * places.spacings[:, 0])
        axis = int(np.argmax(np.median(distances, axis=0)))
        others = np.delete(distances, axis, axis=1).max(axis=1)
        apart = np.abs(offsets[:, axis]) >= LEAST_APART * places.edges[:, :, axis].mean(axis=1)
        across = apart & (others <= MOST_SLANT_NAMED * distances[:, axis])
        if across.sum() >= NEARLY_ALL * len(both):
            ascending = tuple(both[place].case for place in np.flatnonzero(across & (offsets[:, axis] > 0)))
            descending = tuple(both[place].case for place in np.flatnonzero(across & (offsets[:, axis] < 0)))
            found.append(PlacedPair(left, right, axis, ascending, descending))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class _Places:
    """Where the labels (L) of the cases (N) lie; zeros where a case lacks a label."""

    present: NDArray[np.bool_]  # (N, L)
    centres: NDArray[np.float64]  # (N, L, 3), 0..1 of the crop
    edges: NDArray[np.float64]  # (N, L, 3), of the bounding boxes, in voxels
    volumes: NDArray[np.float64]  # (N, L), in voxels
    shapes: NDArray[np.float64]  # (N, 1, 3), of the crops
    spacings: NDArray[np.float64]  # (N, 1, 3)


def _places(cases: Sequence[CaseFingerprint], names: Sequence[str]) -> _Places:
    nowhere = (0.0, 0.0, 0.0)
    return _Places(
        present=np.array([[name in case.label_centres for name in names] for case in cases]),
        centres=np.array([[case.label_centres.get(name, nowhere) for name in names] for case in cases]),
        edges=np.array([[case.label_extents.get(name, nowhere) for name in names] for case in cases], dtype=float),
        volumes=np.array([[case.voxels_per_label.get(name, 0) for name in names] for case in cases], dtype=float),
        shapes=np.array([[case.shape_after_crop] for case in cases], dtype=float),
        spacings=np.array([[case.spacing] for case in cases]),
    )


def _pairs_with(places: _Places, names: Sequence[str], first: int) -> list[MirroredPair]:
    """The pairs that a label makes with those after it."""
    one, rest = slice(first, first + 1), slice(first + 1, None)
    both = places.present[:, one] & places.present[:, rest]
    counts = both.sum(axis=0)
    offsets = places.centres[:, rest] - places.centres[:, one]
    mirrored = both & _mirror_each_other(places, one, rest, offsets * places.shapes)
    to_the_right = (mirrored & (offsets[..., LEFT_RIGHT] > 0)).sum(axis=0)
    to_the_left = (mirrored & (offsets[..., LEFT_RIGHT] < 0)).sum(axis=0)
    middles = (places.centres[:, rest, LEFT_RIGHT] + places.centres[:, one, LEFT_RIGHT]) / 2
    pairs = []
    enough = (counts >= FEWEST_CASES) & (np.maximum(to_the_right, to_the_left) >= NEARLY_ALL * counts)
    for other in np.flatnonzero(enough).tolist():
        plane = float(np.median(middles[both[:, other], other]))
        if abs(plane - 0.5) <= MOST_OFF_CENTRE:
            # X grows towards the patient's right
            ends = (names[first], names[first + 1 + other])
            left, right = ends if to_the_right[other] > to_the_left[other] else ends[::-1]
            pairs.append(MirroredPair(left, right, int(counts[other]), plane))
    return pairs


def _mirror_each_other(places: _Places, one: slice, rest: slice, offsets: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether two labels of a case are of one size, level with each other, and clearly apart from left to right.

    `offsets` (N, others, 3) are in voxels.
    """
    edges, other_edges = places.edges[:, one], places.edges[:, rest]
    # a voxel more or less is no difference
    alike = np.maximum(edges, other_edges) <= MOST_EDGE_RATIO * np.minimum(edges, other_edges) + 1
    volumes, other_volumes = places.volumes[:, one], places.volumes[:, rest]
    as_large = np.maximum(volumes, other_volumes) <= MOST_VOLUME_RATIO * np.minimum(volumes, other_volumes)
    widths = (edges[..., LEFT_RIGHT] + other_edges[..., LEFT_RIGHT]) / 2
    apart = np.abs(offsets[..., LEFT_RIGHT]) >= LEAST_APART * widths
    distances = np.abs(offsets * places.spacings)
    level = distances[..., :LEFT_RIGHT].max(axis=-1) <= MOST_SLANT * distances[..., LEFT_RIGHT]
    mirrored: NDArray[np.bool_] = alike.all(axis=-1) & as_large & apart & level
    return mirrored
