"""`train --init`: a plan that takes over what a model was trained with, and the weights that fit it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoseg.errors import ModelError, PlanError, UsageError
from autoseg.files import file_hash, read_record, write_record
from autoseg.model_file import read_header, read_model
from autoseg.pipeline.choosing_model import load_needed
from autoseg.pipeline.plans import read_plan, signed
from autoseg.planning.mirroring import mirror_axes
from autoseg.planning.spacing import resampled_shapes
from autoseg.progress import Progress
from autoseg.records import Configuration, Fingerprint, Member, ModelHeader, Plan, Preparation, Reason
from autoseg.training.initial import InitialWeights, fitting_weights, output_names, same_channels, same_outputs
from autoseg.workspace import DEFAULT_PLAN, Workspace

if TYPE_CHECKING:
    from torch import Tensor

#: Hex digits of a model's hash that name its plan, and that settings keep.
_SHORT, _KEPT = 8, 16

#: What a configuration takes over from the model; the rest follows from the new dataset.
_TAKEN = (
    *("spacing", "patch_size", "batch_size", "network", "strides", "kernel_sizes", "features_per_stage"),
    *("blocks_per_stage", "blocks_per_stage_decoder", "batch_dice"),
)


@dataclass(frozen=True, eq=False)
class Source:
    """The network that a training begins with."""

    file: Path
    digest: str
    header: ModelHeader
    member: Member


def find_source(path: Path, configuration: str | None, fold: str, allowed: Sequence[str], progress: Progress) -> Source:
    """The member of a model file to begin with: of the named configuration, and of the same fold where there is one.

    Raises ModelError where there is no such model or member, or where it needs modules that are not in `allowed`.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    header = read_header(file)
    load_needed(header, allowed, file, progress)
    names = tuple(dict.fromkeys(member.configuration.name for member in header.members))
    wanted = configuration or ("3d_fullres" if "3d_fullres" in names else names[0])
    members = [member for member in header.members if member.configuration.name == wanted]
    if not members:
        raise ModelError(
            f"has no network of configuration {wanted!r}", where=file, remedy=f"It has: {', '.join(names)}."
        )
    chosen = next((member for member in members if member.name.endswith(f"fold_{fold}")), members[0])
    if chosen.configuration.previous_stage is not None:
        raise ModelError(
            f"{wanted} is the second stage of a cascade, which cannot be the beginning of a training",
            where=file,
            remedy="Name another configuration of it with --configuration.",
        )
    return Source(file, file_hash(file, _KEPT), header, chosen)


def plan_for(work: Workspace, base: Plan, source: Source, progress: Progress) -> Plan:
    """The plan of this work folder that begins with the source; made from the base plan, and written, if it is new.

    One that is there already is followed as it is: a person may have edited it. Raises PlanError where the base plan
    begins with another model.
    """
    if base.training.initial is not None:
        if base.training.initial != source.digest:
            raise PlanError(
                f"this plan begins with another model than {source.file}",
                where=work.plan(base.name),
                remedy=f"Name that model, or leave out --plan {base.name}.",
            )
        return base
    name = plan_name(base.name, source)
    path = work.plan(name)
    if path.exists():
        return read_plan(work, name)
    made = signed(derived_plan(base, read_record(work.fingerprint, Fingerprint), source, name))
    write_record(path, made)
    progress.say(f"Plan {name!r} takes spacing, normalization, patch and network from {source.file}: {path}")
    return made


def plan_name(base: str, source: Source) -> str:
    """What the plan is called that takes over a model: after the model's file, and its content."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", source.file.stem).strip("-") or "model"
    before = "" if base == DEFAULT_PLAN else f"{base}-"
    return f"{before}from-{stem}-{source.digest[:_SHORT]}"


def derived_plan(base: Plan, fingerprint: Fingerprint, source: Source, name: str) -> Plan:
    """The base plan's dataset, folds and training with the source's preparation and network.

    Raises PlanError where the source is for volumes and the dataset is of single slices.
    """
    theirs = source.member.configuration
    own = base.configurations.get(theirs.name)
    similar = own or next(
        (entry for entry in base.configurations.values() if entry.dimensions == theirs.dimensions), None
    )
    if similar is None:
        raise PlanError(
            f"{source.file} is a {theirs.dimensions}D network, and this dataset has no configuration of that kind",
            where=f"plan {base.name!r}",
            remedy=f"Begin with a model of {', '.join(base.configurations)}.",
        )
    preparation = taken_preparation(base, similar.preparation, source)
    mirror = mirror_axes(fingerprint, preparation.axis_order)
    entry = theirs.model_copy(
        update={
            "preparation": preparation,
            "median_shape": median_shape(fingerprint, preparation, theirs.dimensions),
            "steps_per_epoch": similar.steps_per_epoch,
            "epochs": similar.epochs,
            "next_stage": None,
        }
    )
    return base.model_copy(
        update={
            "name": name,
            "configurations": {entry.name: entry},
            "mirror_axes": mirror.value,
            "training": base.training.model_copy(update={"epochs": entry.epochs, "initial": source.digest}),
            "plugins": tuple(dict.fromkeys((*base.plugins, *source.header.plugins))),
            "reasons": (
                *_reasons(entry, similar, source),
                mirror.reason(
                    "mirror_axes", ", ".join("ZYX"[preparation.axis_order[a]] for a in mirror.value) or "none"
                ),
                *(reason for reason in base.reasons if reason.field.startswith("training.")),
            ),
        }
    )


def taken_preparation(base: Plan, own: Preparation, source: Source) -> Preparation:
    """The source's preparation for the channels in common, with its statistics; the base plan's for further ones."""
    theirs = source.member.configuration.preparation
    places = same_channels(base.channels, source.header.channels)

    def each(name: str) -> tuple[object, ...]:
        ours, others = getattr(own, name), getattr(theirs, name)
        return tuple(others[places[channel]] if channel in places else ours[channel] for channel in range(len(ours)))

    return theirs.model_copy(
        update={
            "labels": base.labels,
            **{name: each(name) for name in ("normalization", "use_mask_for_normalization", "intensities")},
        }
    )


def median_shape(fingerprint: Fingerprint, preparation: Preparation, dimensions: int) -> tuple[float, ...]:
    """The median size in voxels that the dataset's cases have in a preparation, of the last `dimensions` axes."""
    order = list(preparation.axis_order)
    shapes = np.asarray([case.shape_after_crop for case in fingerprint.cases], dtype=np.float64)[:, order]
    spacings = np.asarray([case.spacing for case in fingerprint.cases], dtype=np.float64)[:, order]
    target = spacings.copy()
    for axis, size in enumerate(preparation.spacing):
        if size is not None:
            target[:, axis] = size
    median = np.median(resampled_shapes(shapes, spacings, target), axis=0)
    return tuple(float(size) for size in median[-dimensions:])


