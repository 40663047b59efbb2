"""nnU-Net's plans files as ours and ours as nnU-Net's: arithmetic and names only, no network is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autoseg.errors import PlanError
from autoseg.interop.nnunet_configuration import (
    EPOCHS,
    STEPS_PER_EPOCH,
    Common,
    Orientation,
    axis_order_from_nnunet,
    configuration_from_nnunet,
    configuration_to_nnunet,
    intensities_from_nnunet,
)
from autoseg.interop.nnunet_fields import Fields
from autoseg.plain_names import PLAIN_NAMES, is_plain_name
from autoseg.planning.decision import Decision, millimetres, times
from autoseg.planning.mirroring import mirror_axes
from autoseg.planning.presets import find_preset
from autoseg.records import FLAT_SPACING_FACTOR, CaseFingerprint, Configuration, Fingerprint, Plan, Preparation, Reason

#: nnU-Net's readers, and whether they turn volumes to RAS+ first.
READERS: Mapping[str, Orientation] = {
    "SimpleITKIO": "stored",
    "SimpleITKIOWithReorient": "ras",
    "NibabelIO": "stored",
    "NibabelIOWithReorient": "ras",
    "NaturalImage2DIO": "stored",
    "Tiff3DIO": "stored",
}

#: Letters of the two directions of the world axes that oriented arrays run along, axis 0 last.
_WORLD_AXES = ("RL", "AP", "SI")

_LABEL_MANAGER = "LabelManager"


# ---------------------------------------------------------------------------------------------------- from nnU-Net


def reader_of(plans: Fields) -> str:
    """The reader that a plans file names. Raises PlanError for one that is not nnU-Net's own."""
    reader = plans.text("image_reader_writer")
    if reader not in READERS:
        raise plans.error("image_reader_writer", f"{reader!r} is not known", f"Known are: {', '.join(READERS)}.")
    return reader


def require_default_labels(plans: Fields) -> None:
    """Refuse plans whose masks are made in a way of their own."""
    manager = plans.values.get("label_manager", _LABEL_MANAGER)
    if manager != _LABEL_MANAGER:
        raise plans.error("label_manager", f"{manager!r} is not known, only {_LABEL_MANAGER}", None)


def plan_from_nnunet(
    plans: Mapping[str, Any], fingerprint: Fingerprint, name: str, *, source: str = "nnU-Net's plans file"
) -> Plan:
    """Our plan for the dataset of `fingerprint` from nnU-Net's plans, every configuration complete.

    What nnU-Net's plans do not say is as in the preset "nnunet": training length and optimizer are those of its
    trainer, and axes that tell left from right are not mirrored.
    Axes are turned to RAS+ where the file names a reader that does so, or where all cases are stored along these axes
    in this order; else they stay as stored, since the plan's spacing then speaks of the stored axes. `source` is the
    name of the file, for reasons and errors.

    Raises PlanError, naming the field, where the plans are incomplete, contradict themselves or the fingerprint, or ask
    for something that is not done here.
    """
    fields = Fields(plans, source=source)
    orientation, turned_because = _orientation(fields, fingerprint.cases, source)
    channels = len(fingerprint.channels)
    intensities = intensities_from_nnunet(fields, channels)
    require_default_labels(fields)
    common = Common(
        orientation=orientation,
        axis_order=axis_order_from_nnunet(fields),
        channels=channels,
        intensities=fingerprint.intensities if intensities is None else intensities,
        labels=fingerprint.labels,
    )
    table = fields.table("configurations")
    if not table.values:
        raise fields.error("configurations", "names none")
    for entry in table.values:
        if not is_plain_name(entry):
            raise table.error(entry, f"a configuration's name may be made of {PLAIN_NAMES}", "Rename it.")
    read = {entry: configuration_from_nnunet(table, entry, common) for entry in table.values}
    configurations = {entry: found.configuration for entry, found in read.items()}
    _require_stages(table, configurations)
    left_out = [f"{entry}: {note}" for entry, found in read.items() for note in found.notes]
    training = find_preset("nnunet").accelerator.training.model_copy(update={"epochs": EPOCHS})
    mirror = _mirroring(common, fingerprint)
    mirrored = ", ".join("ZYX"[common.axis_order[axis]] for axis in mirror.value) or "none"
    return Plan(
        name=name,
        dataset=fingerprint.dataset,
        preset="nnunet",
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        mirror_axes=mirror.value,
        configurations=configurations,
        training=training,
        device="as in nnU-Net's plans",
        reasons=(
            Reason(field="orientation", value=orientation, because=turned_because),
            *_common_reasons(common, configurations.values(), source),
            mirror.reason("mirror_axes", mirrored),
            *(reason for entry in configurations.values() for reason in _reasons(entry, source)),
            *(Reason(field="left_out", value="dropout", because=note) for note in left_out),
        ),
    )


