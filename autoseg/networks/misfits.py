"""Tensors that do not fit a network, told by name with both shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

#: Lines before it says how many more there are.
SHOWN = 8


def misfits(expected: Mapping[str, Sequence[int]], found: Mapping[str, Tensor]) -> list[str]:
    """A line for each tensor of another shape, missing or unknown: "name: expected 16x1x3x3, found 16x2x3x3"."""
    lines = [
        f"  {name}: expected {size(shape)}, found {size(found[name].shape) if name in found else 'nothing'}"
        for name, shape in expected.items()
        if name not in found or tuple(found[name].shape) != tuple(shape)
    ]
    lines += [f"  {name}: expected nothing, found {size(found[name].shape)}" for name in found if name not in expected]
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"  and {len(lines) - SHOWN} more"]


def size(shape: Sequence[int]) -> str:
    """A shape in words: "16x1x3x3"."""
    return "x".join(map(str, shape)) or "one number"
