"""What all configurations of a plan share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autoseg.planning.decision import Decision
from autoseg.planning.patch import Fitter, work_factor
from autoseg.planning.preparation import volume_preparation
from autoseg.planning.presets import DeviceBudget, Preset, Variant
from autoseg.records import Fingerprint, Preparation, Spacing


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

    def preparation(self, spacing: Spacing) -> Preparation:
        """The preparation of a 3D configuration at this spacing."""
        return volume_preparation(self.fingerprint, self.order, spacing, self.schemes, self.masks)

    def fitter(self, dimensions: Literal[2, 3]) -> Fitter:
        """What finds patches for these dimensions."""
        return Fitter(self.variant, dimensions, self.work(dimensions).value, self.fingerprint.labels_with_entries)

    def work(self, dimensions: Literal[2, 3]) -> Decision[float]:
        """What the preset's budget is multiplied by on this device."""
        return work_factor(self.variant.work, self.variant.limits(dimensions), self.device)
