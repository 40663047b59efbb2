"""Which axes may be mirrored: all, unless the labels tell left from right."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.planning.decision import Decision
from autoseg.planning.side_names import one_sided_names, paired_names
from autoseg.planning.sides import (
    FEWEST_CASES,
    LEFT_RIGHT,
    NEARLY_ALL,
    PlacedPair,
    is_oriented,
    mirrored_pairs,
    placed_pairs,
)
from autoseg.records import CaseFingerprint, Fingerprint, Labels, Problem

#: What the axes of oriented arrays (Z, Y, X) are called.
AXIS_NAMES = ("inferior-superior", "posterior-anterior", "left-right")

#: Entries named in a sentence.
_NAMED = 3

_STILL = "Mirrored along it, one side would be taught, and at prediction averaged, under the name of the other."
_INSTEAD = "nnU-Net mirrors every axis, whatever the labels mean."


def mirror_axes(fingerprint: Fingerprint, axis_order: Sequence[int]) -> Decision[tuple[int, ...]]:
    """Axes of prepared arrays (Z, Y, X) that training and prediction may mirror.

    All three as in nnU-Net, but for the axis from left to right where the names of labels, or the places of two
    labels in nearly all cases, tell sides apart. Where labels named as sides lie across another axis than the headers
    call left-right, that one is not mirrored either. `axis_order[a]` is the oriented axis that becomes prepared axis a.
    """
    names = tuple(fingerprint.labels.foreground)
    pairs = paired_names(names)
    single = one_sided_names(names)
    dropped = {LEFT_RIGHT}
    if pairs:
        because = f"the names of labels tell sides apart ({_listed([f'{left} / {right}' for left, right in pairs])})"
        strays = [pair for pair in placed_pairs(fingerprint.cases, pairs) if pair.axis != LEFT_RIGHT]
        dropped |= {pair.axis for pair in strays}
        if strays:
            because += f"; by the headers of the files they lie across the {AXIS_NAMES[strays[0].axis]} axis"
    elif single:
        because = f"{_listed(single)} is told from what looks the same on the other side"
    else:
        found = mirrored_pairs(fingerprint.cases, fingerprint.labels)
        if not found:
            return Decision((0, 1, 2), _all_axes(fingerprint), "With fewer axes there would be fewer samples to see.")
        listing = _listed([f"{pair.left} / {pair.right} in {pair.cases} cases" for pair in found])
        because = f"labels lie as mirror images of each other, always on the same sides ({listing})"
    kept = tuple(axis for axis in range(3) if axis_order[axis] not in dropped)
    without = " and ".join(f"{AXIS_NAMES[axis]} ({'ZYX'[axis]})" for axis in sorted(dropped))
    return Decision(kept, f"All but {without}: {because}. {_STILL}", _INSTEAD)


def _all_axes(fingerprint: Fingerprint) -> str:
    """Why nothing keeps from mirroring."""
    names = "no name of a label says left or right"
    measured = sum(is_oriented(case) for case in fingerprint.cases)
    if measured == 0:
        return f"All axes: {names}. Flipped images are as likely as the originals."
    if measured < FEWEST_CASES:
        places = f"{measured} cases are too few to tell sides by the places of labels"
    else:
        places = f"no two labels lie as mirror images of each other on fixed sides in the {measured} cases"
    return f"All axes: {names}, and {places}. Flipped images are as likely as the originals."


def side_doubts(cases: Sequence[CaseFingerprint], labels: Labels) -> tuple[Problem, ...]:
    """Warnings where labels named left and right do not lie so: in all cases, or in some otherwise than in the rest."""
    found: list[Problem] = []
    placed = placed_pairs(cases, paired_names(labels.foreground))
    across = [pair for pair in placed if pair.axis != LEFT_RIGHT]
    if across:
        found.append(_across_problem(across))
    swapped = [pair for pair in placed if pair.axis == LEFT_RIGHT and len(pair.descending) >= NEARLY_ALL * pair.cases]
    if swapped:
        found.append(_swapped_problem(swapped))
    found += [problem for pair in placed if (problem := _unlike_others(pair)) is not None]
    return tuple(found)


def _across_problem(pairs: Sequence[PlacedPair]) -> Problem:
    pair = pairs[0]
    return Problem(
        severity="warning",
        kind="sides-across-axis",
        what=f"{_pairs(pairs)} lie across the {AXIS_NAMES[pair.axis]} axis by the headers of the files, in "
        f"{pair.cases} cases: the headers do not say how the patients lie",
        remedy="Correct the directions in the headers if you can. Otherwise only images stored like these will be "
        "segmented rightly.",
    )


def _swapped_problem(pairs: Sequence[PlacedPair]) -> Problem:
    pair = pairs[0]
    return Problem(
        severity="warning",
        kind="sides-swapped",
        what=f"{_pairs(pairs)}: by the headers of the files what is called left lies on the patient's right, in "
        f"{len(pair.descending)} of {pair.cases} cases",
        remedy="Look at one case in a viewer: either the names of the labels or the directions in the headers are "
        "exchanged. New images with right headers would get exchanged names.",
    )


def _unlike_others(pair: PlacedPair) -> Problem | None:
    """A few cases with sides exchanged against the rest: labels or headers of these are wrong."""
    few, rest = sorted((pair.ascending, pair.descending), key=len)
    if not few or len(rest) < NEARLY_ALL * pair.cases:
        return None
    return Problem(
        severity="warning",
        kind="sides-differ",
        what=f"{pair.left} and {pair.right} are exchanged in {_listed(few)}, compared with {len(rest)} other cases",
        remedy="Look at these cases: either the two labels or the directions in the header are exchanged.",
        case=few[0],
    )


def _pairs(pairs: Sequence[PlacedPair]) -> str:
    return _listed([f"{pair.left} and {pair.right}" for pair in pairs])


def _listed(entries: Sequence[str]) -> str:
    more = f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
    return ", ".join(entries[:_NAMED]) + more
