"""Cases unlike the rest of their dataset: stored otherwise, of another voxel size, brightness or side, or mixed up.

Each rule compares a case with quartiles over all of them, which a few bad cases do not move (Tukey 1977, fences).
They are findings to look at: unusual patients are unlike the rest too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.quantiles import LEVELS, WIDTH, shape_of
from autoseg.records import CaseFingerprint, Labels, Problem

#: Fewer cases show no habit.
FEWEST_CASES = 8

#: Distances of the quartiles, from the nearer one, beyond which a value is far out.
FAR = 3.0

#: Besides, intensities must be off by this share of the typical width of an image's intensities, and a voxel size by
#: this factor: where all cases are alike, the least difference would be far out otherwise.
LEAST_WIDTH = 0.25
LEAST_FACTOR = 2.0

#: Share of the cases that makes a habit.
NEARLY_ALL = 0.9

#: A label is on one side if its centre is at least so far from the middle of the image, as a share of its width.
OFF_CENTRE = 0.05

_LEFT_RIGHT = 2  # place of that axis in the oriented array (Z, Y, X)

Values = NDArray[np.float64]


def unlike_others(cases: Sequence[CaseFingerprint], channels: Sequence[str], labels: Labels) -> tuple[Problem, ...]:
    """Findings on cases that are unlike the others."""
    if len(cases) < FEWEST_CASES:
        return ()
    return (
        *_orientations(cases),
        *_spacings(cases),
        *_intensities(cases, channels),
        *_sides(cases, tuple(labels.foreground)),
    )


# ------------------------------------------------------------------------------------------------------ the header


def _orientations(cases: Sequence[CaseFingerprint]) -> Iterator[Problem]:
    usual, count = Counter(case.orientation for case in cases).most_common(1)[0]
    if count < NEARLY_ALL * len(cases):
        return
    for case in cases:
        if case.orientation != usual:
            yield Problem(
                severity="note",
                kind="odd-orientation",
                what=f"its axes are stored as {case.orientation}, those of {count} of {len(cases)} cases as {usual}",
                remedy="Nothing to do if the header is right: cases are turned to one orientation. Look at it in a "
                "viewer if another program wrote it.",
                case=case.case,
            )


def _spacings(cases: Sequence[CaseFingerprint]) -> Iterator[Problem]:
    spacings = np.array([case.spacing for case in cases])
    far = _beyond(np.log(spacings), float(np.log(LEAST_FACTOR))) > 0
    if far.any(axis=1).sum() > (1 - NEARLY_ALL) * len(cases):
        return  # scans of several kinds
    usual = " x ".join(f"{size:.3g}" for size in np.median(spacings, axis=0))
    for index in np.flatnonzero(far.any(axis=1)).tolist():
        own = " x ".join(f"{size:.3g}" for size in spacings[index])
        yield Problem(
            severity="note",
            kind="odd-spacing",
            what=f"its voxels are {own} mm; the median of the cases is {usual} mm",
            remedy="Nothing to do if it was scanned so: it is resampled to the spacing of the plan. Otherwise correct "
            "its header.",
            case=cases[index].case,
        )


def _beyond(values: Values, least: float | Values) -> Values:
    """How far each value (cases, ...) lies beyond the fences over all cases; 0 where it does not."""
    low, high = np.quantile(values, (0.25, 0.75), axis=0)
    reach = np.maximum(FAR * (high - low), least)
    return np.asarray(np.maximum(0.0, np.maximum(low - reach - values, values - high - reach)))


# -------------------------------------------------------------------------------------------------- the intensities


def _intensities(cases: Sequence[CaseFingerprint], channels: Sequence[str]) -> Iterator[Problem]:
    """Channels that hold what another one does elsewhere, and channels whose distribution is far out."""
    measured = [case for case in cases if len(case.quantiles) == len(channels) and all(case.quantiles)]
    if len(measured) < FEWEST_CASES:
        return
    values = np.array([case.quantiles for case in measured])  # (cases, channels, levels)
    swapped = _swapped(values)
    for index, (first, second) in swapped.items():
        one, other = channels[first], channels[second]
        yield Problem(
            severity="warning",
            kind="swapped-channels",
            what=f"{one} looks as {other} does in the other cases, and {other} as {one}",
            remedy="Look at its files: most likely they were named the wrong way round.",
            case=measured[index].case,
        )
    odd = _odd(measured, swapped)
    if len(odd) > (1 - NEARLY_ALL) * len(measured):
        yield _several_kinds(measured, odd)
        return
    for index, number in odd.items():
        yield _odd_intensities(measured[index], number, channels[number], values[:, number])


def _odd(measured: Sequence[CaseFingerprint], swapped: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """The cases (by index) of which a channel is far out, and the channel that is furthest."""
    furthest: dict[int, tuple[float, int]] = {}
    for number in range(len(measured[0].quantiles)):
        # contrast and brightness are the scanner's choice; how the values spread is not
        shapes = [shape_of(case.quantiles[number]) for case in measured]
        present = [index for index, shape in enumerate(shapes) if shape]
        if len(present) < FEWEST_CASES:
            continue
        beyond = _beyond(np.array([shapes[index] for index in present]), LEAST_WIDTH).max(axis=1)
        for index, distance in zip(present, beyond.tolist(), strict=True):
            if distance > furthest.get(index, (0.0, 0))[0] and number not in swapped.get(index, ()):
                furthest[index] = (distance, number)
    return {index: number for index, (_, number) in sorted(furthest.items())}


def _several_kinds(measured: Sequence[CaseFingerprint], odd: Mapping[int, int]) -> Problem:
    examples = ", ".join(measured[index].case for index in list(odd)[:4])
    return Problem(
        severity="note",
        kind="several-kinds",
        what=f"the intensities of {len(odd)} of {len(measured)} cases spread unlike those of the others, for example "
        f"{examples}: the images are of several kinds",
        remedy="Nothing to do if one model is to segment all of them. Otherwise make a dataset of each kind.",
        case=measured[next(iter(odd))].case,
    )


def _odd_intensities(case: CaseFingerprint, number: int, name: str, values: Values) -> Problem:
    ends = (0, len(LEVELS) // 2, len(LEVELS) - 1)
    shares, own, usual = (
        ", ".join(entries)
        for entries in (
            [f"{LEVELS[end]:.0%}" for end in ends],
            [f"{case.quantiles[number][end]:.4g}" for end in ends],
            [f"{value:.4g}" for value in np.median(values, axis=0)[list(ends)]],
        )
    )
    return Problem(
        severity="note",
        kind="odd-intensities",
        what=f"the intensities of channel {number} ({name}) spread unlike those of the other cases: {shares} of the "
        f"voxels lie below {own}; typically below {usual}",
        remedy="Look at the image: an artefact, another sequence, a mask or another unit. Leave it out if it is none "
        "that you want to segment.",
        case=case.case,
    )


def _swapped(values: Values) -> dict[int, tuple[int, int]]:
    """Cases (by index) of which two channels each fit the other's place, and not their own."""
    count = values.shape[1]
    found: dict[int, tuple[int, int]] = {}
    # as[a][b]: how far channel a of every case is beyond the habit of channel b
    width = np.median(values[..., WIDTH[1]] - values[..., WIDTH[0]], axis=0)
    low, high = np.quantile(values, (0.25, 0.75), axis=0)  # (channels, levels)
    reach = np.maximum(FAR * (high - low), LEAST_WIDTH * width[:, None])
    wrong = np.maximum(low - reach - values[:, :, None], values[:, :, None] - high - reach).max(axis=-1) > 0
    for first in range(count):
        for second in range(first + 1, count):
            own = wrong[:, first, first] & wrong[:, second, second]
            other = wrong[:, first, second] | wrong[:, second, first]
            for index in np.flatnonzero(own & ~other):
                found.setdefault(int(index), (first, second))
    return found


