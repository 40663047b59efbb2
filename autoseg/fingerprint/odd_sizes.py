"""Cases whose voxel size makes them much larger or smaller than the others: a wrong header, most likely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.records import CaseFingerprint, Problem

Sizes = NDArray[np.float64]  # (Z, Y, X)

#: Times the median extent of the dataset, or its fraction, from which a case is odd.
ODD_EXTENT = 4.0

#: Times the median voxel size, or its fraction, that must go with it: a long scan is no wrong header.
ODD_SPACING = 2.0

#: Fewer cases show no habit.
FEWEST_CASES = 3


def odd_sizes(cases: Sequence[CaseFingerprint]) -> tuple[Problem, ...]:
    """A warning for each case that is odd in voxel size and in extent, along the same axis.

    Units taken for one another (mm for micrometres) and placeholders (1 mm) are of that kind. Such a case decides the
    spacing and the memory of the whole plan.
    """
    if len(cases) < FEWEST_CASES:
        return ()
    spacings = np.array([case.spacing for case in cases])
    extents = spacings * np.array([case.shape for case in cases])
    odd = _far(spacings, ODD_SPACING) & _far(extents, ODD_EXTENT)
    return tuple(
        _warning(case, spacings[index], extents[index], np.median(spacings, axis=0), np.median(extents, axis=0))
        for index, case in enumerate(cases)
        if odd[index].any()
    )


def _far(values: NDArray[np.float64], times: float) -> NDArray[np.bool_]:
    """(cases, axes): which values are so many times the median, or so small a part of it."""
    ratio = values / np.median(values, axis=0)
    far: NDArray[np.bool_] = (ratio > times) | (ratio < 1 / times)
    return far


def _warning(case: CaseFingerprint, spacing: Sizes, extent: Sizes, usual: Sizes, usual_extent: Sizes) -> Problem:
    return Problem(
        severity="warning",
        kind="odd-size",
        what=f"its voxels are {_listed(spacing)} mm and it is {_listed(extent)} mm large; the median of the cases is "
        f"{_listed(usual)} mm and {_listed(usual_extent)} mm",
        remedy="Correct its header if the voxel size is a placeholder or in another unit, or leave the case out.",
        case=case.case,
    )


def _listed(sizes: Sizes) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)
