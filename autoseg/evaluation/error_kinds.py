"""What is wrong with a reference: which single correction brings it closest to what the networks say.

Tried are moving it, growing and shrinking it, exchanging two labels, and drawing a label that it lacks. The correction
after which the mean Dice of reference and mask is the highest names the error, and the more it gains, the surer it is:
no single correction of a good reference repairs what networks do badly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from autoseg.arrays.crop import bounding_box
from autoseg.records import Labels, Spacing

#: Farthest that a reference is moved along an axis, and farthest that it is grown or shrunk, in voxels.
FARTHEST, WIDEST = 12, 3

#: A label is lacking where the reference has less than this share of what the networks find of it …
LACKING = 0.1
#: … and they find at least this share of its usual size.
WORTH_DRAWING = 0.25

#: Voxels that are looked at; of a larger box every second, third, … along its finest axes.
MOST_VOXELS = 2_000_000

#: Labels whose overlap decides how far a reference is moved, the largest first.
MOST_MOVED = 12

_AXES = ("k", "j", "i")


@dataclass(frozen=True)
class Correction:
    """A single correction of a whole reference."""

    kind: str  # "shifted", "eroded", "dilated", "swapped" or "dropped": what is wrong with it
    what: str  # in words
    gain: float  # of mean Dice between reference and mask


@dataclass(frozen=True, eq=False)
class _Pair:
    """Reference and mask as training labels (Z, Y, X), cut to what is foreground in either, with a margin."""

    truth: NDArray[np.int16]
    found: NDArray[np.int16]
    spacing: Spacing  # mm from voxel to voxel
    steps: tuple[int, int, int]  # voxels of the file from one to the next


def voxel_corrections(
    truth: NDArray[np.int16], found: NDArray[np.int16], labels: Labels, spacing: Spacing
) -> tuple[Correction, ...]:
    """What moving, growing and shrinking a whole reference gains.

    Args:
        truth, found: training labels (k, j, i) of reference and mask; what is not to be counted is 0 in both.
        labels: what the labels are.
        spacing: mm per voxel along those axes.
    """
    pair = _looked_at(truth, found, spacing)
    if pair is None:
        return ()
    before = _score(pair.truth, pair, labels)
    return (*_moved(pair, labels, before), *_resized(pair, labels, before))


def count_corrections(counts: NDArray[np.int64], labels: Labels, sizes: NDArray[np.float64]) -> tuple[Correction, ...]:
    """What exchanging two labels, and drawing one that the reference lacks, gains.

    Args:
        counts: (V, V) voxels by what the reference says (row) and what the networks say (`label_errors.joint_counts`).
        labels: what the labels are.
        sizes: (R,) usual number of voxels of each label or region (`label_doubts.usual_sizes`).
    """
    return (*_swapped(counts, labels), *_lacking(counts, labels, sizes))


def likeliest(corrections: Iterable[Correction]) -> Correction | None:
    """The correction that gains most; None where none gains anything."""
    best = max(corrections, key=lambda one: one.gain, default=None)
    return best if best is not None and best.gain > 0 else None


def mean_dice(counts: NDArray[np.int64], membership: NDArray[np.bool_]) -> float:
    """Mean Dice over the labels or regions that occur, of voxels by reference (row) and mask (column); 1 for none.

    `membership` (V, R) is `Labels.value_membership`.
    """
    inside = membership.astype(np.int64)
    both = np.einsum("ir,ij,jr->r", inside, counts, inside)
    either = counts.sum(axis=1) @ inside + counts.sum(axis=0) @ inside
    occurs = either > 0
    return float((2 * both[occurs] / either[occurs]).mean()) if occurs.any() else 1.0


def _joint(truth: NDArray[np.int16], found: NDArray[np.int16], size: int) -> NDArray[np.int64]:
    codes = truth.astype(np.int32).reshape(-1) * size + found.reshape(-1)
    return np.bincount(codes, minlength=size * size).reshape(size, size).astype(np.int64)


# ----------------------------------------------------------------------------------------- corrections of the counts


def _swapped(counts: NDArray[np.int64], labels: Labels) -> Iterator[Correction]:
    """Two values exchanged, where more of them lies crosswise than in place."""
    crosswise = counts + counts.T > np.diag(counts)[:, None] + np.diag(counts)[None, :]
    both = (counts > 0) & (counts.T > 0)
    before = mean_dice(counts, labels.value_membership)
    for one, other in np.argwhere(np.triu(crosswise & both, 1)):
        if one == 0:
            continue  # the background
        order = np.arange(len(counts))
        order[[one, other]] = order[[other, one]]
        names = " and ".join(value_name(int(value), labels) for value in (one, other))
        after = mean_dice(counts[order], labels.value_membership)
        yield Correction("swapped", f"{names} are exchanged", after - before)


def _lacking(counts: NDArray[np.int64], labels: Labels, sizes: NDArray[np.float64]) -> Iterator[Correction]:
    """A value that the reference hardly has, drawn where the networks find it."""
    membership = labels.value_membership
    drawn, seen = counts.sum(axis=1), counts.sum(axis=0)
    before = mean_dice(counts, membership)
    for value in range(1, len(counts)):
        known = sizes[membership[value]]
        usual = float(known.min()) if known.size else 0.0
        if seen[value] == 0 or drawn[value] >= LACKING * seen[value] or seen[value] < WORTH_DRAWING * usual:
            continue
        corrected = counts.copy()
        corrected[value, value] = seen[value]
        corrected[np.arange(len(counts)) != value, value] = 0
        instead = int(np.where(np.arange(len(counts)) == value, 0, counts[:, value]).argmax())
        what = f"{value_name(value, labels)} is not drawn; most of its place is {value_name(instead, labels)}"
        yield Correction("dropped", what, mean_dice(corrected, membership) - before)


def value_name(value: int, labels: Labels) -> str:
    """What a training label is called: its label, or the regions that it lies in."""
    if value == 0:
        return "background"
    names = [name for name, members in labels.foreground.items() if value in members]
    return "+".join(names) if names else f"value {labels.values[value]}"


# ------------------------------------------------------------------------------------------ corrections of the voxels


def _looked_at(truth: NDArray[np.int16], found: NDArray[np.int16], spacing: Spacing) -> _Pair | None:
    """The box of the foreground with room to grow in, None for none; every so many voxels where it is large."""
    either = (truth > 0) | (found > 0)
    if not either.any():
        return None
    box = bounding_box(either)
    steps = [1, 1, 1]
    while math.prod(-(-(stop - start) // step) for (start, stop), step in zip(box, steps, strict=True)) > MOST_VOXELS:
        steps[int(np.argmin([size * step for size, step in zip(spacing, steps, strict=True)]))] += 1
    inside = tuple(slice(start, stop, step) for (start, stop), step in zip(box, steps, strict=True))
    z, y, x = (size * step for size, step in zip(spacing, steps, strict=True))
    margin = WIDEST + 1
    return _Pair(
        np.pad(truth[inside], margin), np.pad(found[inside], margin), (z, y, x), (steps[0], steps[1], steps[2])
    )


def _score(truth: NDArray[np.int16], pair: _Pair, labels: Labels) -> float:
    return mean_dice(_joint(truth, pair.found, len(labels.values)), labels.value_membership)


def _moved(pair: _Pair, labels: Labels, before: float) -> Iterator[Correction]:
    """The whole reference moved to where it overlaps the mask most."""
    way = best_move(pair.truth, pair.found, labels)
    if not any(way):
        return
    gain = _score(moved(pair.truth, way), pair, labels) - before
    off = [-along * step for along, step in zip(way, pair.steps, strict=True)]
    distance = math.sqrt(sum((along * size) ** 2 for along, size in zip(way, pair.spacing, strict=True)))
    told = ", ".join(f"{axis} {along:+d}" for axis, along in zip(_AXES[::-1], off[::-1], strict=True) if along)
    yield Correction("shifted", f"all labels lie off by {told} voxels ({distance:.1f} mm)", gain)


def best_move(truth: NDArray[np.int16], found: NDArray[np.int16], labels: Labels) -> tuple[int, int, int]:
    """By how many voxels (Z, Y, X) to move the first map to the largest overlap with the second, over their labels.

    Each label counts as in the mean Dice: by its overlap over its size in both. The overlaps of all moves at once are a
    product in Fourier space.
    """
    reach = [min(FARTHEST, size - 1) for size in truth.shape]
    padded = [fft.next_fast_len(size + far, real=True) for size, far in zip(truth.shape, reach, strict=True)]
    total = np.zeros((padded[0], padded[1], padded[2] // 2 + 1), dtype=np.complex64)
    for members in _largest(truth, found, labels):
        one, other = (np.isin(array, members) for array in (truth, found))
        weight = np.float32(1 / (int(one.sum()) + int(other.sum())))
        first, second = (fft.rfftn(mask.astype(np.float32), s=padded) for mask in (one, other))
        total += weight * second * np.conj(first)
    overlap = fft.irfftn(total, s=padded)
    # moves to either side, in the order of their axis: backward ones stand at the end of what the transform gives
    moves = [np.arange(-far, far + 1) for far in reach]
    window = overlap[np.ix_(*moves)]
    # of moves that are alike but for rounding the shortest
    length = sum(np.abs(part) for part in np.meshgrid(*moves, indexing="ij"))
    alike = window >= window.max() - 1e-5 * abs(float(window.max()))
    best = np.unravel_index(np.where(alike, length, np.iinfo(np.int64).max).argmin(), window.shape)
    z, y, x = (int(axis[place]) for axis, place in zip(moves, best, strict=True))
    return z, y, x


def _largest(truth: NDArray[np.int16], found: NDArray[np.int16], labels: Labels) -> list[list[int]]:
    """The training labels of each label or region that both maps have, the largest first."""
    drawn, seen = (np.bincount(array.reshape(-1), minlength=len(labels.values)) for array in (truth, found))
    sized = [
        (min(int(drawn[list(members)].sum()), int(seen[list(members)].sum())), list(members))
        for members in labels.foreground.values()
    ]
    return [members for size, members in sorted(sized, key=lambda entry: -entry[0])[:MOST_MOVED] if size]


def moved(array: NDArray[np.int16], way: Sequence[int]) -> NDArray[np.int16]:
    """The map moved by so many voxels along each axis; what leaves it is gone, and background comes in."""
    result = np.zeros_like(array)
    target = tuple(slice(max(0, along), size + min(0, along)) for along, size in zip(way, array.shape, strict=True))
    source = tuple(slice(max(0, -along), size - max(0, along)) for along, size in zip(way, array.shape, strict=True))
    result[target] = array[source]
    return result


def _resized(pair: _Pair, labels: Labels, before: float) -> Iterator[Correction]:
    """The whole reference grown or shrunk by up to WIDEST of its finest voxels, in mm."""
    finest = min(pair.spacing)
    outside = pair.truth == 0
    if outside.all():
        return
    outward, nearest = ndimage.distance_transform_edt(outside, sampling=pair.spacing, return_indices=True)
    inward = ndimage.distance_transform_edt(~outside, sampling=pair.spacing)
    grown_from = pair.truth[tuple(nearest)]
    for count in range(1, WIDEST + 1):
        reach = finest * count * (1 + 1e-6)
        grown = np.where(outward <= reach, grown_from, 0).astype(np.int16)
        gain = _score(grown, pair, labels) - before
        yield Correction("eroded", f"drawn too small, by about {finest * count:.1f} mm all around", gain)
        shrunk = np.where(inward > reach, pair.truth, 0).astype(np.int16)
        gain = _score(shrunk, pair, labels) - before
        yield Correction("dilated", f"drawn too large, by about {finest * count:.1f} mm all around", gain)
