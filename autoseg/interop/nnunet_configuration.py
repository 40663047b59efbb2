"""One configuration of nnU-Net's plans, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from autoseg.arrays.normalize import NORMALIZATIONS
from autoseg.interop.nnunet_architecture import architecture_from_nnunet, architecture_to_nnunet
from autoseg.interop.nnunet_fields import Fields, is_number
from autoseg.records import Configuration, IntensityStatistics, Labels, Preparation

#: What nnU-Net's trainer does with every configuration.
STEPS_PER_EPOCH = 250
EPOCHS = 1000

#: The one preprocessor and resampling function whose results are known here.
_PREPROCESSOR = "DefaultPreprocessor"
_RESAMPLING = "resample_data_or_seg_to_shape"

Orientation = Literal["ras", "stored"]


@dataclass(frozen=True)
class Common:
    """What all configurations of a plans file share."""

    orientation: Orientation
    axis_order: tuple[int, int, int]
    channels: int
    intensities: tuple[IntensityStatistics, ...]
    labels: Labels


@dataclass(frozen=True)
class ReadConfiguration:
    """A configuration, and what of nnU-Net's network has no place in it."""

    configuration: Configuration
    biases: bool  # whether nnU-Net's convolutions have biases
    dropout: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        told = "its dropout is left out: when predicting it does nothing"
        return (told,) if self.dropout else ()


# ---------------------------------------------------------------------------------------------------- from nnU-Net


def resolved(configurations: Fields, name: str, visited: tuple[str, ...] = ()) -> Fields:
    """A configuration with all that it inherits from others. Raises PlanError for unknown parents and circles."""
    if name in visited:
        raise configurations.error(
            f"{visited[0]}.inherits_from", f"goes in a circle: {' -> '.join((*visited, name))}", "Break the circle."
        )
    own = configurations.table(name)
    if not own.has("inherits_from"):
        return own
    parent = own.text("inherits_from")
    if parent not in configurations.values:
        raise own.error("inherits_from", f"there is no configuration {parent!r}")
    inherited = resolved(configurations, parent, (*visited, name))
    return Fields({**inherited.values, **own.values}, own.place, own.source)


def configuration_from_nnunet(configurations: Fields, name: str, common: Common) -> ReadConfiguration:
    """A configuration of nnU-Net's plans, complete.

    Raises PlanError, naming the field, for what is missing, contradictory, or not done here.
    """
    fields = resolved(configurations, name)
    dimensions = _dimensions(fields)
    _require_known(fields)
    architecture = architecture_from_nnunet(fields, dimensions)
    spacing = fields.sizes("spacing", dimensions)
    configuration = Configuration(
        name=name,
        dimensions=dimensions,
        preparation=_preparation(fields, spacing, common),
        spacing=spacing,
        median_shape=fields.sizes("median_image_size_in_voxels", dimensions),
        patch_size=_patch_size(fields, dimensions, architecture.strides),
        batch_size=fields.whole("batch_size"),
        network=architecture.network,
        strides=architecture.strides,
        kernel_sizes=architecture.kernel_sizes,
        features_per_stage=architecture.features_per_stage,
        blocks_per_stage=architecture.blocks_per_stage,
        blocks_per_stage_decoder=architecture.blocks_per_stage_decoder,
        batch_dice=fields.flag("batch_dice"),
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=EPOCHS,
        previous_stage=_stage(fields, "previous_stage"),
        next_stage=_stage(fields, "next_stage"),
    )
    return ReadConfiguration(configuration, architecture.biases, architecture.dropout)


def _dimensions(fields: Fields) -> Literal[2, 3]:
    patch = fields.get("patch_size")
    if not isinstance(patch, list | tuple) or len(patch) not in (2, 3):
        raise fields.error("patch_size", f"{patch!r} is not a list of 2 or 3 numbers")
    return 2 if len(patch) == 2 else 3