def _reasons(entry: Configuration, similar: Configuration, source: Source) -> tuple[Reason, ...]:
    because = f"From {source.file.name} ({source.member.name}), whose weights the training begins with."
    told = [(field, getattr(entry, field), getattr(similar, field)) for field in _TAKEN]
    told += [
        (field, getattr(entry.preparation, field), getattr(similar.preparation, field))
        for field in ("normalization", "use_mask_for_normalization", "axis_order")
    ]
    reasons = [
        Reason(
            field=f"{entry.name}.{field}",
            value=_told(value),
            because=because,
            instead="Planned for this dataset alone it would be the same."
            if value == other
            else f"Planned for this dataset alone: {_told(other)}.",
        )
        for field, value, other in told
    ]
    for field in ("steps_per_epoch", "epochs"):
        value = getattr(entry, field)
        reasons.append(
            Reason(
                field=f"{entry.name}.{field}",
                value=str(value),
                because=f"From the plan of this dataset for {similar.name}.",
                instead="A training that begins with good weights may need fewer: --epochs or --budget.",
            )
        )
    return tuple(reasons)


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join("x".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in value)
    return f"{value}"


# --------------------------------------------------------------------------------------------------- the weights


def initial_weights(plan: Plan, configuration: Configuration, source: Source, progress: Progress) -> InitialWeights:
    """The source's weights that fit the network of a configuration; what is loaded and what is new is told.

    Raises TrainingError where none fits.
    """
    _, members = read_model(source.file)
    weights: Mapping[str, Tensor] = members[source.member.name]
    spec = configuration.network_spec(len(plan.channels), plan.labels.heads)
    channels = same_channels(plan.channels, source.header.channels)
    outputs = same_outputs(plan.labels, source.header.labels)
    fitting = fitting_weights(weights, spec, channels, outputs, source.file)
    for line in _loaded(plan, source, fitting):
        progress.say(line)
    return fitting


def _loaded(plan: Plan, source: Source, fitting: InitialWeights) -> list[str]:
    """What to tell of the weights: how many are loaded, and which channels, labels and tensors are new."""
    total = fitting.whole + len(fitting.partial) + len(fitting.new)
    lines = [f"Loaded {fitting.whole} of {total} tensors from {source.file} ({source.member.name})"]
    if fitting.partial:
        lines.append(f"Loaded in part: {_listed(fitting.partial)}")
    if fitting.new:
        lines.append(f"New: {_listed(fitting.new)}")
    lines += fitting.unlike
    for what, names, places in (
        ("channels", plan.channels, fitting.inputs),
        ("outputs", output_names(plan.labels), fitting.outputs),
    ):
        new = [name for place, name in enumerate(names) if place not in places]
        if new:
            lines.append(f"New {what}: {', '.join(new)}")
    renamed = [
        f"{plan.channels[place]} as {source.header.channels[other]}"
        for place, other in fitting.inputs.items()
        if plan.channels[place].casefold() != source.header.channels[other].casefold()
    ]
    if renamed:
        lines.append(f"No channel has the same name; they are taken in order: {', '.join(renamed)}")
    return lines


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def require_source(initial: str | None, begun: bool, given: Source | None, plan: str) -> None:
    """Refuse to begin a run of a plan that starts with a model without that model; one under way has its weights."""
    if initial is not None and not begun and given is None:
        raise UsageError(
            f"plan {plan!r} begins with the weights of a model",
            remedy="Name it again: --init MODEL, with the same file.",
        )
