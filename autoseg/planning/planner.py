"""From a fingerprint and a device to a plan: arithmetic only, a reason for every number.

The rules are nnU-Net's (Isensee et al. 2021); each stands in the module named for it. Nothing here looks at an image
or builds a network.
"""

from __future__ import annotations

import numpy as np

from autoseg.errors import PlanError
from autoseg.planning.configurations import Planned, plan_configurations
from autoseg.planning.decision import Decision, millimetres
from autoseg.planning.frame import Frame
from autoseg.planning.preparation import mask_use, normalization
from autoseg.planning.presets import DeviceBudget, Preset, find_preset
from autoseg.planning.schedule import epochs
from autoseg.planning.spacing import axis_order, resampled_shapes, target_spacing
from autoseg.records import Fingerprint, Plan, Reason, TrainSettings


def make_plan(fingerprint: Fingerprint, preset: str, device: DeviceBudget, name: str = "default") -> Plan:
    """The plan for a dataset on a device: every configuration complete, every derived number with its reason.

    Args:
        fingerprint: what the dataset looks like.
        preset: a name in PRESETS.
        device: what the plan has to fit; presets named after nnU-Net plan alike for every device.
        name: what the plan is to be called.

    Raises:
        PlanError: the preset is unknown, the fingerprint is empty or impossible, or no patch fits the budget.
    """
    chosen = find_preset(preset)
    frame, shared_reasons = _frame(fingerprint, chosen, device)
    planned = plan_configurations(frame)
    configurations = {entry.configuration.name: entry.configuration for entry in planned}
    training, training_reasons = _training(frame, planned)
    return Plan(
        name=name,
        dataset=fingerprint.dataset,
        preset=chosen.name,
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        mirror_axes=(0, 1, 2),
        configurations=configurations,
        training=training,
        device=device.description,
        reasons=(*shared_reasons, *(reason for entry in planned for reason in entry.reasons), *training_reasons),
    )


def _frame(fingerprint: Fingerprint, preset: Preset, device: DeviceBudget) -> tuple[Frame, tuple[Reason, ...]]:
    """What the configurations share, with the reasons for it."""
    if not fingerprint.cases:
        raise PlanError("the fingerprint has no cases", where=fingerprint.dataset)
    spacings = np.asarray([case.spacing for case in fingerprint.cases], dtype=np.float64)
    shapes = np.asarray([case.shape_after_crop for case in fingerprint.cases], dtype=np.float64)
    if not (np.isfinite(spacings).all() and spacings.min() > 0 and shapes.min() >= 1):
        raise PlanError("every case needs positive spacings and at least one voxel", where=fingerprint.dataset)
    target = target_spacing(spacings, shapes)
    order = axis_order(target.value)
    resampled = resampled_shapes(shapes, spacings, np.asarray(target.value))
    if all(case.orientation == "flat" for case in fingerprint.cases):
        resampled[:, 0] = 1  # the slice spacing of flat images is made up: no slices may arise from it
    median = np.median(resampled, axis=0)
    schemes = normalization(fingerprint)
    masks = mask_use(fingerprint, schemes.value)
    first, second, third = order.value
    frame = Frame(
        fingerprint=fingerprint,
        preset=preset,
        variant=preset.variant(device),
        device=device,
        order=order.value,
        spacing=(target.value[first], target.value[second], target.value[third]),
        median_shape=(float(median[first]), float(median[second]), float(median[third])),
        schemes=schemes.value,
        masks=masks.value,
    )
    mirror = Decision(
        (0, 1, 2), "All axes: flipped images are as likely as the originals unless the labels tell sides apart."
    )
    return frame, (
        target.reason("spacing", millimetres(target.value)),
        order.reason("axis_order", "".join("ZYX"[axis] for axis in order.value)),
        schemes.reason("normalization", ", ".join(schemes.value)),
        masks.reason("use_mask_for_normalization", ", ".join("yes" if use else "no" for use in masks.value)),
        mirror.reason("mirror_axes", "all"),
    )


def _training(frame: Frame, planned: list[Planned]) -> tuple[TrainSettings, tuple[Reason, ...]]:
    """Training defaults; their length is that of the configuration trained by default."""
    main = next((entry for entry in planned if entry.configuration.name == "3d_fullres"), planned[0])
    length = epochs(frame.variant.length, main.parts, main.configuration.batch_size, main.configuration.steps_per_epoch)
    settings = frame.variant.training.model_copy(update={"epochs": length.value})
    optimizer = Decision(
        settings.optimizer, f"Preset {frame.preset.name!r}: learning rate {settings.learning_rate:g}, decaying to 0."
    )
    return settings, (
        length.reason("training.epochs", str(length.value)),
        optimizer.reason("training.optimizer", settings.optimizer),
    )
