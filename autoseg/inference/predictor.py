"""Trained networks made ready on a device: from one model file, from several, or from tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from autoseg.devices import PRECISIONS, Precision
from autoseg.errors import ModelError, PlanError
from autoseg.model_file import read_model
from autoseg.networks.catalog import build_network, prepare_for_device
from autoseg.networks.misfits import misfits
from autoseg.records import Configuration, Labels, Member, ModelHeader

#: Fields of the header that were measured on one model, and hold for that one.
MEASURED = ("post_processing", "calibration", "card", "expected_dice")

Weights = Mapping[str, Mapping[str, Tensor]]  # member -> name -> tensor


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


def first_stages(header: ModelHeader) -> dict[str, tuple[str, ...]]:
    """For each second stage of a cascade the members whose mean is its first stage.

    `Member.previous_stage` names one member, or a configuration: then all members of that configuration. Raises
    ModelError where there is none of that name.
    """
    found = {}
    for member in header.members:
        wanted = member.previous_stage
        if wanted is None:
            continue
        alone = [other.name for other in header.members if other.name == wanted]
        found[member.name] = tuple(
            alone or [other.name for other in header.members if other.configuration.name == wanted]
        )
        if not found[member.name]:
            raise ModelError(
                f"its member {member.name!r} is the second stage of a cascade, and the first, {wanted!r}, is missing",
                remedy="Train the second stage anew: its model file then holds both.",
            )
    return found


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
        header, tensors, stages = _merged(read)
        model = _built(header, tensors, stages, device, precision)
    except ModelError as error:
        raise ModelError(error.what, where=error.where or ", ".join(map(str, paths)), remedy=error.remedy) from error
    combine = "scores" if len(model.groups) == 1 else "probabilities"
    return LoadedModel(model.header.model_copy(update={"combine": combine}), model.groups, device, precision)


def joined_model(paths: Sequence[Path]) -> tuple[ModelHeader, dict[str, Mapping[str, Tensor]]]:
    """Header and tensors of several model files as those of one, which predicts as they do together.

    What each file says of its own training stays with its reader. Raises ModelError naming the file that does not go
    with the others.
    """
    read = [(path, *read_model(path)) for path in paths]
    header, tensors, stages = _merged(read)
    members = [
        # the first stage's name may have changed; where there are several, their configuration is named
        member.model_copy(update={"previous_stage": stages[member.name][0]})
        if len(stages.get(member.name, ())) == 1
        else member
        for member in header.members
    ]
    helpers = {name for names in stages.values() for name in names}
    alone = len(_groups([member for member in members if member.name not in helpers])) == 1
    headers = [own for _, own, _ in read]
    together = {
        "members": tuple(members),
        "combine": "scores" if alone else "probabilities",
        "precision": asked_precision("auto", headers),
        "plugins": tuple(dict.fromkeys(name for own in headers for name in own.plugins)),
        "channel_dropout": min(own.channel_dropout for own in headers),
    }
    return header.model_copy(update=together), tensors


def asked_precision(precision: str, headers: Sequence[ModelHeader]) -> str:
    """The precision asked for; for "auto" the one that the models ask for, of several the most exact."""
    if precision != "auto":
        return precision
    wanted = {header.precision for header in headers}
    return next((name for name in PRECISIONS if name in wanted), "auto")


def networks_of(headers: Sequence[ModelHeader]) -> tuple[str, ...]:
    """Names of the networks of all members."""
    return tuple(dict.fromkeys(member.configuration.network for header in headers for member in header.members))


# ---------------------------------------------------------------------------------------------------------- details


def _merged(
    read: Sequence[tuple[Path, ModelHeader, Weights]],
) -> tuple[ModelHeader, dict[str, Mapping[str, Tensor]], dict[str, tuple[str, ...]]]:
    """The members of several files under names of their own, their tensors, and the first stages among them."""
    first_path, first, _ = read[0]
    members: list[Member] = []
    tensors: dict[str, Mapping[str, Tensor]] = {}
    stages: dict[str, tuple[str, ...]] = {}
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
        own = first_stages(header)
        helpers = {name for names in own.values() for name in names}
        known = {name for names in stages.values() for name in names}
        names: dict[str, str] = {}
        for member in header.members:
            name = member.name
            if name in tensors:
                # the folds of a cascade may bring the same first stage, which must not count twice
                same = next(other for other in members if other.name == name)
                if name in helpers & known and _same_patches(member, same) and _equal(tensors[name], stored[name]):
                    names[name] = name
                    continue
                name = f"{name}#{len(tensors)}"  # files of several plans may use one name
            names[member.name] = name
            members.append(member.model_copy(update={"name": name}))
            tensors[name] = stored[member.name]
        stages |= {names[name]: tuple(names[other] for other in others) for name, others in own.items()}
    return joint_header([header for _, header, _ in read], members), tensors, stages


def joint_header(headers: Sequence[ModelHeader], members: Sequence[Member]) -> ModelHeader:
    """What several models together say of themselves: of what was measured on each alone only what all agree on."""
    first = headers[0]
    alike = {name: getattr(first, name) for name in MEASURED if all(_same(name, first, one) for one in headers)}
    defaults = {name: ModelHeader.model_fields[name].default for name in MEASURED}
    return first.model_copy(update={"members": tuple(members), **defaults, **alike})


def _same(name: str, one: ModelHeader, other: ModelHeader) -> bool:
    return bool(getattr(one, name) == getattr(other, name))


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


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
    for members in _groups([member for member in header.members if member.name not in helpers]):
        needed = dict.fromkeys(name for member in members for name in stages.get(member.name, ()))
        first = _groups([by_name[name] for name in needed])
        if len(first) > 1 or any((member.name in stages) != bool(first) for member in members):
            raise ModelError(
                "these cascades have first stages of several kinds",
                remedy="Use the models of one plan together.",
            )
        below = _group(first[0], networks, None) if first else None
        groups.append(_group(members, networks, below))
    return LoadedModel(header, tuple(groups), device, precision)


def _groups(members: Sequence[Member]) -> list[list[Member]]:
    """The members, those together that see the same patches."""
    groups: list[list[Member]] = []
    for member in members:
        place = next((group for group in groups if _same_patches(group[0], member)), None)
        if place is None:
            groups.append([member])
        else:
            place.append(member)
    return groups


def _group(
    members: Sequence[Member], networks: Mapping[str, nn.Module], first_stage: MemberGroup | None
) -> MemberGroup:
    chosen = tuple(networks[member.name] for member in members)
    first = members[0]
    names = tuple(member.name for member in members)
    return MemberGroup(first.configuration, _mirror_axes(first), chosen, first_stage, first.half_sums, names)


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
    except (RuntimeError, PlanError) as error:
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


def _same_patches(one: Member, other: Member) -> bool:
    """Whether two members see the same patches and may be averaged on scores."""
    first, second = one.configuration, other.configuration
    return (first.preparation, first.patch_size, _mirror_axes(one), one.previous_stage is None, one.half_sums) == (
        second.preparation,
        second.patch_size,
        _mirror_axes(other),
        other.previous_stage is None,
        other.half_sums,
    )


def _mirror_axes(member: Member) -> tuple[int, ...]:
    """Axes of (Z, Y, X) along which the member may be mirrored; a 2D network sees no axis 0."""
    return tuple(axis for axis in member.mirror_axes if member.configuration.dimensions == 3 or axis != 0)


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:300]
