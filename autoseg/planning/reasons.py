"""Why a configuration is what it is, in sentences: the rule and its numbers, and the alternative that was beaten."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from autoseg.planning.decision import Decision, given, millimetres, millions, times
from autoseg.planning.divisibility import divisors
from autoseg.planning.frame import Frame
from autoseg.planning.memory import features_per_stage
from autoseg.planning.patch import Fitted
from autoseg.planning.topology import SIMILAR_SPACING, SMALLEST_EDGE
from autoseg.records import Configuration, Preparation, Reason


@dataclass(frozen=True)
class Draft:
    """What tells one configuration from another before its patch and batch are turned into a record."""

    name: str
    dimensions: Literal[2, 3]
    preparation: Decision[Preparation]
    spacing: Decision[tuple[float, ...]]
    median_shape: tuple[float, ...]
    fitted: Fitted
    dataset_voxels: float
    batch_dice: Decision[bool]
    previous_stage: str | None = None
    next_stage: str | None = None


#: Value in words, because, instead.
Told = tuple[str, str, str]


def configuration_reasons(
    frame: Frame,
    draft: Draft,
    configuration: Configuration,
    batch: Decision[int],
    steps: Decision[int],
    epochs: Decision[int],
) -> tuple[Reason, ...]:
    """A reason for every derived field of a configuration."""
    preparation, spacing, dice = draft.preparation, draft.spacing, draft.batch_dice
    entries: dict[str, Told] = {
        "preparation": (_prepared_spacing(preparation.value), preparation.because, preparation.instead),
        "spacing": (millimetres(spacing.value), spacing.because, spacing.instead),
        "median_shape": _median_shape(configuration),
        "patch_size": _patch(frame, draft),
        "batch_size": (str(batch.value), batch.because, batch.instead),
        **_network(frame, draft, configuration),
        "batch_dice": ("yes" if dice.value else "no", dice.because, dice.instead),
        "steps_per_epoch": (str(steps.value), steps.because, steps.instead),
        "epochs": (str(epochs.value), epochs.because, epochs.instead),
    }
    if configuration.next_stage is not None:
        entries["next_stage"] = (
            configuration.next_stage,
            "Its labels go to a second stage at full resolution.",
            "Alone, it would give masks as coarse as its voxels.",
        )
    return tuple(
        Reason(field=f"{draft.name}.{field}", value=value, because=because, instead=instead)
        for field, (value, because, instead) in entries.items()
    )


def cascade_reasons(cascade: Configuration, full: Sequence[Reason]) -> tuple[Reason, ...]:
    """The reasons of the second stage: those of 3d_fullres, and why there is one."""
    own = Reason(
        field=f"{cascade.name}.previous_stage",
        value=str(cascade.previous_stage),
        because="As 3d_fullres, but it also sees the labels that 3d_lowres found around and inside its patch.",
        instead="3d_fullres alone sees less than a quarter of the image at once.",
    )
    alike = [
        reason.model_copy(update={"field": reason.field.replace("3d_fullres", cascade.name, 1)}) for reason in full
    ]
    return own, *alike


def _median_shape(configuration: Configuration) -> Told:
    return (
        times(configuration.median_shape),
        "Median over the cases of the cropped shape, resampled.",
        "The largest case would make room that most cases do not fill.",
    )


# ------------------------------------------------------------------------------------------------ patch and network


def _patch(frame: Frame, draft: Draft) -> Told:
    fitter = frame.fitter(draft.dimensions)
    chosen = times(draft.fitted.patch_size)
    if fitter.given is None:
        return (chosen, *_ruled_patch(frame, draft))
    ruled = replace(fitter, given=None).fit(draft.spacing.value, draft.median_shape)
    because, instead = _ruled_patch(frame, replace(draft, fitted=ruled))
    decision = Decision(ruled.patch_size, f"{because} {instead}")
    option = ",".join(map(str, draft.fitted.patch_size))
    return (chosen, *given("patch_size", option, decision, times(ruled.patch_size)))


def _ruled_patch(frame: Frame, draft: Draft) -> tuple[str, str]:
    """Because and instead of a patch that the rule gave."""
    fitted, fitter = draft.fitted, replace(frame.fitter(draft.dimensions), given=None)
    budget = f"{millions(fitter.largest_sample)} fit ({frame.work(draft.dimensions).because})"
    shape = times(draft.median_shape)
    power = "²" if draft.dimensions == 2 else "³"
    limited = any(size < length for size, length in zip(fitted.start, draft.median_shape, strict=True))
    begin = (
        f"the box of equal edges in mm with {fitter.limits.edge}{power} voxels, within the median image ({shape})"
        if limited
        else f"the median image ({shape}), padded to multiples of {times(fitted.first.divisor)}"
    )
    if fitted.larger is None:
        instead = (
            f"No larger patch begins than {fitter.limits.edge}{power} voxels."
            if limited
            else "A larger patch would see only more padding around the image."
        )
        return f"It is {begin}: {millions(fitted.elements)} feature-map elements a sample, {budget}.", instead
    larger, elements = fitted.larger
    count = "once" if fitted.cuts == 1 else f"{fitted.cuts} times"
    because = (
        f"From {begin}, cut {count} along the axis that covers most of the image, to {millions(fitted.elements)} "
        f"feature-map elements a sample; {budget}."
    )
    if not fitter.fits(fitted.elements):
        because += " It is the smallest that the network takes: there is memory for it, but a step takes longer."
    if not fitter.fits(elements):
        return because, f"{times(larger.patch_size)}, the next larger, needs {millions(elements)}."
    share = fitter.limits.largest_coverage or 1.0
    return because, (
        f"{times(larger.patch_size)}, the next larger, has more than {share:.0%} of the median image's voxels: smaller "
        "patches give more steps in the same time."
    )


def _network(frame: Frame, draft: Draft, configuration: Configuration) -> Mapping[str, Told]:
    architecture, topology = frame.family.architecture, draft.fitted.topology
    largest = frame.variant.limits(draft.dimensions).max_features
    bottom = [size // cell for size, cell in zip(topology.patch_size, divisors(topology.strides), strict=True)]
    preset = frame.preset
    kind = "a CPU" if frame.variant is preset.cpu else "an accelerator"
    source = f"preset {preset.name!r}" + ("" if preset.cpu == preset.accelerator else f" on {kind}")
    unbounded = architecture.base_features * 2 ** (topology.stages - 1)
    doubled = configuration.features_per_stage == features_per_stage(
        architecture.base_features, largest, topology.stages
    )
    measured = "lighter networks learned more in the same time on CPUs, heavier ones gain a little on large images"
    return {
        "network": (
            configuration.network,
            f"Constant of {source}."
            if frame.overrides.network is None
            else f"Given by --network {configuration.network}.{_sized(frame, configuration)}",
            f"Of the two families, {measured}."
            if frame.overrides.network is None
            else f"{source[0].upper()}{source[1:]} has {frame.variant.architecture.network!r}.",
        ),
        "strides": (
            " ".join("x".join(map(str, stride)) for stride in configuration.strides),
            *_strides(frame, configuration, bottom),
        ),
        "kernel_sizes": (
            " ".join("x".join(map(str, kernel)) for kernel in configuration.kernel_sizes),
            *_kernels(frame, configuration),
        ),
        "features_per_stage": (
            ", ".join(map(str, configuration.features_per_stage)),
            f"{architecture.base_features}, doubled with each halving up to {largest}: constants of {source}."
            if doubled
            else f"The network's own widths, in proportion to the {architecture.base_features} with which {source} "
            "begins.",
            f"The U-Nets double up to {largest}."
            if not doubled
            else f"Without that bound the last stage would have {unbounded}, and hold nearly all weights."
            if unbounded > largest
            else f"The bound is not reached: the last stage has {unbounded}.",
        ),
        "blocks_per_stage": (
            ", ".join(map(str, configuration.blocks_per_stage)),
            f"Constants of network {architecture.network!r} in {source}.",
            f"Other presets have other numbers; {measured}.",
        ),
        "blocks_per_stage_decoder": (
            ", ".join(map(str, configuration.blocks_per_stage_decoder)) or "none",
            f"Constant of {source}, for each level on the way up.",
            f"Other presets have another number; {measured}.",
        ),
    }


def _strides(frame: Frame, configuration: Configuration, bottom: Sequence[int]) -> tuple[str, str]:
    """Because and instead of the strides."""
    entry, stages = frame.family.entry, len(configuration.strides)
    if entry is None or entry.uneven_strides:
        bounded = entry is not None and entry.most_stages is not None and stages == entry.most_stages
        return (
            f"Each stage halves the axes that keep at least {SMALLEST_EDGE} voxels and are less than twice as coarse "
            f"as the finest of them: {stages} stages.",
            f"{configuration.network} has at most {entry.most_stages} stages."
            if bounded and entry is not None
            else f"One stage more would halve {times(bottom)} voxels: an axis keeps at least {SMALLEST_EDGE}, and a "
            "single short axis is not halved alone.",
        )
    divisor = math.prod(stride[0] for stride in configuration.strides)
    uneven = max(configuration.spacing) >= SIMILAR_SPACING * min(configuration.spacing)
    return (
        f"{configuration.network} halves all axes alike: {stages} stages, so every axis of a patch is a multiple of "
        f"{divisor}.",
        f"The U-Nets would let an axis of {max(configuration.spacing):.3g} mm wait for those of "
        f"{min(configuration.spacing):.3g} mm; {configuration.network} cannot, and pads it to multiples of {divisor}."
        if uneven
        else "Strides that differ per axis are for spacings that differ by a factor of two.",
    )


def _kernels(frame: Frame, configuration: Configuration) -> tuple[str, str]:
    """Because and instead of the kernels."""
    entry, uneven = frame.family.entry, "1 is for an axis at least twice as coarse as the finest"
    if any(1 in kernel for kernel in configuration.kernel_sizes):
        return (
            "1 along an axis at least twice as coarse as the finest until halving has made them alike, else 3.",
            "3 there would mix voxels that lie far apart in mm.",
        )
    if entry is not None and not entry.uneven_kernels:
        return f"3 everywhere: {configuration.network} has no others.", f"{uneven}, in networks that have it."
    return "3 everywhere: no axis is twice as coarse as another.", f"{uneven}."


def _sized(frame: Frame, configuration: Configuration) -> str:
    """What else of the network follows from the patch, as a sentence."""
    entry = frame.family.entry
    if entry is None:
        return ""
    words = entry.sized(configuration.network_spec(len(frame.fingerprint.channels), 2))
    about = f" {entry.about}." if entry.about else ""
    return f"{about} {words}".rstrip()


def _prepared_spacing(preparation: Preparation) -> str:
    """ "own × 0.8 × 0.8 mm"."""
    return " × ".join("own" if size is None else f"{size:.4g}" for size in preparation.spacing) + " mm"
