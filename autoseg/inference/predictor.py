"""Trained networks made ready on a device: from one model file, from several, or from tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from autoseg.devices import Precision
from autoseg.errors import ModelError, PlanError
from autoseg.inference.joining import merged
from autoseg.inference.members import Weights, first_stages, grouped, mirror_axes_of
from autoseg.model_file import read_model
from autoseg.networks.catalog import build_network, prepare_for_device
from autoseg.networks.misfits import misfits
from autoseg.records import Configuration, Labels, Member, ModelHeader


@dataclass(frozen=True, eq=False)
class MemberGroup:
    """Networks that see the same patches: their scores are averaged tile by tile, in one pass over the volume."""

    configuration: Configuration
    mirror_axes: tuple[int, ...]  # of (Z, Y, X)
    networks: tuple[nn.Module, ...]
    first_stage: MemberGroup | None = None  # of a cascade: what it finds is further input of these networks
    half_sums: bool = False  # tiles are summed as nnU-Net does
    names: tuple[str, ...] = ()  # of the members, one per network


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """Networks on a device, ready to predict. Groups differ in configuration; they are averaged on probabilities."""

    header: ModelHeader
    groups: tuple[MemberGroup, ...]
    device: torch.device
    precision: Precision
    locator: MemberGroup | None = None  # one network that finds the region of interest (`inference.region`)
    engine: str = "torch"  # what computes the networks (`inference.engines`)

    @property
    def preparing(self) -> tuple[MemberGroup, ...]:
        """All groups that need a prepared image: those that are averaged, the first stages of cascades, the locator."""
        first_stages = (group.first_stage for group in self.groups if group.first_stage is not None)
        return (*self.groups, *first_stages, *(() if self.locator is None else (self.locator,)))

    @property
    def description(self) -> str:
        """One line: which networks, averaged how."""
        parts = [_described(group) for group in self.groups]
        how = "" if len(parts) == 1 else ", probabilities averaged"
        return " + ".join(parts) + how

    @property
    def labels(self) -> Labels:
        """The labels that the model knows."""
        return self.header.labels


def build_model(header: ModelHeader, tensors: Weights, device: torch.device, precision: Precision) -> LoadedModel:
    """A model of a header and its members' tensors, without a file.

    Raises ModelError when tensors and header do not fit.
    """
    return _built(header, tensors, first_stages(header), device, precision)


def load_models(paths: Sequence[Path], device: torch.device, precision: Precision) -> LoadedModel:
    """The networks of one or several model files as one model; several files must agree in channels and labels.

    Members of the same configuration are averaged on scores, different configurations on probabilities. Of several
    folds of a cascade the second stages all see the mean of the first stages. Raises ModelError naming the file that
    cannot be used.
    """
    if not paths:
        raise ModelError("no model file is given", remedy="Name one with --model.")
    read = [(path, *read_model(path)) for path in paths]
    try:
        header, tensors, stages = merged(read)
        model = _built(header, tensors, stages, device, precision)
    except ModelError as error:
        raise ModelError(error.what, where=error.where or ", ".join(map(str, paths)), remedy=error.remedy) from error
    combine = "scores" if len(model.groups) == 1 else "probabilities"
    return LoadedModel(model.header.model_copy(update={"combine": combine}), model.groups, device, precision)


def _built(
    header: ModelHeader,
    tensors: Weights,
    stages: Mapping[str, tuple[str, ...]],
    device: torch.device,
    precision: Precision,
) -> LoadedModel:
    helpers = {name for names in stages.values() for name in names}
    networks = {member.name: _network(header, member, tensors[member.name], device) for member in header.members}
    by_name = {member.name: member for member in header.members}
    groups = []
    for members in grouped([member for member in header.members if member.name not in helpers]):
        needed = dict.fromkeys(name for member in members for name in stages.get(member.name, ()))
        first = grouped([by_name[name] for name in needed])
        if len(first) > 1 or any((member.name in stages) != bool(first) for member in members):
            raise ModelError(
                "these cascades have first stages of several kinds",
                remedy="Use the models of one plan together.",
            )
        below = _group(first[0], networks, None) if first else None
        groups.append(_group(members, networks, below))
    return LoadedModel(header, tuple(groups), device, precision)


def _group(
    members: Sequence[Member], networks: Mapping[str, nn.Module], first_stage: MemberGroup | None
) -> MemberGroup:
    chosen = tuple(networks[member.name] for member in members)
    first = members[0]
    names = tuple(member.name for member in members)
    return MemberGroup(first.configuration, mirror_axes_of(first), chosen, first_stage, first.half_sums, names)


def _described(group: MemberGroup) -> str:
    own = f"{group.configuration.name} x {len(group.networks)}"
    return own if group.first_stage is None else f"{own} after {_described(group.first_stage)}"


def _network(header: ModelHeader, member: Member, weights: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    channels = len(header.channels)
    if member.previous_stage is not None:
        channels += len(header.labels.values) - 1  # a map per label that the first stage may find
    elif member.configuration.previous_stage is not None:
        raise ModelError(
            f"its member {member.name!r} is the second stage of a cascade, and the first is missing",
            remedy="Train the second stage anew: its model file then holds both.",
        )
    spec = member.configuration.network_spec(channels, header.labels.heads)
    try:
        network = build_network(spec)
        _require_fitting(member, network, weights)
        network.load_state_dict(dict(weights), strict=True)
    except (RuntimeError, TypeError, ValueError, OverflowError, PlanError) as error:  # also of absurd sizes
        raise ModelError(
            f"the tensors of its member {member.name!r} do not fit the network it names ({_first_lines(error)})",
            remedy="Train the model anew, or use the version of autoseg that wrote it.",
        ) from error
    network.deep_supervision = False  # type: ignore[assignment]  # a plain attribute of the networks
    return prepare_for_device(network, device).eval().requires_grad_(False)


def _require_fitting(member: Member, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Refuse tensors of other names or shapes than those of the network, with both."""
    wrong = misfits({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}, weights)
    if wrong:
        raise ModelError(
            f"the tensors of its member {member.name!r} do not fit the network it names:\n" + "\n".join(wrong),
            remedy="\nTrain the model anew, or use the version of autoseg that wrote it.",
        )


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:300]
