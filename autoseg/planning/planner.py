"""From a fingerprint and a device to a plan: arithmetic only, a reason for every number.

The rules are nnU-Net's (Isensee et al. 2021); each stands in the module named for it. Nothing here looks at an image
or builds a network.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import PlanError
from autoseg.planning.configurations import plan_configurations
from autoseg.planning.decision import Decision, given, millimetres
from autoseg.planning.frame import Frame
from autoseg.planning.mirroring import mirror_axes
from autoseg.planning.overrides import Overrides, trained_with
from autoseg.planning.preparation import mask_use, normalization
from autoseg.planning.presets import DeviceBudget, Preset, find_preset
from autoseg.planning.spacing import axis_order, resampled_shapes, target_spacing
from autoseg.planning.training import training_reasons
from autoseg.records import Fingerprint, Plan, Reason, Spacing

#: Nothing given: every value by its rule.
NONE_GIVEN = Overrides()


def make_plan(
    fingerprint: Fingerprint,
    preset: str,
    device: DeviceBudget,
    name: str = "default",
    overrides: Overrides = NONE_GIVEN,
) -> Plan:
    """The plan for a dataset on a device: every configuration complete, every derived number with its reason.

    Args:
        fingerprint: what the dataset looks like.
        preset: a name in PRESETS.
        device: what the plan has to fit; presets named after nnU-Net plan alike for every device.
        name: what the plan is to be called.
        overrides: what is given instead of following from the rules; all else is derived from it.

    Raises:
        PlanError: the preset is unknown, the fingerprint is empty or impossible, no patch fits the budget, or a given
            patch is not divisible by the strides that follow from it.
        UsageError: a given training setting does not exist or is impossible.
    """
    chosen = find_preset(preset)
    if overrides.memory_gb is not None:
        device = replace(device, memory_gb=overrides.memory_gb)
    frame, shared_reasons, mirror = _frame(fingerprint, chosen, device, overrides)
    planned = plan_configurations(frame)
    configurations = {entry.configuration.name: entry.configuration for entry in planned}
    main = configurations.get("3d_fullres", planned[0].configuration)
    training = frame.training.model_copy(update={"epochs": main.epochs})
    return Plan(
        name=name,
        dataset=fingerprint.dataset,
        preset=chosen.name,
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        mirror_axes=mirror,
        configurations=configurations,
        training=training,
        device=device.description,
        reasons=(
            *shared_reasons,
            *(reason for entry in planned for reason in entry.reasons),
            *training_reasons(training, main.name, chosen, frame.variant.training, overrides.training),
        ),
    )


def _frame(
    fingerprint: Fingerprint, preset: Preset, device: DeviceBudget, overrides: Overrides
) -> tuple[Frame, tuple[Reason, ...], tuple[int, ...]]:
    """What the configurations share, with the reasons for it, and the axes to mirror."""
    spacings, shapes = _sizes(fingerprint)
    target = _target_spacing(spacings, shapes, overrides)
    order = axis_order(target.value)
    resampled = resampled_shapes(shapes, spacings, np.asarray(target.value))
    if all(case.orientation == "flat" for case in fingerprint.cases):
        resampled[:, 0] = 1  # the slice spacing of flat images is made up: no slices may arise from it
    median = np.median(resampled, axis=0)
    schemes = normalization(fingerprint)
    masks = mask_use(fingerprint, schemes.value)
    mirror = mirror_axes(fingerprint, order.value)
    variant = preset.variant(device)
    first, second, third = order.value
    frame = Frame(
        fingerprint=fingerprint,
        preset=preset,
        variant=variant,
        device=device,
        order=order.value,
        spacing=(target.value[first], target.value[second], target.value[third]),
        median_shape=(float(median[first]), float(median[second]), float(median[third])),
        schemes=schemes.value,
        masks=masks.value,
        overrides=overrides,
        training=trained_with(variant.training, overrides.training),
    )
    mirrored = ", ".join("ZYX"[order.value[axis]] for axis in mirror.value) or "none"
    return (
        frame,
        (
            target.reason("spacing", millimetres(target.value)),
            order.reason("axis_order", "".join("ZYX"[axis] for axis in order.value)),
            schemes.reason("normalization", ", ".join(schemes.value)),
            masks.reason("use_mask_for_normalization", ", ".join("yes" if use else "no" for use in masks.value)),
            mirror.reason("mirror_axes", mirrored),
        ),
        mirror.value,
    )


def _sizes(fingerprint: Fingerprint) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spacings in mm and cropped shapes of the cases, both (N, 3)."""
    if not fingerprint.cases:
        raise PlanError("the fingerprint has no cases", where=fingerprint.dataset)
    spacings = np.asarray([case.spacing for case in fingerprint.cases], dtype=np.float64)
    shapes = np.asarray([case.shape_after_crop for case in fingerprint.cases], dtype=np.float64)
    if not (np.isfinite(spacings).all() and spacings.min() > 0 and shapes.min() >= 1):
        raise PlanError("every case needs positive spacings and at least one voxel", where=fingerprint.dataset)
    return spacings, shapes


def _target_spacing(
    spacings: NDArray[np.float64], shapes: NDArray[np.float64], overrides: Overrides
) -> Decision[Spacing]:
    ruled = target_spacing(spacings, shapes)
    chosen = overrides.spacing
    if chosen is None:
        return ruled
    return Decision(
        chosen, *given("spacing", ",".join(f"{size:g}" for size in chosen), ruled, millimetres(ruled.value))
    )
