"""Why a configuration is what it is, in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autoseg.planning.decision import Decision, millimetres, millions, times
from autoseg.planning.frame import Frame
from autoseg.planning.patch import Fitted
from autoseg.records import Configuration, Preparation, Reason


@dataclass(frozen=True)
class Draft:
    """What tells one configuration from another before its patch and batch are turned into a record."""

    name: str
    dimensions: Literal[2, 3]
    preparation: Decision[Preparation]
    spacing: tuple[float, ...]
    spacing_because: str
    median_shape: tuple[float, ...]
    fitted: Fitted
    dataset_voxels: float
    batch_dice: Decision[bool]
    previous_stage: str | None = None
    next_stage: str | None = None


def configuration_reasons(
    frame: Frame, draft: Draft, configuration: Configuration, batch: Decision[int], steps: Decision[int]
) -> tuple[Reason, ...]:
    """A reason for every derived field of a configuration."""
    entries = {
        "preparation": (_prepared_spacing(configuration.preparation), draft.preparation.because),
        "spacing": (millimetres(configuration.spacing), draft.spacing_because),
        "patch_size": (times(configuration.patch_size), _patch(frame, draft)),
        "batch_size": (str(batch.value), batch.because),
        **_network(frame, draft, configuration),
        "batch_dice": ("yes" if configuration.batch_dice else "no", draft.batch_dice.because),
        "steps_per_epoch": (str(steps.value), steps.because),
    }
    return tuple(
        Reason(field=f"{draft.name}.{field}", value=value, because=because)
        for field, (value, because) in entries.items()
    )


def _patch(frame: Frame, draft: Draft) -> str:
    fitted, fitter = draft.fitted, frame.fitter(draft.dimensions)
    power = "²" if draft.dimensions == 2 else "³"
    begin = (
        f"Begins as the box of equal physical edges with {fitter.limits.edge}{power} voxels, no longer than the median "
        f"image ({times(draft.median_shape)}), padded to multiples of {times(fitted.first.divisor)}: "
        f"{times(fitted.first.patch_size)}, {millions(fitted.first_elements)} elements of feature maps a sample. "
    )
    budget = (
        f"a sample may hold {millions(fitter.largest_sample)} ({frame.work(draft.dimensions).because}; "
        f"{fitter.limits.fitted_samples} samples must fit)"
    )
    if fitter.limits.largest_coverage is not None:
        budget += (
            f", and its voxels should be at most {fitter.limits.largest_coverage:.0%} of the median image's, since "
            "smaller patches give more steps in the same time"
        )
    if fitted.cuts == 0:
        return f"{begin}It fits: {budget}."
    count = "once" if fitted.cuts == 1 else f"{fitted.cuts} times"
    return (
        f"{begin}Too large: {budget}. Cut {count}, each time along the axis that covers most of the image, down to "
        f"{millions(fitted.elements)}."
    )


def _network(frame: Frame, draft: Draft, configuration: Configuration) -> dict[str, tuple[str, str]]:
    architecture, topology = frame.variant.architecture, draft.fitted.topology
    largest = frame.variant.limits(draft.dimensions).max_features
    bottom = [size // cell for size, cell in zip(topology.patch_size, topology.divisor, strict=True)]
    preset = frame.preset
    kind = "a CPU" if frame.variant is preset.cpu else "an accelerator"
    source = f"preset {preset.name!r}" + ("" if preset.cpu == preset.accelerator else f" on {kind}")
    waiting = any(1 in kernel for kernel in topology.kernel_sizes)
    return {
        "strides": (
            " ".join("x".join(map(str, stride)) for stride in configuration.strides),
            f"Each stage halves the axes that keep at least 4 voxels and are less than twice as coarse as the finest "
            f"of them: {topology.stages} stages, {times(bottom)} voxels at the bottom.",
        ),
        "kernel_sizes": (
            " ".join("x".join(map(str, kernel)) for kernel in configuration.kernel_sizes),
            "1 along an axis at least twice as coarse as the finest until halving has made them alike, else 3."
            if waiting
            else "3 everywhere: no axis is twice as coarse as another (it would get 1).",
        ),
        "features_per_stage": (
            ", ".join(map(str, configuration.features_per_stage)),
            f"{architecture.base_features}, doubled with each halving up to {largest}: constants of {source}.",
        ),
        "blocks_per_stage": (
            ", ".join(map(str, configuration.blocks_per_stage)),
            f"Constants of network {architecture.network!r} in {source}.",
        ),
    }


def _prepared_spacing(preparation: Preparation) -> str:
    """ "own × 0.8 × 0.8 mm"."""
    return " × ".join("own" if size is None else f"{size:.4g}" for size in preparation.spacing) + " mm"
