"""How cases are brought into network space: normalization per channel, and one preparation per configuration."""

from __future__ import annotations

from typing import Literal

import numpy as np

from autoseg.arrays.normalize import scheme_for_channel
from autoseg.planning.decision import Decision
from autoseg.records import Fingerprint, Preparation, Spacing

#: Below this median share of the image inside the nonzero box, statistics are taken inside the mask alone (nnU-Net).
MASKED_BELOW = 0.75

#: Slices whose spacing differs by less than this share are taken as equal.
SAME_SPACING = 1e-3

_Z_SCORE = "ZScoreNormalization"


def normalization(fingerprint: Fingerprint) -> Decision[tuple[str, ...]]:
    """The normalization of each channel, by the channel's name (nnU-Net)."""
    schemes = tuple(scheme_for_channel(name) for name in fingerprint.channels)
    listing = ", ".join(f"{name}: {scheme}" for name, scheme in zip(fingerprint.channels, schemes, strict=True))
    return Decision(
        schemes,
        f"By channel name ({listing}).",
        "Only a channel called CT is scaled by the statistics of the dataset's foreground: its values mean the same in "
        "every case. Everything else is brought to mean 0 and deviation 1 case by case, unless its name is noNorm, "
        "rescale_to_0_1 or rgb_to_0_1.",
    )


def mask_use(fingerprint: Fingerprint, schemes: tuple[str, ...]) -> Decision[tuple[bool, ...]]:
    """Per channel: whether normalization looks only at voxels inside the nonzero mask (nnU-Net)."""
    size = fingerprint.median_relative_size_after_cropping
    masked = size < MASKED_BELOW
    return Decision(
        tuple(masked and scheme == _Z_SCORE for scheme in schemes),
        f"Cropping to what is not zero leaves {size:.0%} of the median image; the bound is {MASKED_BELOW:.0%}.",
        "Over the whole box the zeros around would spoil mean and deviation of z-scored channels."
        if masked
        else f"Statistics inside the mask alone are for images of which cropping leaves less than {MASKED_BELOW:.0%}.",
    )


def volume_preparation(
    fingerprint: Fingerprint,
    axis_order: tuple[int, int, int],
    spacing: Spacing,
    schemes: tuple[str, ...],
    masks: tuple[bool, ...],
    slice_order: Literal[0, 1],
) -> Preparation:
    """The preparation of a 3D configuration at `spacing` (prepared axis order)."""
    return Preparation(
        axis_order=axis_order,
        spacing=spacing,
        normalization=schemes,
        use_mask_for_normalization=masks,
        intensities=fingerprint.intensities,
        labels=fingerprint.labels,
        slice_order=slice_order,
    )


def slice_preparation(fingerprint: Fingerprint, volume: Preparation, has_volumes: bool) -> Decision[Preparation]:
    """The preparation of the 2D configuration: slices are resampled in their plane and never across.

    Where that makes no difference from 3d_fullres, it is the preparation of that, and one prepared copy serves both.
    """
    if has_volumes and _same_slices(fingerprint, volume):
        return Decision(
            volume,
            f"All cases have the target's slice spacing ({volume.spacing[0]:.4g} mm), so slices resampled in their "
            f"plane are those of 3d_fullres: one prepared copy serves both.",
            "A copy of its own would hold the same voxels.",
        )
    own = volume.model_copy(update={"spacing": (None, *volume.spacing[1:])})
    why = "slices are never resampled across" if has_volumes else "the images are flat"
    return Decision(
        own,
        f"Slices keep their own spacing: {why}.",
        "The prepared copy of 3d_fullres has other slices: their spacings differ between cases."
        if has_volumes
        else "There is no other slice to resample with.",
    )


def _same_slices(fingerprint: Fingerprint, volume: Preparation) -> bool:
    axis, target = volume.axis_order[0], volume.spacing[0]
    if target is None:
        return False
    spacings = np.asarray([case.spacing[axis] for case in fingerprint.cases])
    sizes = np.asarray([case.shape_after_crop[axis] for case in fingerprint.cases])
    alike = np.abs(spacings / target - 1) <= SAME_SPACING
    # a tiny difference can still add a slice to a long image
    return bool(np.all(alike & (np.round(spacings / target * sizes) == sizes)))
