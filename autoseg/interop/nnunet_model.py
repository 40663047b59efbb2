"""A trained model of nnU-Net as ours: plans.json, dataset.json and the checkpoints of its folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from autoseg.errors import ModelError
from autoseg.interop.nnunet_configuration import (
    Common,
    ReadConfiguration,
    axis_order_from_nnunet,
    configuration_from_nnunet,
    intensities_from_nnunet,
)
from autoseg.interop.nnunet_dataset import channels_from_nnunet, labels_from_nnunet
from autoseg.interop.nnunet_fields import Fields, is_whole, parse_fields
from autoseg.interop.nnunet_plans import READERS, reader_of, require_default_labels
from autoseg.interop.nnunet_results import Results, find_results
from autoseg.interop.nnunet_weights import read_checkpoint, weights_from_nnunet
from autoseg.records import Labels, Member, ModelHeader, TrainingData


@dataclass(frozen=True, eq=False)
class ImportedModel:
    """What was made of nnU-Net's files: a model's header and tensors, and what a user should know of it."""

    header: ModelHeader
    tensors: dict[str, dict[str, Tensor]]  # member -> name -> tensor
    source: str  # the folder's name
    checkpoints: tuple[str, ...]  # by their names in the folder
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Checkpoint:
    """What prediction needs of one checkpoint."""

    fold: str
    path: str
    configuration: str
    mirror_axes: tuple[int, ...] | None  # axes of the network's input
    weights: dict[str, Any]


def read_nnunet_model(
    source: Path, *, folds: Sequence[str] = (), checkpoint: str | None = None, configuration: str | None = None
) -> ImportedModel:
    """The model in a trainer__plans__configuration folder, in a folder with one such below it, or in nnU-Net's zip.

    Args:
        source: the folder or zip.
        folds: "0", "1", …, "all"; none are all numbered folds that are there (else `all`).
        checkpoint: a file name in the folds; None takes the final one, where it is missing the best, then the latest.
        configuration: which of several models, by configuration or folder name.

    Raises ModelError and PlanError naming file and field or tensor for what is missing, damaged, or not done here.
    """
    results = find_results(source, configuration)
    dataset = parse_fields(results.read("dataset.json"), results.where("dataset.json"))
    channels, labels = channels_from_nnunet(dataset), labels_from_nnunet(dataset)
    notes: list[str] = []
    members: list[Member] = []
    tensors: dict[str, dict[str, Tensor]] = {}
    paths: list[str] = []
    read: ReadConfiguration | None = None
    first: _Checkpoint | None = None
    for fold in _chosen_folds(results, folds, notes):
        stored = _read_fold(results, fold, checkpoint, notes)
        if read is None or first is None:
            first = stored
            plans = parse_fields(results.read("plans.json"), results.where("plans.json"))
            read = _configuration(plans, stored, len(channels), labels)
            notes.extend(read.notes)
        _require_alike(results, first, stored, notes)
        mirror_axes = _our_axes(first, read.configuration.dimensions, results.where(first.path))
        member = Member(
            name=f"{read.configuration.name}.fold_{fold}",
            configuration=read.configuration,
            mirror_axes=mirror_axes,
            half_sums=True,
        )
        tensors[member.name] = weights_from_nnunet(
            stored.weights,
            read.configuration.network_spec(len(channels), labels.heads),
            results.where(stored.path),
            biases=read.biases,
            dropout=read.dropout,
        )
        members.append(member)
        paths.append(stored.path)
    header = ModelHeader(
        channels=channels,
        labels=labels,
        members=tuple(members),
        precision="float32",
        fingerprint=_summary(dataset),
    )
    return ImportedModel(header, tensors, results.name, tuple(paths), tuple(notes))


def _summary(dataset: Fields) -> TrainingData:
    """What dataset.json tells of the training set."""
    cases, ending = dataset.values.get("numTraining"), dataset.values.get("file_ending")
    return TrainingData(
        cases=int(cases) if cases is not None and is_whole(cases) else 0,
        file_ending=ending if isinstance(ending, str) else None,
    )


def _chosen_folds(results: Results, asked: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    """The folds to take, in order."""
    there = results.folds
    if not there:
        raise ModelError("holds no fold with a checkpoint", where=results.place, remedy="Train one with nnU-Net first.")
    if asked:
        wanted = {fold.removeprefix("fold_") for fold in asked}
        absent = sorted(wanted - set(there))
        if absent:
            raise ModelError(
                f"there is no fold {absent[0]}", where=results.place, remedy=f"There are: {', '.join(there)}."
            )
        return tuple(fold for fold in there if fold in wanted)
    numbered = tuple(fold for fold in there if fold.isdecimal())
    others = tuple(fold for fold in there if not fold.isdecimal())
    if numbered and others:
        notes.append(f"fold {', '.join(others)} is left out, as nnU-Net leaves it out unless it is asked for")
    return numbered or others


def _read_fold(results: Results, fold: str, asked: str | None, notes: list[str]) -> _Checkpoint:
    path, note = results.checkpoint(fold, asked)
    if note is not None:
        notes.append(note)
    place = results.where(path)
    with results.open(path) as file:
        content = read_checkpoint(file, place)
    weights = _entry(content, "network_weights", dict, place)
    arguments = _entry(content, "init_args", dict, place)
    configuration = _entry(arguments, "configuration", str, place, "init_args.")
    return _Checkpoint(fold, path, configuration, _mirror_axes(content, place), weights)


def _entry(table: dict[str, Any], name: str, kind: type, place: str, within: str = "") -> Any:
    if not isinstance(table.get(name), kind):
        raise ModelError(
            f"has no {within}{name}, which nnU-Net's checkpoints have; it has {', '.join(map(str, table)) or 'none'}",
            where=place,
            remedy="Name a checkpoint that nnU-Net (version 2) wrote.",
        )
    return table[name]


def _mirror_axes(content: dict[str, Any], place: str) -> tuple[int, ...] | None:
    found = content.get("inference_allowed_mirroring_axes")
    if found is None:
        return None
    if not isinstance(found, tuple | list) or not all(is_whole(axis) for axis in found):
        raise ModelError(f"inference_allowed_mirroring_axes: {found!r} is not a list of axes", where=place)
    return tuple(int(axis) for axis in found)


def _configuration(plans: Fields, stored: _Checkpoint, channels: int, labels: Labels) -> ReadConfiguration:
    """The configuration with which the checkpoint was trained."""
    require_default_labels(plans)
    intensities = intensities_from_nnunet(plans, channels)
    if intensities is None:
        raise plans.error("foreground_intensity_properties_per_channel", "is missing")
    table = plans.table("configurations")
    if stored.configuration not in table.values:
        raise plans.error(
            "configurations",
            f"there is no {stored.configuration!r}, with which {stored.path} was trained",
            f"It has {', '.join(table.values)}.",
        )
    common = Common(
        orientation=READERS[reader_of(plans)],
        axis_order=axis_order_from_nnunet(plans),
        channels=channels,
        intensities=intensities,
        labels=labels,
    )
    read = configuration_from_nnunet(table, stored.configuration, common)
    if read.configuration.previous_stage is not None:
        raise table.table(stored.configuration).error(
            "previous_stage",
            f"{stored.configuration} is the second stage of a cascade, which cannot be predicted yet",
            "Import the configuration of its first stage, or 3d_fullres.",
        )
    return read


def _require_alike(results: Results, first: _Checkpoint, other: _Checkpoint, notes: list[str]) -> None:
    """nnU-Net takes configuration and mirror axes of the first fold for all; silently only where all agree."""
    if other.configuration != first.configuration:
        raise ModelError(
            f"init_args.configuration is {other.configuration!r}, in {first.path} it is {first.configuration!r}",
            where=results.where(other.path),
            remedy="Choose folds of one configuration with --fold.",
        )
    if other.mirror_axes != first.mirror_axes:
        notes.append(
            f"fold {other.fold} may be mirrored along {other.mirror_axes}, fold {first.fold} along "
            f"{first.mirror_axes}: as nnU-Net does, that of the first is used for all"
        )


def _our_axes(stored: _Checkpoint, dimensions: int, place: str) -> tuple[int, ...]:
    """Mirror axes of the prepared (Z, Y, X): a 2D network's axes 0 and 1 are Y and X."""
    axes = stored.mirror_axes or ()
    if any(not 0 <= axis < dimensions for axis in axes):
        raise ModelError(
            f"inference_allowed_mirroring_axes {axes} are not axes of a network of {dimensions} dimensions", where=place
        )
    return tuple(axis + 3 - dimensions for axis in axes)
