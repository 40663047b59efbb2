"""Which configurations the data call for, and each of them complete."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autoseg.planning.decision import Decision
from autoseg.planning.frame import Frame
from autoseg.planning.memory import features_per_stage
from autoseg.planning.patch import Fitted, batch_size
from autoseg.planning.preparation import slice_preparation
from autoseg.planning.reasons import Draft, configuration_reasons
from autoseg.planning.schedule import steps_per_epoch
from autoseg.planning.spacing import coarsen, lowres_shape
from autoseg.records import Configuration, Preparation, Reason, Spacing


@dataclass(frozen=True)
class Planned:
    """A configuration with its reasons, and the size of the training images in patches."""

    configuration: Configuration
    reasons: tuple[Reason, ...]
    parts: float


def plan_configurations(frame: Frame) -> list[Planned]:
    """All configurations that the data call for, in the order in which people read them."""
    has_volumes = frame.median_shape[0] != 1
    full_preparation = frame.preparation(frame.spacing)
    flat = _draft_2d(frame, full_preparation, has_volumes)
    planned = [_planned(frame, flat)]
    if not has_volumes:
        absent = Reason(field="3d_fullres", value="not planned", because="The images are single slices.")
        return [Planned(planned[0].configuration, (*planned[0].reasons, absent), planned[0].parts)]
    fitter = frame.fitter(3)
    full = fitter.fit(frame.spacing, frame.median_shape)
    low = coarsen(frame.spacing, frame.median_shape, full, fitter.fit, lambda fitted: fitted.patch_voxels)
    full_draft = _draft_fullres(frame, full_preparation, full, has_lowres=low.value is not None)
    if low.value is None:
        whole = _planned(frame, full_draft)
        absent = low.reason("3d_lowres", "not planned")
        return [*planned, Planned(whole.configuration, (*whole.reasons, absent), whole.parts)]
    if not frame.variant.lowres:
        whole = _planned(frame, full_draft)
        because = f"Preset {frame.preset.name!r} trains one stage; the presets named after nnU-Net plan the cascade."
        absent = Reason(field="3d_lowres", value="not planned", because=because)
        return [*planned, Planned(whole.configuration, (*whole.reasons, absent), whole.parts)]
    low_draft = _draft_lowres(frame, *low.value, low.because)
    planned += [_planned(frame, low_draft), _planned(frame, full_draft)]
    return [*planned, _cascade(planned[-1])]


def _draft_2d(frame: Frame, volume: Preparation, has_volumes: bool) -> Draft:
    spacing, shape = frame.spacing[1:], frame.median_shape[1:]
    fitter = frame.fitter(2)
    return Draft(
        name="2d",
        dimensions=2,
        preparation=slice_preparation(frame.fingerprint, volume, has_volumes),
        spacing=spacing,
        spacing_because="The in-plane part of the plan's spacing.",
        median_shape=shape,
        fitted=fitter.fit(spacing, shape),
        dataset_voxels=math.prod(frame.median_shape) * frame.fingerprint.cases_declared,
        batch_dice=Decision(
            True, "Slices often lack a label: a Dice over the whole batch is steadier than one a slice."
        ),
    )


def _draft_fullres(frame: Frame, preparation: Preparation, fitted: Fitted, has_lowres: bool) -> Draft:
    because = (
        "A patch sees so little of the image that labels are often missing in it (a low-resolution stage exists)."
        if has_lowres
        else "A patch sees enough of the image for a Dice per sample."
    )
    return Draft(
        name="3d_fullres",
        dimensions=3,
        preparation=Decision(preparation, "All axes are resampled to the plan's spacing."),
        spacing=frame.spacing,
        spacing_because="The plan's spacing, in prepared axis order.",
        median_shape=frame.median_shape,
        fitted=fitted,
        dataset_voxels=math.prod(frame.median_shape) * frame.fingerprint.cases_declared,
        batch_dice=Decision(has_lowres, because),
    )


def _draft_lowres(frame: Frame, spacing: Spacing, fitted: Fitted, because: str) -> Draft:
    # what enters the batch cap is the size before rounding to voxels
    scaled = np.asarray(frame.spacing) / np.asarray(spacing) * np.asarray(frame.median_shape)
    return Draft(
        name="3d_lowres",
        dimensions=3,
        preparation=Decision(frame.preparation(spacing), "All axes are resampled to the low resolution."),
        spacing=spacing,
        spacing_because=because,
        median_shape=lowres_shape(frame.spacing, spacing, frame.median_shape),
        fitted=fitted,
        dataset_voxels=float(np.prod(scaled)) * frame.fingerprint.cases_declared,
        batch_dice=Decision(False, "A patch sees enough of the image for a Dice per sample."),
        next_stage="3d_cascade_fullres",
    )


def _planned(frame: Frame, draft: Draft) -> Planned:
    """The complete configuration of a draft."""
    variant, fitted = frame.variant, draft.fitted
    fitter = frame.fitter(draft.dimensions)
    stages = fitted.topology.stages
    batch = batch_size(fitter, fitted, draft.dataset_voxels)
    parts = max(draft.dataset_voxels / fitted.patch_voxels, 1.0)
    steps = steps_per_epoch(variant.length, parts, batch.value)
    configuration = Configuration(
        name=draft.name,
        dimensions=draft.dimensions,
        preparation=draft.preparation.value,
        spacing=draft.spacing,
        median_shape=draft.median_shape,
        patch_size=fitted.patch_size,
        batch_size=batch.value,
        network=variant.architecture.network,
        strides=fitted.topology.strides,
        kernel_sizes=fitted.topology.kernel_sizes,
        features_per_stage=features_per_stage(variant.architecture.base_features, fitter.limits.max_features, stages),
        blocks_per_stage=variant.architecture.blocks_per_stage(stages),
        blocks_per_stage_decoder=(variant.architecture.decoder_blocks,) * (stages - 1),
        batch_dice=draft.batch_dice.value,
        steps_per_epoch=steps.value,
        previous_stage=draft.previous_stage,
        next_stage=draft.next_stage,
    )
    return Planned(configuration, configuration_reasons(frame, draft, configuration, batch, steps), parts)


def _cascade(full: Planned) -> Planned:
    """The second stage of the cascade: 3d_fullres with the low-resolution labels as further input."""
    name = "3d_cascade_fullres"
    configuration = full.configuration.model_copy(update={"name": name, "previous_stage": "3d_lowres"})
    reason = Reason(
        field=f"{name}.previous_stage",
        value="3d_lowres",
        because="As 3d_fullres, but it also sees the labels that 3d_lowres found around and inside its patch.",
    )
    return Planned(configuration, (reason,), full.parts)
