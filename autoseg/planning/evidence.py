"""What intensities say of a channel's name, which decides its normalization; a wrong one would not be noticed later."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from autoseg.arrays.normalize import scheme_for_channel
from autoseg.records import Fingerprint, IntensityStatistics, Problem

#: Air in Hounsfield units is -1000; files hold -1024, -2000, -2048 or -3024 outside the body or the scanner's circle.
AIR_BELOW = -500.0
SURELY_AIR = -900.0

#: Values of bone, contrast agent and metal: nearly every CT has some above the first, hardly any above the second.
BONE_ABOVE = 300.0
METAL_BELOW = 40_000.0

#: What hardware stores for -1000 when it keeps CT as positive numbers: 24, or 0 outside; bone then is at 1300 or more.
SHIFT = 1024.0
SHIFTED_BONE_ABOVE = 1200.0
SHIFTED_MOST = 8000.0

#: Maxima of shifted CT hardly differ from case to case; of MR by much.
ALIKE_MAXIMA = 4.0

NEARLY_ALL = 0.9
_FEWEST_CASES = 3
_NAMED = 4

_CT_WORD = re.compile(r"(?:^|[^a-z])(?:ct|cta|cect|ncct|cbct)(?:$|[^a-z])", re.IGNORECASE)

Range = tuple[float, float]


def normalization_doubts(fingerprint: Fingerprint) -> tuple[Problem, ...]:
    """Findings on channels whose intensities do not go with their name; no scheme is changed by them.

    A warning where a channel called CT does not look like one, in all cases or in some; a note where a channel of
    another name looks like one, and where CT is stored with its zero at 1024. Made from the range of every case and
    the statistics of the foreground; an imported fingerprint has only the latter.
    """
    found: list[Problem] = []
    for number, name in enumerate(fingerprint.channels):
        cases = [case.case for case in fingerprint.cases if number < len(case.intensity_range)]
        ranges = [case.intensity_range[number] for case in fingerprint.cases if number < len(case.intensity_range)]
        scheme = scheme_for_channel(name)
        if scheme == "CTNormalization" and ranges:
            found += _doubts_of_ct(number, name, cases, ranges)
        elif scheme == "CTNormalization":
            found += _doubts_by_statistics(number, name, fingerprint.intensities[number])
        elif scheme == "ZScoreNormalization":
            found += _doubts_of_others(number, name, ranges)
    return tuple(found)


def _doubts_of_ct(number: int, name: str, cases: Sequence[str], ranges: Sequence[Range]) -> list[Problem]:
    """Findings on a channel called CT."""
    unlike = [case for case, limits in zip(cases, ranges, strict=True) if not _like_ct(limits)]
    if not unlike:
        return []
    if _shifted(ranges):
        return [_shifted_note(number, name, called_ct=True)]
    example = dict(zip(cases, ranges, strict=True))
    if 2 * len(unlike) < len(cases):
        listing = ", ".join(f"{case} ({_span(example[case])})" for case in unlike[:_NAMED])
        more = f" and {len(unlike) - _NAMED} more" if len(unlike) > _NAMED else ""
        return [
            Problem(
                severity="warning",
                kind="mixed-intensities",
                what=f"channel {number} ({name}): {len(unlike)} of {len(cases)} cases do not hold Hounsfield units as "
                f"the others do: {listing}{more}",
                remedy="Convert or remove these cases: CT is scaled by statistics of the whole dataset. Nothing to do "
                "if they only show no air.",
            )
        ]
    return [
        Problem(
            severity="warning",
            kind="not-like-ct",
            what=f"channel {number} is called {name}, but {_what_it_looks_like(ranges)} ({len(unlike)} of {len(cases)} "
            f"cases, for example {unlike[0]}: {_span(example[unlike[0]])})",
            remedy=f"If it is no CT, write in dataset.json {_channel_entry(number, 'MRI')} (any name but CT), and "
            "every image is scaled by itself. If it is CT that was cut or cropped, nothing needs to be done.",
        )
    ]


def _what_it_looks_like(ranges: Sequence[Range]) -> str:
    lows, highs = np.asarray(ranges).T
    if np.all(lows >= 0) and np.median(highs) <= 255:
        return "its values lie within 0 and 255, like those of a picture"
    if np.median(highs - lows) < 100:
        return "its values are small, as if they had been scaled before"
    if np.mean(lows >= 0) >= NEARLY_ALL:
        if _spread(highs) > ALIKE_MAXIMA:
            return "no value is negative, and the largest differ widely from case to case"
        return "no value is negative"
    if np.mean(lows > AIR_BELOW) >= NEARLY_ALL:
        return f"no value is below {AIR_BELOW:g}, where air and lung are"
    return "its range differs from case to case as Hounsfield units would not"


def _doubts_by_statistics(number: int, name: str, statistics: IntensityStatistics) -> list[Problem]:
    """Findings where only the foreground's statistics are known: it need hold no air, and says less."""
    fractions = statistics.max - statistics.min < 100
    picture = statistics.min >= 0 and statistics.max <= 255
    if not (fractions or picture):
        return []
    looks = "like those of a picture" if picture and not fractions else "as if they had been scaled before"
    return [
        Problem(
            severity="warning",
            kind="not-like-ct",
            what=f"channel {number} is called {name}, but the values of its foreground lie between {statistics.min:g} "
            f"and {statistics.max:g}, {looks}",
            remedy=f"If it is no CT, write in dataset.json {_channel_entry(number, 'MRI')} (any name but CT).",
        )
    ]