def _require_stages(table: Fields, configurations: Mapping[str, Configuration]) -> None:
    """Refuse plans in which a stage names another that is not there."""
    for name, entry in configurations.items():
        for field in ("previous_stage", "next_stage"):
            stage = getattr(entry, field)
            if stage is not None and stage not in configurations:
                raise table.table(name).error(field, f"there is no configuration {stage!r}")


def _orientation(fields: Fields, cases: Sequence[CaseFingerprint], source: str) -> tuple[Orientation, str]:
    reader = reader_of(fields)
    if READERS[reader] == "ras":
        return "ras", f"As in {source}: its reader {reader} turns volumes to RAS+."
    odd = sorted({case.orientation for case in cases if not _along_ras(case.orientation)})
    if not odd:
        return "ras", f"The cases are stored along the axes that the plan in {source} speaks of, flips apart."
    return "stored", (
        f"As in {source}: its reader {reader} takes axes as stored, and cases are stored as {', '.join(odd)}, "
        f"so its spacing and patch speak of these axes."
    )


def _along_ras(letters: str) -> bool:
    """Whether the file's axes run along R, A and S in this order, flips apart; unknown and flat ones pass."""
    return len(letters) != 3 or all(
        letter in pair or letter not in "RLAPSI" for letter, pair in zip(letters, _WORLD_AXES, strict=True)
    )


def _mirroring(common: Common, fingerprint: Fingerprint) -> Decision[tuple[int, ...]]:
    """Axes of prepared arrays that may be mirrored whichever way the cases are stored."""
    orders = [common.axis_order]
    if common.orientation == "stored":
        stored = sorted({case.orientation for case in fingerprint.cases if set(case.orientation) <= set("RLAPSI")})
        orders = [_oriented_axes(letters, common.axis_order) for letters in stored]
    decisions = [mirror_axes(fingerprint, order) for order in orders]
    kept = tuple(axis for axis in range(3) if all(axis in decision.value for decision in decisions))
    return replace(decisions[0], value=kept)


def _oriented_axes(letters: str, axis_order: tuple[int, int, int]) -> tuple[int, int, int]:
    """Which of the axes (S, A, R) each prepared axis runs along, for files stored along these letters (i, j, k)."""
    along = [next(2 - axis for axis, pair in enumerate(_WORLD_AXES) if letter in pair) for letter in letters[::-1]]
    first, second, third = (along[axis] for axis in axis_order)
    return first, second, third


def _common_reasons(common: Common, configurations: Iterable[Configuration], source: str) -> Iterable[Reason]:
    because = f"As in {source}."
    first = next(iter(configurations)).preparation
    used = ", ".join("yes" if use else "no" for use in first.use_mask_for_normalization)
    trainer = "Plans of nnU-Net do not say; its trainer"
    training = find_preset("nnunet").accelerator.training
    yield Reason(field="axis_order", value="".join("ZYX"[axis] for axis in common.axis_order), because=because)
    yield Reason(field="normalization", value=", ".join(first.normalization), because=because)
    yield Reason(field="use_mask_for_normalization", value=used, because=because)
    yield Reason(field="training.epochs", value=str(EPOCHS), because=f"{trainer} makes so many.")
    yield Reason(field="training.optimizer", value=training.optimizer, because=f"{trainer} uses it.")


