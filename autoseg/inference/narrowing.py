"""The part of a loaded model that settings ask for: which networks, by which engine, and which finds the region."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from autoseg.errors import ModelError
from autoseg.inference.engines import with_engine
from autoseg.inference.predictor import LoadedModel, MemberGroup
from autoseg.records import PredictSettings


def narrowed(model: LoadedModel, settings: PredictSettings) -> LoadedModel:
    """The model with the networks that the settings name, computed by their engine, and with `roi` one that finds the
    region of interest.

    The same model has to prepare a volume and to predict it. Narrowing twice by the same settings changes nothing.
    Raises ModelError when a name is none of the networks that are averaged.
    """
    known = [name for group in model.groups for name in group.names]
    unknown = [name for name in settings.members if name not in known]
    if unknown:
        raise ModelError(f"has no network {unknown[0]!r} to average", remedy=f"Known are: {', '.join(known)}.")
    model = with_engine(model, settings.engine)
    locator = (model.locator or _locator(model.groups)) if settings.roi else None
    groups = tuple(filter(None, (_with_members(group, settings.members) for group in model.groups)))
    return replace(model, groups=groups, locator=locator)


def _with_members(group: MemberGroup, names: Sequence[str]) -> MemberGroup | None:
    """The group with those of its networks that are named (none named: all of them); None if none is left."""
    kept = [index for index, name in enumerate(group.names) if not names or name in names]
    if len(kept) == len(group.names):
        return group
    if not kept:
        return None
    networks, left = (tuple(group.networks[index] for index in kept), tuple(group.names[index] for index in kept))
    return replace(group, networks=networks, names=left)


def _locator(groups: Sequence[MemberGroup]) -> MemberGroup | None:
    """The first network of the group with the largest voxels: a low resolution, or a cascade's first stage.

    Slices have no extent of their own across them, so a 2D group is the locator only where there is no other.
    """
    candidates = [group.first_stage or group for group in groups]
    solid = [group for group in candidates if group.configuration.dimensions == 3] or candidates
    coarsest = max(solid, key=lambda group: math.prod(group.configuration.spacing))
    return replace(coarsest, networks=coarsest.networks[:1], names=coarsest.names[:1])
