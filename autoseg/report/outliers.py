"""Cases that lie far from the others, by what the fingerprint knows of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from autoseg.arrays.quantiles import LEVELS, MEDIAN
from autoseg.records import CaseFingerprint, Fingerprint

#: Distances from the nearer quartile, in distances of the quartiles, from which a value is far out (Tukey 1977).
FAR = 3.0

#: Fewer cases have no rule that one of them could break.
FEWEST = 8

#: On a logarithmic scale quartiles closer than this are taken to be this far apart: a tenth more is no outlier.
_LEAST_SPREAD = 0.05


def is_calibrated(channel: str) -> bool:
    """Whether intensities of this channel mean the same in every image, as those of CT do."""
    return channel.casefold() in ("ct", "ct scan", "ct_scan")


def volume_ml(case: CaseFingerprint, label: str) -> float | None:
    """Volume of a label; None where it is absent."""
    voxels = case.voxels_per_label.get(label, 0)
    return voxels * case.voxel_ml if voxels else None


def far_out(values: Mapping[str, float]) -> dict[str, bool]:
    """Of the positive values by case those that are far out on a logarithmic scale, and whether they are above."""
    logs = {case: math.log(value) for case, value in values.items() if value > 0}
    if len(logs) < FEWEST:
        return {}
    low, high = (float(value) for value in np.quantile(list(logs.values()), (0.25, 0.75)))
    reach = FAR * max(high - low, _LEAST_SPREAD)
    return {case: value > high for case, value in logs.items() if value < low - reach or value > high + reach}


def outliers(fingerprint: Fingerprint) -> dict[str, tuple[str, ...]]:
    """What is far out of each case that has anything of the kind, in words."""
    found: dict[str, list[str]] = {}
    for what, values, unit in _measures(fingerprint):
        for case, above in far_out(values).items():
            found.setdefault(case, []).append(f"{what} {'high' if above else 'low'}: {values[case]:.4g}{unit}")
    return {case: tuple(told) for case, told in found.items()}


def _measures(fingerprint: Fingerprint) -> Iterator[tuple[str, dict[str, float], str]]:
    cases = fingerprint.cases
    for axis, name in enumerate("ZYX"):
        yield f"extent in {name}", {case.case: case.shape[axis] * case.spacing[axis] for case in cases}, " mm"
        yield f"spacing in {name}", {case.case: case.spacing[axis] for case in cases}, " mm"
    for label in fingerprint.labels.classes:
        volumes = {case.case: volume_ml(case, label) for case in cases}
        yield f"{label} volume", {case: value for case, value in volumes.items() if value is not None}, " ml"
    for index, channel in enumerate(fingerprint.channels):
        if not is_calibrated(channel):
            continue  # the scale of such images is arbitrary
        spread = {
            case.case: case.quantiles[index][-1] - case.quantiles[index][0]
            for case in cases
            if len(case.quantiles) > index and len(case.quantiles[index]) == len(LEVELS)
        }
        yield f"spread of {channel}", spread, ""
        medians = {
            case.case: case.quantiles[index][MEDIAN]
            for case in cases
            if len(case.quantiles) > index and len(case.quantiles[index]) == len(LEVELS)
        }
        yield f"median of {channel}", medians, ""
