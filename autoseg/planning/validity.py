"""Whether a plan can be followed at all: what a person may have edited, checked field by field."""

from __future__ import annotations

import math
from collections.abc import Iterator

from autoseg.arrays.normalize import NORMALIZATIONS
from autoseg.errors import PlanError
from autoseg.plain_names import PLAIN_NAMES, is_plain_name
from autoseg.planning.decision import times
from autoseg.planning.divisibility import divisors
from autoseg.planning.presets import OPTIMIZER_DEFAULTS
from autoseg.records import Configuration, Plan, Preparation

#: Field and what is wrong with it.
Fault = tuple[str, str]


def require_possible(plan: Plan, where: object) -> None:
    """Raise PlanError, naming field and fault, for a plan that contradicts itself; `where` is its file."""
    faults = list(_faults(plan))
    if faults:
        told = "; ".join(f"field {field}: {fault}" for field, fault in faults[:5])
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise PlanError(f"{told}{more}", where=where, remedy="Correct the field, or plan anew under another --name.")


def _faults(plan: Plan) -> Iterator[Fault]:
    if not is_plain_name(plan.name):
        yield "name", f"{plan.name!r} can be no plan's name: it may be made of {PLAIN_NAMES}"
    if not plan.channels:
        yield "channels", "there are none"
    if not plan.configurations:
        yield "configurations", "there are none"
    if len(set(plan.mirror_axes)) < len(plan.mirror_axes) or not set(plan.mirror_axes) <= {0, 1, 2}:
        yield "mirror_axes", f"{list(plan.mirror_axes)} are not different axes of 0, 1 and 2"
    if plan.training.optimizer not in OPTIMIZER_DEFAULTS:
        known = ", ".join(OPTIMIZER_DEFAULTS)
        yield "training.optimizer", f"{plan.training.optimizer!r} is unknown (known: {known})"
    for key, configuration in plan.configurations.items():
        place = f"configurations.{key}"
        if not is_plain_name(key):
            yield place, f"{key!r} can be no configuration's name: it may be made of {PLAIN_NAMES}"
        if configuration.name != key:
            yield f"{place}.name", f"it is {configuration.name!r}, its key {key!r}"
        for field, fault in _configuration_faults(plan, configuration):
            yield f"{place}.{field}", fault


def _configuration_faults(plan: Plan, configuration: Configuration) -> Iterator[Fault]:
    yield from _stage_faults(configuration)
    yield from _patch_faults(configuration)
    for field in ("batch_size", "steps_per_epoch", "epochs"):
        if getattr(configuration, field) < 1:
            yield field, f"{getattr(configuration, field)} is less than 1"
    for field in ("previous_stage", "next_stage"):
        other = getattr(configuration, field)
        if other is not None and (other not in plan.configurations or other == configuration.name):
            yield field, f"there is no other configuration {other!r} in this plan"
    for field, fault in _preparation_faults(plan, configuration.preparation):
        yield f"preparation.{field}", fault
    prepared = configuration.preparation.spacing[-configuration.dimensions :]
    if len(configuration.spacing) == configuration.dimensions and not all(
        own is not None and math.isclose(own, told, rel_tol=1e-9)
        for own, told in zip(prepared, configuration.spacing, strict=True)
    ):
        yield "spacing", f"{list(configuration.spacing)} differs from preparation.spacing {list(prepared)}"


def _stage_faults(configuration: Configuration) -> Iterator[Fault]:
    """Faults of the lists that have an entry per stage."""
    stages, dimensions = len(configuration.strides), configuration.dimensions
    if stages < 2:
        yield "strides", f"{stages} stages: a network has at least two"
    for field, expected in (
        ("kernel_sizes", stages),
        ("features_per_stage", stages),
        ("blocks_per_stage", stages),
        ("blocks_per_stage_decoder", stages - 1),
    ):
        found = len(getattr(configuration, field))
        if found != expected:
            yield field, f"it has {found} entries, but strides speak of {stages} stages: {expected} are needed"
    for field in ("strides", "kernel_sizes"):
        for stage, entry in enumerate(getattr(configuration, field)):
            if len(entry) != dimensions or min(entry) < 1:
                yield f"{field}.{stage}", f"{list(entry)} is not {dimensions} numbers above 0"
    for stage, kernel in enumerate(configuration.kernel_sizes):
        if any(size % 2 == 0 for size in kernel):
            yield f"kernel_sizes.{stage}", f"{list(kernel)} has an even number: kernels need a middle"
    for field in ("features_per_stage", "blocks_per_stage", "blocks_per_stage_decoder"):
        if any(count < 1 for count in getattr(configuration, field)):
            yield field, f"{list(getattr(configuration, field))} has a number below 1"


def _patch_faults(configuration: Configuration) -> Iterator[Fault]:
    dimensions, patch = configuration.dimensions, configuration.patch_size
    for field in ("patch_size", "spacing", "median_shape"):
        sizes = getattr(configuration, field)
        if len(sizes) != dimensions or not all(0 < size < math.inf for size in sizes):
            yield field, f"{list(sizes)} is not {dimensions} numbers above 0"
    if not configuration.strides or any(len(entry) != len(patch) for entry in configuration.strides):
        return
    divisor = divisors(configuration.strides)
    if any(size % cell for size, cell in zip(patch, divisor, strict=True) if cell > 0):
        yield (
            "patch_size",
            f"{times(patch)} is not divisible by the product of the strides of each axis, {times(divisor)}",
        )


def _preparation_faults(plan: Plan, preparation: Preparation) -> Iterator[Fault]:
    if sorted(preparation.axis_order) != [0, 1, 2]:
        yield "axis_order", f"{list(preparation.axis_order)} is no order of the axes 0, 1 and 2"
    if not all(size is None or 0 < size < math.inf for size in preparation.spacing):
        yield "spacing", f"{list(preparation.spacing)} has a size that is not above 0"
    for field in ("normalization", "use_mask_for_normalization", "intensities"):
        found = len(getattr(preparation, field))
        if found != len(plan.channels):
            yield field, f"it has {found} entries for {len(plan.channels)} channels ({', '.join(plan.channels)})"
    for scheme in preparation.normalization:
        if scheme not in NORMALIZATIONS:
            yield "normalization", f"{scheme!r} is unknown (known: {', '.join(NORMALIZATIONS)})"
    if preparation.labels != plan.labels:
        yield "labels", "they differ from the plan's labels, which decide the outputs of the network"
