"""Augmentation of training patches on the training's device (nnU-Net's transforms, Isensee et al. 2021).

What happens to a sample is drawn from that sample's own generator and then done with torch to the samples that need
it, so a sample is the same alone and in any batch, and whoever computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoseg.errors import TrainingError
from autoseg.training.cascade import NO_FAULTS, FaultDraw, FirstStageFaults, add_faults, draw_faults
from autoseg.training.intensity import Intensity, IntensityDraw, change_intensities, draw_intensity
from autoseg.training.spatial import (
    Spatial,
    SpatialDraw,
    draw_mirrors,
    draw_spatial,
    enlarged_patch,
    is_flat,
    mirror,
    transform,
)

#: Intensities as they are.
NO_CHANGE = IntensityDraw()


@dataclass(frozen=True, eq=False)
class SampleDraw:
    """All that was drawn for one sample."""

    spatial: SpatialDraw | None = None  # None is a plain centre crop
    intensity: IntensityDraw = NO_CHANGE
    mirrors: tuple[int, ...] = ()
    faults: FaultDraw = NO_FAULTS  # of a first stage's labels


@dataclass(frozen=True)
class Augmentation:
    """A way to vary training patches; None leaves a part out."""

    spatial: Spatial | None = None
    intensity: Intensity | None = None
    mirrors: bool = False
    enlarges: bool = False  # whether patches are cropped larger, so that turned ones find something at their corners
    faults: FirstStageFaults | None = None  # put into the labels that the first stage of a cascade found

    def apply(
        self,
        images: Tensor,
        labels: Tensor,
        generators: Sequence[np.random.Generator],
        patch_size: Sequence[int],
        mirror_axes: Sequence[int],
        masked_channels: Sequence[int] = (),
        first_stage_labels: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Augmented patches of a batch, new in memory: images (B, C, *patch) and labels (B, *patch).

        Above 0, `first_stage_labels` says that the last channel of the images is the label map of a cascade's first
        stage, with labels up to this one. It is moved as labels are, its intensities are left alone, and faults are put
        into it.

        Args:
            images: (B, C, *larger) float32, of the size of `initial_patch_size` (or another at least as large).
            labels: (B, *larger) integers.
            generators: one per sample.
            patch_size: of the result, two or three numbers.
            mirror_axes: axes of the patch that may be flipped.
            masked_channels: channels whose voxels outside the nonzero mask must be 0 at the end.
        """
        has_first = first_stage_labels > 0
        channels = images.shape[1] - has_first
        draws = [
            self.draw(generator, patch_size, mirror_axes, channels, first_stage_labels) for generator in generators
        ]
        if not has_first:
            return augment(images, labels, draws, patch_size, masked_channels)
        both = torch.stack([labels, images[:, channels].to(labels.dtype)], dim=1)
        images, both = augment(images[:, :channels], both, draws, patch_size, masked_channels)
        if self.faults:
            add_faults(both[:, 1], [draw.faults for draw in draws], self.faults)
        return torch.cat([images, both[:, 1:].to(images.dtype)], dim=1), both[:, 0].contiguous()

    def draw(
        self,
        generator: np.random.Generator,
        patch_size: Sequence[int],
        mirror_axes: Sequence[int],
        channels: int,
        first_stage_labels: int = 0,
    ) -> SampleDraw:
        """What will happen to one sample."""
        return SampleDraw(
            draw_spatial(generator, self.spatial, patch_size) if self.spatial else None,
            draw_intensity(generator, self.intensity, channels, len(patch_size)) if self.intensity else NO_CHANGE,
            draw_mirrors(generator, mirror_axes) if self.mirrors else (),
            draw_faults(generator, self.faults, first_stage_labels)
            if self.faults and first_stage_labels
            else NO_FAULTS,
        )


@torch.no_grad()
def augment(
    images: Tensor,
    labels: Tensor,
    draws: Sequence[SampleDraw],
    patch_size: Sequence[int],
    masked_channels: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """Images (B, C, *patch) and labels (B, *patch) after what was drawn; see `Augmentation.apply`.

    Of several label maps a sample, (B, M, *larger), the first tells what lies outside the nonzero mask.
    """
    images, labels = transform(images, labels, [draw.spatial for draw in draws], patch_size)
    change_intensities(images, [draw.intensity for draw in draws], flat=is_flat(patch_size))
    mirror(images, labels, [draw.mirrors for draw in draws])
    outside = (labels if labels.ndim == images.ndim - 1 else labels[:, 0]) < 0
    for channel in masked_channels:
        images[:, channel].masked_fill_(outside, 0.0)
    return images, labels.clamp_(min=0)


#: Pictures have no spacing: how large a pixel is, and which way is up, differs from one to the next.
PICTURE_SHAPES = Spatial(rotation_probability=0.4, scaling_probability=0.4, scaling_range=(0.5, 1.8))

#: Neither are colours comparable: stain, lamp and camera differ.
PICTURE_COLOURS = Intensity(
    brightness_probability=0.3,
    contrast_probability=0.3,
    multiplier=(0.6, 1.5),
    mixing_probability=0.3,
    inversion_probability=0.1,
)

AUGMENTATIONS: dict[str, Augmentation] = {
    "nnunet": Augmentation(Spatial(), Intensity(), mirrors=True, enlarges=True, faults=FirstStageFaults()),
    "elastic": Augmentation(
        Spatial(elastic_probability=0.2), Intensity(), mirrors=True, enlarges=True, faults=FirstStageFaults()
    ),
    "fast": Augmentation(Spatial(), Intensity(), mirrors=True, faults=FirstStageFaults()),
    "pictures": Augmentation(PICTURE_SHAPES, PICTURE_COLOURS, mirrors=True, enlarges=True, faults=FirstStageFaults()),
    "none": Augmentation(),
}


def find_augmentation(name: str) -> Augmentation:
    """The augmentation of that name. Raises TrainingError, with the known names, if there is none."""
    if name not in AUGMENTATIONS:
        raise TrainingError(
            f"unknown augmentation {name!r}",
            where="setting augmentation",
            remedy=f"Known: {', '.join(AUGMENTATIONS)}; name the module that adds another with --use.",
        )
    return AUGMENTATIONS[name]


def initial_patch_size(patch_size: Sequence[int], augmentation: Augmentation) -> tuple[int, ...]:
    """Size of the patch to crop for `augmentation.apply`, as many numbers as `patch_size`."""
    return enlarged_patch(patch_size) if augmentation.enlarges else tuple(patch_size)