def _reasons(configuration: Configuration, source: str) -> Iterable[Reason]:
    because = f"As in {source}."
    rows = {
        "spacing": millimetres(configuration.spacing),
        "patch_size": times(configuration.patch_size),
        "batch_size": str(configuration.batch_size),
        "network": configuration.network,
        "strides": " ".join("x".join(map(str, row)) for row in configuration.strides),
        "kernel_sizes": " ".join("x".join(map(str, row)) for row in configuration.kernel_sizes),
        "features_per_stage": ", ".join(map(str, configuration.features_per_stage)),
        "blocks_per_stage": ", ".join(map(str, configuration.blocks_per_stage)),
        "batch_dice": "yes" if configuration.batch_dice else "no",
    }
    for field, value in rows.items():
        yield Reason(field=f"{configuration.name}.{field}", value=value, because=because)
    for field in ("previous_stage", "next_stage"):
        stage = getattr(configuration, field)
        if stage is not None:
            yield Reason(field=f"{configuration.name}.{field}", value=stage, because=because)
    told = "nnU-Net's trainer makes so many steps an epoch, for any dataset."
    yield Reason(field=f"{configuration.name}.steps_per_epoch", value=str(STEPS_PER_EPOCH), because=told)


# ------------------------------------------------------------------------------------------------------ to nnU-Net


def plans_name_of(plan: str) -> str:
    """How nnU-Net calls the plan of that name; double underscores separate the parts of its folder names."""
    while "__" in plan:
        plan = plan.replace("__", "_")
    return "autosegPlans" if plan == "default" else f"autosegPlans_{plan.strip('_')}"


def plans_from_configurations(
    configurations: Sequence[Configuration], *, dataset: str, plans_name: str, file_ending: str, flat: bool
) -> dict[str, Any]:
    """nnU-Net's plans with these configurations. Raises PlanError where they do not fit into one file."""
    first = configurations[0].preparation
    for entry in configurations[1:]:
        for field in ("orientation", "axis_order", "intensities"):
            if getattr(entry.preparation, field) != getattr(first, field):
                raise PlanError(
                    f"its {field} is not that of {configurations[0].name}; nnU-Net has one for all configurations",
                    where=entry.name,
                    remedy="Export them one by one.",
                )
    spacing, shape = _original_size(configurations)
    return {
        "dataset_name": dataset,
        "plans_name": plans_name,
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": shape,
        "image_reader_writer": _reader_for(first, file_ending, flat),
        "transpose_forward": list(first.axis_order),
        "transpose_backward": [int(axis) for axis in np.argsort(first.axis_order)],
        "configurations": {entry.name: configuration_to_nnunet(entry, plans_name) for entry in configurations},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": _LABEL_MANAGER,
        "foreground_intensity_properties_per_channel": {
            str(channel): statistics.model_dump() for channel, statistics in enumerate(first.intensities)
        },
    }


def _original_size(configurations: Sequence[Configuration]) -> tuple[list[float], list[int]]:
    """Spacing and shape that nnU-Net keeps for information: of the finest 3D configuration, else of slices."""
    volumes = [entry for entry in configurations if entry.dimensions == 3]
    if not volumes:
        flat = configurations[0]
        return (
            [FLAT_SPACING_FACTOR * max(flat.spacing), *flat.spacing],
            [1, *(round(size) for size in flat.median_shape)],
        )
    finest = min(volumes, key=lambda entry: float(np.prod(entry.spacing)))
    return list(finest.spacing), [round(size) for size in finest.median_shape]


def _reader_for(preparation: Preparation, file_ending: str, flat: bool) -> str:
    """nnU-Net's reader that sees files of this ending as our preparation does."""
    ending = file_ending.lower()
    if ending in (".png", ".bmp", ".jpg", ".jpeg"):
        return "NaturalImage2DIO"
    if ending in (".tif", ".tiff"):
        return "NaturalImage2DIO" if flat else "Tiff3DIO"
    if flat or preparation.orientation == "stored":
        return "SimpleITKIO"
    return "NibabelIOWithReorient" if ending in (".nii", ".nii.gz") else "SimpleITKIOWithReorient"