def _patch_size(fields: Fields, dimensions: int, strides: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    patch = fields.wholes("patch_size", dimensions)
    for axis, size in enumerate(patch):
        divisor = 1
        for row in strides:
            divisor *= row[axis]
        if size % divisor:
            raise fields.error(
                "patch_size",
                f"{size} along axis {axis} is not divisible by {divisor}, the product of the strides there",
                f"Use {max(divisor, round(size / divisor) * divisor)}, or change the strides.",
            )
    return patch


def _stage(fields: Fields, name: str) -> str | None:
    """previous_stage or next_stage; of several next stages the first."""
    found = fields.values.get(name)
    first = found[0] if isinstance(found, list) and found else found
    if first is not None and not isinstance(first, str):
        raise fields.error(name, f"{found!r} is not the name of a configuration")
    return first or None


def _preparation(fields: Fields, spacing: tuple[float, ...], common: Common) -> Preparation:
    normalization = fields.words("normalization_schemes", common.channels)
    for scheme in normalization:
        if scheme not in NORMALIZATIONS:
            raise fields.error(
                "normalization_schemes", f"{scheme!r} is not known", f"Known: {', '.join(NORMALIZATIONS)}."
            )
    *across, rows, columns = spacing
    return Preparation(
        orientation=common.orientation,
        axis_order=common.axis_order,
        spacing=(across[0] if across else None, rows, columns),
        normalization=normalization,
        use_mask_for_normalization=fields.flags("use_mask_for_norm", common.channels),
        intensities=common.intensities,
        labels=common.labels,
        image_order=cast(Literal[0, 1, 3], _resampling(fields, "data", is_seg=False, orders=(0, 1, 3))),
        label_order=cast(Literal[0, 1], _resampling(fields, "seg", is_seg=True, orders=(0, 1))),
        slice_order=cast(Literal[0, 1], fields.table("resampling_fn_probabilities_kwargs").values.get("order_z", 0)),
    )


def _require_known(fields: Fields) -> None:
    preprocessor = fields.values.get("preprocessor_name", _PREPROCESSOR)
    if preprocessor != _PREPROCESSOR:
        raise fields.error("preprocessor_name", f"{preprocessor!r} is not known, only {_PREPROCESSOR}", None)
    _resampling(fields, "probabilities", is_seg=False, orders=(1,), slice_orders=(0, 1))


def _resampling(
    fields: Fields, what: str, *, is_seg: bool, orders: tuple[int, ...], slice_orders: tuple[int, ...] = (0,)
) -> int:
    """The spline order of one resampling; refuses functions and arguments that compute something else."""
    name = f"resampling_fn_{what}"
    function = fields.text(name)
    if function != _RESAMPLING:
        raise fields.error(name, f"{function!r} is not known, only {_RESAMPLING}", None)
    arguments = fields.table(f"{name}_kwargs")
    expected = {"is_seg": is_seg, "order_z": 0, "force_separate_z": None, "separate_z_anisotropy_threshold": 3}
    for key, value in arguments.values.items():
        if key == "order_z" and value in slice_orders:
            continue
        if key != "order" and (key not in expected or value != expected[key]):
            raise arguments.error(key, f"{value!r} is not supported here, only {expected.get(key)!r}", None)
    for key in ("is_seg", "force_separate_z"):
        if key not in arguments.values:  # nnU-Net's own defaults are others
            raise arguments.error(key, "is missing")
    order = arguments.whole("order", least=0) if "order" in arguments.values else 3
    if order not in orders:
        raise arguments.error("order", f"{order} is not supported here, only {', '.join(map(str, orders))}", None)
    return order


def intensities_from_nnunet(plans: Fields, channels: int) -> tuple[IntensityStatistics, ...] | None:
    """The foreground intensities of each channel that a plans file keeps; None where it keeps none."""
    field = next(
        (
            name
            for name in ("foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality")
            if plans.has(name)
        ),
        None,
    )
    if field is None:
        return None
    table = plans.table(field)
    if len(table.values) != channels:
        raise plans.error(field, f"has {len(table.values)} entries, but there are {channels} channels")
    return tuple(_statistics(table.table(str(number))) for number in range(channels))


def _statistics(entry: Fields) -> IntensityStatistics:
    values = {}
    for name in IntensityStatistics.model_fields:
        if not is_number(entry.get(name)):
            raise entry.error(name, f"{entry.get(name)!r} is not a number")
        values[name] = float(entry.get(name))
    return IntensityStatistics(**values)


def axis_order_from_nnunet(plans: Fields) -> tuple[int, int, int]:
    """transpose_forward, if it is a permutation and transpose_backward undoes it."""
    forward = plans.wholes("transpose_forward", 3, least=0)
    if sorted(forward) != [0, 1, 2]:
        raise plans.error("transpose_forward", f"{list(forward)} does not name each of the axes 0, 1 and 2 once")
    if plans.has("transpose_backward"):
        backward = plans.wholes("transpose_backward", 3, least=0)
        if [forward[axis] for axis in backward if axis < 3] != [0, 1, 2]:
            raise plans.error("transpose_backward", f"{list(backward)} does not undo {list(forward)}")
    first, second, third = forward
    return first, second, third


# ------------------------------------------------------------------------------------------------------ to nnU-Net


def configuration_to_nnunet(configuration: Configuration, plans_name: str) -> dict[str, Any]:
    """The entry of a configuration in nnU-Net's plans, complete. Raises PlanError for what nnU-Net does not have."""
    preparation = configuration.preparation
    entry: dict[str, Any] = {
        "data_identifier": f"{plans_name}_{configuration.name}",
        "preprocessor_name": _PREPROCESSOR,
        "batch_size": configuration.batch_size,
        "patch_size": list(configuration.patch_size),
        "median_image_size_in_voxels": list(configuration.median_shape),
        "spacing": list(configuration.spacing),
        "normalization_schemes": list(preparation.normalization),
        "use_mask_for_norm": list(preparation.use_mask_for_normalization),
        **_resampling_to_nnunet("data", is_seg=False, order=preparation.image_order),
        **_resampling_to_nnunet("seg", is_seg=True, order=preparation.label_order),
        **_resampling_to_nnunet("probabilities", is_seg=False, order=1, slice_order=preparation.slice_order),
        "architecture": architecture_to_nnunet(configuration),
        "batch_dice": configuration.batch_dice,
    }
    if configuration.previous_stage is not None:
        entry["previous_stage"] = configuration.previous_stage
    if configuration.next_stage is not None:
        entry["next_stage"] = configuration.next_stage
    return entry


def _resampling_to_nnunet(what: str, *, is_seg: bool, order: int, slice_order: int = 0) -> Mapping[str, Any]:
    name = f"resampling_fn_{what}"
    return {
        name: _RESAMPLING,
        f"{name}_kwargs": {"is_seg": is_seg, "order": order, "order_z": slice_order, "force_separate_z": None},
    }
