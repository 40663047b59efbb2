"""Several models used as one: their members under names of their own, and what they say of themselves together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from autoseg.devices import PRECISIONS
from autoseg.errors import ModelError
from autoseg.inference.members import Weights, first_stages, grouped, same_patches
from autoseg.model_file import read_model
from autoseg.records import Member, ModelHeader

#: Fields of the header that were measured on one model, and hold for that one.
MEASURED = ("post_processing", "calibration", "card", "expected_dice")


def joined_model(paths: Sequence[Path]) -> tuple[ModelHeader, dict[str, Mapping[str, Tensor]]]:
    """Header and tensors of several model files as those of one, which predicts as they do together.

    What each file says of its own training stays with its reader. Raises ModelError naming the file that does not go
    with the others.
    """
    read = [(path, *read_model(path)) for path in paths]
    header, tensors, stages = merged(read)
    members = [
        # the first stage's name may have changed; where there are several, their configuration is named
        member.model_copy(update={"previous_stage": stages[member.name][0]})
        if len(stages.get(member.name, ())) == 1
        else member
        for member in header.members
    ]
    helpers = {name for names in stages.values() for name in names}
    alone = len(grouped([member for member in members if member.name not in helpers])) == 1
    headers = [own for _, own, _ in read]
    together = {
        "members": tuple(members),
        "combine": "scores" if alone else "probabilities",
        "precision": asked_precision("auto", headers),
        "plugins": tuple(dict.fromkeys(name for own in headers for name in own.plugins)),
        "channel_dropout": min(own.channel_dropout for own in headers),
    }
    return header.model_copy(update=together), tensors


def merged(
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
                if name in helpers & known and same_patches(member, same) and _equal(tensors[name], stored[name]):
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


def asked_precision(precision: str, headers: Sequence[ModelHeader]) -> str:
    """The precision asked for; for "auto" the one that the models ask for, of several the most exact."""
    if precision != "auto":
        return precision
    wanted = {header.precision for header in headers}
    return next((name for name in PRECISIONS if name in wanted), "auto")


def networks_of(headers: Sequence[ModelHeader]) -> tuple[str, ...]:
    """Names of the networks of all members."""
    return tuple(dict.fromkeys(member.configuration.network for header in headers for member in header.members))