def _doubts_of_others(number: int, name: str, ranges: Sequence[Range]) -> list[Problem]:
    """Findings on a channel that is not called CT and gets z-scores."""
    if len(ranges) < _FEWEST_CASES:
        return []
    like = sum(low <= SURELY_AIR and _like_ct((low, high)) for low, high in ranges)
    if like >= NEARLY_ALL * len(ranges):
        lowest = float(np.median([low for low, _ in ranges]))
        return [
            Problem(
                severity="note",
                kind="like-ct",
                what=f"channel {number} ({name}) looks like CT: {like} of {len(ranges)} cases reach from about "
                f"{lowest:g} to bone and beyond, as Hounsfield units do",
                remedy=f"If it is CT, write in dataset.json {_channel_entry(number, 'CT')}: then one scale holds for "
                "all cases. Otherwise nothing needs to be done.",
            )
        ]
    if _CT_WORD.search(name) and _shifted(ranges):
        return [_shifted_note(number, name, called_ct=False)]
    return []


def _shifted_note(number: int, name: str, called_ct: bool) -> Problem:
    remedy = "Subtract 1024 if new images will hold Hounsfield units; if they are stored like these, nothing is wrong."
    if not called_ct:
        remedy = f"If it is, write in dataset.json {_channel_entry(number, 'CT')}. {remedy}"
    return Problem(
        severity="note",
        kind="shifted-ct",
        what=f"channel {number} ({name}) looks like CT stored with {SHIFT:g} added to the Hounsfield units: no value "
        "is negative",
        remedy=remedy,
    )


def _like_ct(limits: Range) -> bool:
    """Whether an image's range is that of Hounsfield units: air below, bone above, nothing absurd."""
    low, high = limits
    return -METAL_BELOW <= low <= AIR_BELOW and BONE_ABOVE <= high <= METAL_BELOW


def _shifted(ranges: Sequence[Range]) -> bool:
    """Whether nearly all ranges are those of Hounsfield units with 1024 added, alike in all cases."""
    like = [0 <= low <= SHIFT + AIR_BELOW and SHIFTED_BONE_ABOVE <= high <= SHIFTED_MOST for low, high in ranges]
    return sum(like) >= NEARLY_ALL * len(ranges) and _spread([high for _, high in ranges]) <= ALIKE_MAXIMA


def _spread(values: Sequence[float] | np.ndarray) -> float:
    """How many times the smallest value goes into the largest, the outer tenths of the cases left out."""
    low, high = np.quantile(np.asarray(values, dtype=np.float64), (0.1, 0.9))
    return float(high / low) if low > 0 else float("inf")


def _span(limits: Range) -> str:
    return f"{limits[0]:g} to {limits[1]:g}"


def _channel_entry(number: int, name: str) -> str:
    return f'"channel_names": {{"{number}": "{name}"}}'
