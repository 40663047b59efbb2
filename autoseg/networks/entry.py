"""What a network declares about itself: by this the planner plans it, and the conformance test tests it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoseg.errors import PlanError
from autoseg.records import NetworkSpec

if TYPE_CHECKING:
    from torch import nn

NetworkBuilder = Callable[[NetworkSpec], "nn.Module"]

#: (features of the first stage, most features of the preset, number of stages) to features per stage.
Widths = Callable[[int, int, int], tuple[int, ...]]


def doubled(base: int, largest: int, stages: int) -> tuple[int, ...]:
    """Feature maps of each stage: doubled with each halving of the resolution, up to `largest`."""
    return tuple(min(largest, base * 2**stage) for stage in range(stages))


@dataclass(frozen=True)
class NetworkEntry:
    """A network by name. The defaults are what a network from outside gets that declares nothing.

    The module it builds takes images (B, C, *space) and gives scores (B, K, *space). With `deep_supervision` it gives a
    list of scores, finest first, while its attribute of that name is true.
    """

    build: NetworkBuilder
    about: str = ""
    dimensions: tuple[int, ...] = (2, 3)
    divisor: int | None = None  # that every axis of a patch must be a multiple of; None: the product of its strides
    uneven_strides: bool = True  # whether strides and sizes may differ per axis; else every stage halves all axes
    uneven_kernels: bool = True  # whether kernels follow the plan's per axis; else they are of 3 voxels
    most_stages: int | None = None  # resolutions that it has at most
    deep_supervision: bool = True
    widths: Widths = doubled
    blocks: tuple[int, ...] | None = None  # per stage, deeper ones repeat the last; None: the preset's
    decoder_blocks: int | None = None  # None: the preset's
    transformer: bool = False  # mostly attention, which has to learn from data what convolutions have built in
    half_on_cpu: bool = False  # whether a CPU may compute it in bfloat16: its convolutions are those of `blocks`
    sized: Callable[[NetworkSpec], str] = lambda _spec: ""  # what else follows from the patch, in a sentence
    packages: tuple[str, ...] = ()  # that have to be installed
    extra: str = ""  # of ours that installs them


def require_packages(name: str, entry: NetworkEntry) -> None:
    """Raise PlanError where a package that the network is made of is not installed."""
    absent = [package for package in entry.packages if importlib.util.find_spec(package) is None]
    if absent:
        raise PlanError(
            f"network {name!r} needs {' and '.join(absent)}",
            where="network",
            remedy=f"Install it in the clone's folder: pip install -c constraints.txt '.[{entry.extra}]'",
        )
