"""Which configurations the data call for, and each of them complete."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autoseg.errors import PlanError
from autoseg.planning.decision import Decision, given
from autoseg.planning.divisibility import require_divisible
from autoseg.planning.exposure import exposures
from autoseg.planning.frame import Frame
from autoseg.planning.patch import Fitted, batch_size
from autoseg.planning.preparation import slice_preparation
from autoseg.planning.reasons import Draft, cascade_reasons, configuration_reasons
from autoseg.planning.schedule import epochs, steps_per_epoch
from autoseg.planning.spacing import coarsen, lowres_shape
from autoseg.records import Configuration, Preparation, Reason, Spacing

_SAMPLE_DICE = "A patch sees enough of the image for a Dice per sample."
_BATCH_DICE_INSTEAD = "One Dice over the batch is for patches in which labels are often missing."


@dataclass(frozen=True)
class Planned:
    """A configuration with its reasons."""

    configuration: Configuration
    reasons: tuple[Reason, ...]


def plan_configurations(frame: Frame) -> list[Planned]:
    """All configurations that the data call for, in the order in which people read them."""
    has_volumes = frame.median_shape[0] != 1
    full_preparation = frame.preparation(frame.spacing)
    refused = frame.family.refusal(2, frame.median_shape[1:])
    flat = [] if refused else [_planned(frame, _draft_2d(frame, full_preparation, has_volumes))]
    if not has_volumes:
        if frame.overrides.patch_size_3d is not None:
            raise PlanError("a patch of three numbers was given, but the images are single slices")
        return _without_volumes(flat, "The images are single slices.", "There is no third axis.", refused)
    solid_refused = frame.family.refusal(3, frame.median_shape)
    if solid_refused:
        return _without_volumes(flat, solid_refused, "Other networks take these volumes: --network.", refused)
    volumes = _plan_volumes(frame, full_preparation)
    if not flat:
        absent = Reason(field="2d", value="not planned", because=refused, instead="Other networks have one: --network.")
        volumes[0] = Planned(volumes[0].configuration, (absent, *volumes[0].reasons))
    return [*flat, *volumes]


def _without_volumes(flat: list[Planned], because: str, instead: str, refused: str) -> list[Planned]:
    """The 2D configuration alone, with the reason. Raises PlanError where that was refused as well."""
    if not flat:
        raise PlanError(f"{because} {refused}".strip(), where="network", remedy="Choose another --network.")
    absent = Reason(field="3d_fullres", value="not planned", because=because, instead=instead)
    return [Planned(flat[0].configuration, (*flat[0].reasons, absent))]


def _plan_volumes(frame: Frame, full_preparation: Preparation) -> list[Planned]:
    """The 3D configurations."""
    fitter = frame.fitter(3)
    full = fitter.fit(frame.spacing, frame.median_shape)
    low = coarsen(frame.spacing, frame.median_shape, full, fitter.fit, lambda fitted: fitted.patch_voxels)
    whole = _planned(frame, _draft_fullres(frame, full_preparation, full, has_lowres=low.value is not None))
    if low.value is None:
        return [Planned(whole.configuration, (*whole.reasons, low.reason("3d_lowres", "not planned")))]
    if not frame.variant.lowres:
        absent = Reason(
            field="3d_lowres",
            value="not planned",
            because=f"Preset {frame.preset.name!r} plans no cascade for a {frame.device.kind.upper()}: its two stages, "
            "the first trained on every fold, would share the few steps that there is time for.",
            instead="Presets named after nnU-Net plan a low-resolution stage and the cascade for every device, auto "
            f"for GPUs. {low.because}",
        )
        return [Planned(whole.configuration, (*whole.reasons, absent))]
    lowres = _planned(frame, _draft_lowres(frame, low.value, low))
    return [lowres, whole, _cascade(whole)]


def _draft_2d(frame: Frame, volume: Preparation, has_volumes: bool) -> Draft:
    spacing, shape = frame.spacing[1:], frame.median_shape[1:]
    fitter = frame.fitter(2)
    return Draft(
        name="2d",
        dimensions=2,
        preparation=slice_preparation(frame.fingerprint, volume, has_volumes),
        spacing=Decision(
            spacing,
            "The in-plane part of the plan's spacing.",
            "Slices of each case's own pixel size would show the same organ in many sizes.",
        ),
        median_shape=shape,
        fitted=fitter.fit(spacing, shape),
        dataset_voxels=math.prod(frame.median_shape) * frame.fingerprint.cases_declared,
        batch_dice=Decision(
            True,
            "Slices often lack a label: a Dice over the whole batch is steadier than one a slice.",
            "A Dice per slice jumps between 0 and 1 where a label is absent.",
        ),
    )


def _draft_fullres(frame: Frame, preparation: Preparation, fitted: Fitted, has_lowres: bool) -> Draft:
    because = (
        "A patch sees so little of the image that labels are often missing in it (less than a quarter of the image)."
        if has_lowres
        else _SAMPLE_DICE
    )
    instead = "A Dice per sample is for patches that see enough of the image." if has_lowres else _BATCH_DICE_INSTEAD
    return Draft(
        name="3d_fullres",
        dimensions=3,
        preparation=Decision(
            preparation,
            "All axes are resampled to the plan's spacing.",
            "Without resampling, sizes in voxels would mean other sizes in each case.",
        ),
        spacing=Decision(
            frame.spacing,
            "The plan's spacing, in prepared axis order.",
            "A coarser one is for 3d_lowres, where patches see too little.",
        ),
        median_shape=frame.median_shape,
        fitted=fitted,
        dataset_voxels=math.prod(frame.median_shape) * frame.fingerprint.cases_declared,
        batch_dice=Decision(has_lowres, because, instead),
    )


def _draft_lowres(
    frame: Frame, chosen: tuple[Spacing, Fitted], decision: Decision[tuple[Spacing, Fitted] | None]
) -> Draft:
    spacing, fitted = chosen
    # what enters the batch cap is the size before rounding to voxels
    scaled = np.asarray(frame.spacing) / np.asarray(spacing) * np.asarray(frame.median_shape)
    return Draft(
        name="3d_lowres",
        dimensions=3,
        preparation=Decision(
            frame.preparation(spacing),
            "All axes are resampled to the low resolution.",
            "Full resolution is for 3d_fullres and the second stage of the cascade.",
        ),
        spacing=Decision(spacing, decision.because, decision.instead),
        median_shape=lowres_shape(frame.spacing, spacing, frame.median_shape),
        fitted=fitted,
        dataset_voxels=float(np.prod(scaled)) * frame.fingerprint.cases_declared,
        batch_dice=Decision(False, _SAMPLE_DICE, _BATCH_DICE_INSTEAD),
        next_stage="3d_cascade_fullres",
    )


def _planned(frame: Frame, draft: Draft) -> Planned:
    """The complete configuration of a draft."""
    variant, fitted = frame.variant, draft.fitted
    fitter = frame.fitter(draft.dimensions)
    if fitter.given is not None:
        require_divisible(draft.name, draft.spacing.value, fitter.given, fitted.topology, frame.family.topology)
    stages = fitted.topology.stages
    batch = _batch(frame, draft)
    parts = max(draft.dataset_voxels / fitted.patch_voxels, 1.0)
    steps = steps_per_epoch(variant.length, parts, batch.value)
    length = _epochs(frame, draft, batch.value, steps.value)
    configuration = Configuration(
        name=draft.name,
        dimensions=draft.dimensions,
        preparation=draft.preparation.value,
        spacing=draft.spacing.value,
        median_shape=draft.median_shape,
        patch_size=fitted.patch_size,
        batch_size=batch.value,
        network=frame.family.network,
        strides=fitted.topology.strides,
        kernel_sizes=fitted.topology.kernel_sizes,
        features_per_stage=frame.family.features(fitter.limits.max_features, stages),
        blocks_per_stage=frame.family.architecture.blocks_per_stage(stages),
        blocks_per_stage_decoder=(frame.family.architecture.decoder_blocks,) * (stages - 1),
        batch_dice=draft.batch_dice.value,
        steps_per_epoch=steps.value,
        epochs=length.value,
        previous_stage=draft.previous_stage,
        next_stage=draft.next_stage,
    )
    return Planned(configuration, configuration_reasons(frame, draft, configuration, batch, steps, length))


def _batch(frame: Frame, draft: Draft) -> Decision[int]:
    ruled = batch_size(frame.fitter(draft.dimensions), draft.fitted, draft.dataset_voxels)
    chosen = frame.overrides.batch_size
    if chosen is None:
        return ruled
    return Decision(chosen, *given("batch_size", str(chosen), ruled, str(ruled.value)))


def _epochs(frame: Frame, draft: Draft, batch: int, steps: int) -> Decision[int]:
    spacing = frame.spacing if draft.dimensions == 2 else draft.spacing.value
    patch = (1, *draft.fitted.patch_size)[-3:]
    seen = exposures(
        frame.boxes,
        [size * length for size, length in zip(patch, spacing, strict=True)],
        frame.image_mm,
        frame.fingerprint.cases_declared,
        frame.training.foreground_share,
    )
    ruled = epochs(frame.variant.length, seen, batch, steps)
    if "epochs" not in frame.overrides.training:
        return ruled
    chosen = frame.training.epochs
    return Decision(chosen, *given("epochs", str(chosen), ruled, str(ruled.value)))


def _cascade(full: Planned) -> Planned:
    """The second stage of the cascade: 3d_fullres with the low-resolution labels as further input."""
    update = {"name": "3d_cascade_fullres", "previous_stage": "3d_lowres"}
    configuration = full.configuration.model_copy(update=update)
    return Planned(configuration, cascade_reasons(configuration, full.reasons))
