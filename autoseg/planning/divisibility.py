"""Which patches a network can take: those that all its strides divide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from autoseg.errors import PlanError
from autoseg.planning.decision import times
from autoseg.planning.topology import Topology, derive_topology

#: Spacing and size to the stages for a patch of that size, padded.
TopologyRule = Callable[[Sequence[float], Sequence[float]], Topology]


def divisors(strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Per axis the product of all strides: what the patch has to be a multiple of."""
    return tuple(math.prod(axis) for axis in zip(*strides, strict=True))


def require_divisible(
    configuration: str, spacing: Sequence[float], patch: Sequence[int], topology: Topology, rule: TopologyRule
) -> None:
    """Refuse a given patch that the network derived from it would have to pad.

    Raises PlanError with the rule for each axis and the nearest patches that work.
    """
    if topology.patch_size == tuple(patch):
        return
    axes = "ZYX"[-len(patch) :]
    rules = ", ".join(
        f"{axis} by {divisor} (here {size})" for axis, divisor, size in zip(axes, topology.divisor, patch, strict=True)
    )
    fitting = [times(size) for size in nearest_patches(spacing, patch, rule)]
    raise PlanError(
        f"patch_size {times(patch)} cannot be used for {configuration}: each axis must be divisible by the product of "
        f"its strides, {rules}",
        remedy=f"The nearest that work: {' and '.join(fitting)}.",
    )


def nearest_patches(
    spacing: Sequence[float], patch: Sequence[int], rule: TopologyRule = derive_topology
) -> list[tuple[int, ...]]:
    """The next smaller patch (where there is one) and the next larger one that need no padding."""
    larger = rule(spacing, patch).patch_size
    smaller = tuple(patch)
    # a shorter patch may be halved less often, and then has another divisor
    while min(smaller) > 0 and rule(spacing, smaller).patch_size != smaller:
        divisor = rule(spacing, smaller).divisor
        shorter = tuple(size // cell * cell for size, cell in zip(smaller, divisor, strict=True))
        if shorter == smaller:  # divisible, but too small for the network
            return [larger]
        smaller = shorter
    return [smaller, larger] if min(smaller) > 0 else [larger]
