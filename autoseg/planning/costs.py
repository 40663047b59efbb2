"""What a plan will cost: time, disk and memory of each configuration. Arithmetic only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoseg.arrays.resample import resampled_shape
from autoseg.planning.step import step_bytes
from autoseg.records import CaseFingerprint, Configuration, Fingerprint, Plan, Preparation, Probe, Shape, StepProbe

#: Share of an epoch's steps that the Dice over held-out patches adds: a tenth as many forward passes.
VALIDATION_SHARE = 0.05

#: Bytes on disk per byte of a prepared case. Measured: 0.65 for 260 MR volumes, 0.62 for electron microscopy, 0.11 to
#: 0.14 for 60 CT volumes, where clipping makes air and much else one value (with room for scans that show less air).
COMPRESSION, COMPRESSION_CT = 0.65, 0.2

#: Share of the free memory up to which training keeps its cases there (training.cases).
HELD_SHARE = 0.4

#: Bytes of a training process before its first step: the program and its libraries.
PROGRAM_BYTES = 600e6

#: Bytes of a preparing process whatever the case: the program and its libraries.
PREPARING_BYTES = 110e6


@dataclass(frozen=True)
class ConfigurationCost:
    """What training one configuration takes."""

    configuration: str
    seconds_per_epoch: float | None  # None where no step was tried
    hours: float | None  # of all epochs; preparing and scoring come on top
    disk_bytes: int  # of the prepared cases; configurations with one preparation share them
    peak_bytes: int | None  # of main memory: of preparing with one process, or of training if that takes more


def preview(plan: Plan, fingerprint: Fingerprint, probe: Probe | None) -> tuple[ConfigurationCost, ...]:
    """The cost of each configuration of a plan, in the plan's order.

    Args:
        plan: what is to be trained.
        fingerprint: the cases, whose sizes decide disk and memory.
        probe: the steps that were tried; without it there are no times, and memory is that of the closed form.
    """
    steps = {} if probe is None else {step.configuration: step for step in probe.steps}
    return tuple(
        _cost(plan, entry, fingerprint, probe, steps.get(entry.name)) for entry in plan.configurations.values()
    )


def _cost(
    plan: Plan, configuration: Configuration, fingerprint: Fingerprint, probe: Probe | None, step: StepProbe | None
) -> ConfigurationCost:
    epoch = None if step is None or step.seconds_per_step is None else epoch_seconds(configuration, step)
    whole = None if epoch is None else epoch * configuration.epochs / 3600
    if whole is not None and plan.training.budget_seconds is not None:
        whole = plan.training.budget_seconds / 3600
    unpacked = prepared_bytes(fingerprint, configuration.preparation)
    held = unpacked if probe is None or unpacked <= HELD_SHARE * probe.free_bytes else 0
    training = PROGRAM_BYTES + held + _step_in_main_memory(plan, configuration, probe, step)
    return ConfigurationCost(
        configuration=configuration.name,
        seconds_per_epoch=epoch,
        hours=whole,
        disk_bytes=round(compression(configuration.preparation) * unpacked),
        peak_bytes=round(max(training, preparing_bytes(fingerprint, configuration.preparation))),
    )


def epoch_seconds(configuration: Configuration, step: StepProbe) -> float | None:
    """Seconds of one epoch: its steps, and the Dice over held-out patches at its end."""
    if step.seconds_per_step is None:
        return None
    return configuration.steps_per_epoch * step.seconds_per_step * (1 + VALIDATION_SHARE)


def busy_note(probe: Probe | None) -> str:
    """That times were measured while other programs kept the machine busy; nothing where they did not."""
    busy = [] if probe is None else [step.configuration for step in probe.steps if step.busy]
    if not busy:
        return ""
    return f"Other programs kept this machine busy while {', '.join(busy)} was tried: it may take much less time."


def _step_in_main_memory(
    plan: Plan, configuration: Configuration, probe: Probe | None, step: StepProbe | None
) -> float:
    """Bytes of a step where it computes on the CPU; an accelerator has memory of its own."""
    device = plan.device if probe is None else probe.device
    if not device.startswith("cpu"):
        return 0.0
    if step is not None and step.peak_bytes is not None:
        return float(step.peak_bytes)
    half = probe is not None and probe.precision != "float32"
    return float(step_bytes(configuration, len(plan.channels), plan.labels, plan.training, half_precision=half))


# -------------------------------------------------------------------------------------------------- prepared cases


def prepared_bytes(fingerprint: Fingerprint, preparation: Preparation) -> int:
    """Bytes of all prepared cases as arrays: float32 channels and int16 labels."""
    voxels = sum(math.prod(prepared_shape(case, preparation)) for case in fingerprint.cases)
    return voxels * (4 * len(preparation.normalization) + 2)


def compression(preparation: Preparation) -> float:
    """Bytes on disk per byte of a prepared case, the mean over its channels."""
    schemes = preparation.normalization
    clipped = sum(scheme == "CTNormalization" for scheme in schemes)
    return (clipped * COMPRESSION_CT + (len(schemes) - clipped) * COMPRESSION) / len(schemes)


def prepared_shape(case: CaseFingerprint, preparation: Preparation) -> Shape:
    """Voxels per axis (Z, Y, X) of the case once prepared."""
    spacing = [case.spacing[axis] for axis in preparation.axis_order]
    shape = [case.shape_after_crop[axis] for axis in preparation.axis_order]
    wanted = [old if new is None else new for old, new in zip(spacing, preparation.spacing, strict=True)]
    return resampled_shape(shape, spacing, wanted)


def preparing_bytes(fingerprint: Fingerprint, preparation: Preparation) -> int:
    """Memory of one process that prepares the dataset's most demanding case."""
    return round(PREPARING_BYTES + max(_case_bytes(case, preparation) for case in fingerprint.cases))


def _case_bytes(case: CaseFingerprint, preparation: Preparation) -> float:
    """Bytes for one case: what is held throughout, and the larger of normalizing and resampling (as measured)."""
    channels = len(preparation.normalization)
    stored, cropped = math.prod(case.shape), math.prod(case.shape_after_crop)
    prepared = math.prod(prepared_shape(case, preparation))
    held = stored * (4 * channels + 6)
    normalizing = cropped * (4 * channels + 12)
    resampling = cropped * (4 * channels + 3) + prepared * (4 * channels + 6)
    return float(held + max(normalizing, resampling))