# -------------------------------------------------------------------------------------------------------- the sides


def _sides(cases: Sequence[CaseFingerprint], names: Sequence[str]) -> Iterator[Problem]:
    """Cases whose one-sided labels all lie where their mirror images should."""
    oriented = [case for case in cases if case.label_centres and case.orientation not in ("flat", "unknown")]
    against: dict[str, list[tuple[str, bool]]] = {}
    for name in names:
        places = {case.case: case.label_centres[name][_LEFT_RIGHT] for case in oriented if name in case.label_centres}
        for case, mirrored in _mirrored(places).items():
            against.setdefault(case, []).append((name, mirrored))
    for case, told in against.items():
        if all(mirrored for _, mirrored in told):
            yield Problem(
                severity="warning",
                kind="side-unlike-others",
                what=f"{', '.join(name for name, _ in told[:4])}: on the other side than in the other cases, at the "
                "place of the mirror image",
                remedy="Look at it: most likely the image was flipped, or left and right are exchanged in the header.",
                case=case,
            )


def _mirrored(places: dict[str, float]) -> dict[str, bool]:
    """Of a label on one side in nearly all cases, by case: whether it lies where its mirror image should.

    Empty for a label that has no side. `places` are 0..1 of the image's width.
    """
    offsets = np.array(list(places.values())) - 0.5
    if len(offsets) < FEWEST_CASES:
        return {}
    side = np.sign(np.median(offsets))
    usual = offsets * side > OFF_CENTRE
    if usual.sum() < NEARLY_ALL * len(offsets):
        return {}
    low, high = (offsets[usual] * side).min(), (offsets[usual] * side).max()
    mirrored = (-offsets * side >= low) & (-offsets * side <= high)
    return dict(zip(places, mirrored.tolist(), strict=True))
