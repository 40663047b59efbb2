"""Trained networks made ready on a device: from one model file, from several, or from tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from autoseg.devices import Precision
from autoseg.errors import ModelError, PlanError
from autoseg.model_file import read_model
from autoseg.networks.catalog import build_network, prepare_for_device
from autoseg.records import Configuration, Labels, Member, ModelHeader

Weights = Mapping[str, Mapping[str, Tensor]]  # member -> name -> tensor


@dataclass(frozen=True, eq=False)
class MemberGroup:
    """Networks that see the same patches: their scores are averaged tile by tile, in one pass over the volume."""

    configuration: Configuration
    mirror_axes: tuple[int, ...]  # of (Z, Y, X)
    networks: tuple[nn.Module, ...]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """Networks on a device, ready to predict. Groups differ in configuration; they are averaged on probabilities."""

    header: ModelHeader
    groups: tuple[MemberGroup, ...]
    device: torch.device
    precision: Precision

    @property
    def description(self) -> str:
        """One line: which networks, averaged how."""
        parts = [f"{group.configuration.name} x {len(group.networks)}" for group in self.groups]
        how = "" if len(parts) == 1 else ", probabilities averaged"
        return " + ".join(parts) + how

    @property
    def labels(self) -> Labels:
        """The labels that the model knows."""
        return self.header.labels


def build_model(header: ModelHeader, tensors: Weights, device: torch.device, precision: Precision) -> LoadedModel:
    """A model of a header and its members' tensors, without a file.

    Raises ModelError when tensors and header do not fit, or for members that need a previous stage.
    """
    groups: list[MemberGroup] = []
    for member in header.members:
        network = _network(header, member, tensors[member.name], device)
        group = MemberGroup(member.configuration, _mirror_axes(member), (network,))
        place = next((index for index, known in enumerate(groups) if _same_patches(known, group)), None)
        if place is None:
            groups.append(group)
        else:
            known = groups[place]
            groups[place] = MemberGroup(known.configuration, known.mirror_axes, (*known.networks, network))
    return LoadedModel(header, tuple(groups), device, precision)


def load_models(paths: Sequence[Path], device: torch.device, precision: Precision) -> LoadedModel:
    """The networks of one or several model files as one model; several files must agree in channels and labels.

    Members of the same configuration are averaged on scores, different configurations on probabilities. Raises
    ModelError naming the file that cannot be used.
    """
    if not paths:
        raise ModelError("no model file is given", remedy="Name one with --model.")
    read = [(path, *read_model(path)) for path in paths]
    first_path, first, _ = read[0]
    members: list[Member] = []
    tensors: dict[str, Mapping[str, Tensor]] = {}
    for path, header, stored in read:
        for what, ours, theirs in (
            ("channels", first.channels, header.channels),
            ("labels", first.labels, header.labels),
        ):
            if ours != theirs:
                raise ModelError(
                    f"its {what} are not those of {first_path}",
                    where=path,
                    remedy="Only models of the same channels and labels can be used together.",
                )
        for member in header.members:
            # files of several plans may use one name
            name = member.name if member.name not in tensors else f"{member.name}#{len(tensors)}"
            members.append(member.model_copy(update={"name": name}))
            tensors[name] = stored[member.name]
    try:
        model = build_model(first.model_copy(update={"members": tuple(members)}), tensors, device, precision)
    except ModelError as error:
        raise ModelError(error.what, where=", ".join(map(str, paths)), remedy=error.remedy) from error
    combine = "scores" if len(model.groups) == 1 else "probabilities"
    return LoadedModel(model.header.model_copy(update={"combine": combine}), model.groups, device, precision)


# ---------------------------------------------------------------------------------------------------------- details


def _network(header: ModelHeader, member: Member, weights: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    if member.previous_stage is not None or member.configuration.previous_stage is not None:
        raise ModelError(
            f"its member {member.name!r} is the second stage of a cascade, which cannot be predicted yet",
            remedy="Use a model of another configuration.",
        )
    spec = member.configuration.network_spec(len(header.channels), header.labels.heads)
    try:
        network = build_network(spec)
        network.load_state_dict(dict(weights), strict=True)
    except (RuntimeError, PlanError) as error:
        raise ModelError(
            f"the tensors of its member {member.name!r} do not fit the network it names ({_first_lines(error)})",
            remedy="Train the model anew, or use the version of autoseg that wrote it.",
        ) from error
    network.deep_supervision = False  # type: ignore[assignment]  # a plain attribute of the networks
    return prepare_for_device(network, device).eval().requires_grad_(False)


def _same_patches(one: MemberGroup, other: MemberGroup) -> bool:
    """Whether two groups see the same patches and may be averaged on scores."""
    first, second = one.configuration, other.configuration
    return (first.preparation, first.patch_size, one.mirror_axes) == (
        second.preparation,
        second.patch_size,
        other.mirror_axes,
    )


def _mirror_axes(member: Member) -> tuple[int, ...]:
    """Axes of (Z, Y, X) along which the member may be mirrored; a 2D network sees no axis 0."""
    return tuple(axis for axis in member.mirror_axes if member.configuration.dimensions == 3 or axis != 0)


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:300]
