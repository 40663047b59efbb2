"""What all configurations of a plan share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from autoseg.planning.decision import Decision
from autoseg.planning.exposure import LabelBox, label_boxes
from autoseg.planning.families import Family, family_of
from autoseg.planning.overrides import Overrides
from autoseg.planning.patch import Fitter, memory_elements, work_factor
from autoseg.planning.preparation import volume_preparation
from autoseg.planning.presets import DeviceBudget, Preset, Variant
from autoseg.records import Fingerprint, Preparation, Spacing, TrainSettings


@dataclass(frozen=True)
class Frame:
    """What all configurations of a plan share: the constants, the data, and the axes of prepared arrays."""

    fingerprint: Fingerprint
    preset: Preset
    variant: Variant
    device: DeviceBudget
    order: tuple[int, int, int]
    spacing: Spacing  # of the full resolution, prepared axis order
    median_shape: tuple[float, float, float]
    schemes: tuple[str, ...]
    masks: tuple[bool, ...]
    overrides: Overrides
    training: TrainSettings  # but for its epochs

    @property
    def image_mm(self) -> tuple[float, ...]:
        """Edges of the median image in mm, prepared axis order."""
        return tuple(size * length for size, length in zip(self.median_shape, self.spacing, strict=True))

    @cached_property
    def boxes(self) -> tuple[LabelBox, ...]:
        """Where the labels lie, the background first."""
        return label_boxes(self.fingerprint, self.order, self.image_mm)

    @cached_property
    def family(self) -> Family:
        """The network, as far as it does not depend on the data."""
        return family_of(self.variant.architecture, self.overrides.network)

    def preparation(self, spacing: Spacing) -> Preparation:
        """The preparation of a 3D configuration at this spacing."""
        slice_order = self.variant.slice_order
        return volume_preparation(self.fingerprint, self.order, spacing, self.schemes, self.masks, slice_order)

    def fitter(self, dimensions: Literal[2, 3]) -> Fitter:
        """What finds patches for these dimensions, or takes the given one."""
        factor = self.work(dimensions).value
        return Fitter(
            variant=self.variant,
            dimensions=dimensions,
            factor=factor,
            outputs=self.fingerprint.labels_with_entries,
            family=self.family,
            channels=len(self.fingerprint.channels),
            given=self.overrides.patch_size(dimensions),
            batch_factor=min(factor, 1.0) if self.variant.work.per == "memory" else None,
            largest_step=memory_elements(self.variant.work, self.device),
        )

    def work(self, dimensions: Literal[2, 3]) -> Decision[float]:
        """What the preset's budget is multiplied by on this device."""
        whole = work_factor(
            self.variant.work, self.variant.limits(dimensions), self.device, memory_gb=self.overrides.memory_gb
        )
        scale = self.overrides.budget_scale
        if scale >= 1:
            return whole
        return Decision(
            whole.value * scale, f"{whole.because}; {scale:.0%} of that, since a real step with more did not fit"
        )
