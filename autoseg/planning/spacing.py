"""The voxel size to resample to, the order of the axes, and the sizes that images then have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.planning.decision import Decision, millimetres, times
from autoseg.records import Spacing

#: An axis this many times coarser than the others, and shorter, is anisotropic (nnU-Net).
ANISOTROPIC = 3.0

#: Of an anisotropic axis this percentile of the cases' spacings is taken instead of the median (nnU-Net).
ANISOTROPIC_PERCENTILE = 10

#: A low-resolution stage is made if a patch covers less than this share of the median image (nnU-Net).
LOWRES_COVERAGE = 0.25

#: The low-resolution spacing grows by this factor at a time (nnU-Net).
LOWRES_STEP = 1.03

#: Without so many times fewer voxels a low-resolution stage is not worth having (nnU-Net).
LOWRES_SAVING = 2.0

FittedT = TypeVar("FittedT")


def target_spacing(spacings: NDArray[np.float64], shapes: NDArray[np.float64]) -> Decision[Spacing]:
    """The spacing in mm (Z, Y, X) to resample to, from the cases' spacings and cropped shapes, both (N, 3).

    Rule: the median per axis; for a coarse and short axis the 10th percentile, so that fine cases are not thinned out
    (nnU-Net).
    """
    median = np.median(spacings, axis=0)
    shape = np.median(shapes, axis=0)
    worst = int(np.argmax(median))
    others = [axis for axis in range(3) if axis != worst]
    coarse = median[worst] > ANISOTROPIC * median[others].max()
    short = ANISOTROPIC * shape[worst] < shape[others].min()
    if not (coarse and short):
        ratio = median[worst] / median[others].max()
        z, y, x = (float(value) for value in median)
        return Decision(
            (z, y, x),
            f"Median of the {len(spacings)} cases per axis.",
            f"The 10th percentile, which spares thin slices, is for an axis more than {ANISOTROPIC:g} times as coarse "
            f"as the others (here {ratio:.2f}) and less than a third as long (median shape {times(shape)}).",
        )
    percentile = np.percentile(spacings[:, worst], ANISOTROPIC_PERCENTILE)
    finest_allowed = float(median[others].max())
    chosen = median.copy()
    chosen[worst] = percentile if percentile >= finest_allowed else finest_allowed + 1e-5
    z, y, x = (float(value) for value in chosen)
    floor = "" if percentile >= finest_allowed else f", not finer than the other axes ({finest_allowed:.4g} mm)"
    return Decision(
        (z, y, x),
        f"Median of the {len(spacings)} cases per axis; of axis {'ZYX'[worst]}, which is "
        f"{median[worst] / finest_allowed:.1f} times as coarse as the next and short (median shape {times(shape)}), "
        f"the 10th percentile ({percentile:.4g} mm){floor}.",
        f"The median of that axis ({median[worst]:.4g} mm) would lose the detail of the finer cases.",
    )


def axis_order(spacing: Spacing) -> Decision[tuple[int, int, int]]:
    """The order of axes in prepared arrays: the coarsest first, the others as they are (nnU-Net)."""
    coarsest = int(np.argmax(spacing))
    first, second = (axis for axis in range(3) if axis != coarsest)
    finest = int(np.argmin(spacing))
    return Decision(
        (coarsest, first, second),
        f"The coarsest axis ({'ZYX'[coarsest]}, {spacing[coarsest]:.4g} mm) comes first, so that 2D slices lie in the "
        f"plane of the highest resolution.",
        "All axes are alike: any other order would do as well."
        if min(spacing) == max(spacing)
        else f"With {'ZYX'[finest]} ({spacing[finest]:.4g} mm) first, slices would have pixels of up to "
        f"{spacing[coarsest]:.4g} mm.",
    )


def resampled_shapes(
    shapes: NDArray[np.float64], spacings: NDArray[np.float64], spacing: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shapes (N, 3) of the cases after resampling to `spacing`; halves are rounded to even."""
    rounded: NDArray[np.float64] = np.round(spacings / spacing * shapes)
    return rounded


def coarsen(
    spacing: Spacing,
    median_shape: tuple[float, float, float],
    full: FittedT,
    fit: Callable[[Spacing, tuple[int, int, int]], FittedT],
    patch_voxels: Callable[[FittedT], int],
) -> Decision[tuple[Spacing, FittedT] | None]:
    """The spacing of a low-resolution stage and what `fit` makes of it; None where such a stage is not needed.

    Rule: the spacing grows in steps of 3 %, the finer axes first, until a patch covers a quarter of the median image
    (nnU-Net).

    Args:
        spacing: of the full resolution, prepared axis order.
        median_shape: at full resolution.
        full: what `fit` made of the full resolution.
        fit: (spacing, median shape) -> patch and topology.
        patch_voxels: size of the patch that `fit` chose.
    """
    fine, shape = np.asarray(spacing), np.asarray(median_shape)
    current, fitted = fine.copy(), full
    all_voxels = float(np.prod(shape))
    voxels = all_voxels
    seen = f"a patch covers {patch_voxels(full) / voxels:.1%} of the median image"
    before = ""
    while patch_voxels(fitted) / voxels < LOWRES_COVERAGE:
        z, y, x = (float(value) for value in current)
        before = f"At {millimetres((z, y, x))}, a step less, it covers {patch_voxels(fitted) / voxels:.1%}."
        behind = current.max() / current > 2
        current[behind if behind.any() else slice(None)] *= LOWRES_STEP
        scaled = fine / current * shape
        voxels = float(np.prod(scaled))
        z, y, x = (float(value) for value in current)
        fitted = fit((z, y, x), lowres_shape(spacing, (z, y, x), median_shape))
    if fitted is full:
        return Decision(
            None,
            f"At full resolution {seen}, and a quarter is enough.",
            "A low-resolution stage and the cascade are for images of which a patch covers less.",
        )
    if all_voxels / voxels < LOWRES_SAVING:
        return Decision(
            None,
            f"At full resolution {seen}, but a quarter already with {all_voxels / voxels:.2f} times fewer voxels.",
            f"A low-resolution stage is worth having from {LOWRES_SAVING:g} times fewer voxels on.",
        )
    z, y, x = (float(value) for value in current)
    return Decision(
        ((z, y, x), fitted),
        f"At full resolution {seen} ({times(shape)}); from {millimetres(spacing)} the spacing grew by 3 % at a time, "
        f"finer axes first, until it covered a quarter.",
        before,
    )


def lowres_shape(spacing: Spacing, coarse: Spacing, median_shape: tuple[float, float, float]) -> tuple[int, int, int]:
    """The median shape at a coarser spacing, rounded to voxels."""
    z, y, x = (round(value) for value in np.asarray(spacing) / np.asarray(coarse) * np.asarray(median_shape))
    return z, y, x
