"""The members of a model by what they see: the first stages of cascades, and networks that see the same patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from autoseg.errors import ModelError
from autoseg.records import Member, ModelHeader

Weights = Mapping[str, Mapping[str, Tensor]]  # member -> name -> tensor


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


def grouped(members: Sequence[Member]) -> list[list[Member]]:
    """The members, those together that see the same patches."""
    groups: list[list[Member]] = []
    for member in members:
        place = next((group for group in groups if same_patches(group[0], member)), None)
        if place is None:
            groups.append([member])
        else:
            place.append(member)
    return groups


def same_patches(one: Member, other: Member) -> bool:
    """Whether two members see the same patches and may be averaged on scores."""
    first, second = one.configuration, other.configuration
    return (first.preparation, first.patch_size, mirror_axes_of(one), one.previous_stage is None, one.half_sums) == (
        second.preparation,
        second.patch_size,
        mirror_axes_of(other),
        other.previous_stage is None,
        other.half_sums,
    )


def mirror_axes_of(member: Member) -> tuple[int, ...]:
    """Axes of (Z, Y, X) along which the member may be mirrored; a 2D network sees no axis 0."""
    return tuple(axis for axis in member.mirror_axes if member.configuration.dimensions == 3 or axis != 0)
