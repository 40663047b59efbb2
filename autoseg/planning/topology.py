"""Where the network halves its resolution, and how wide its kernels are, from spacing and patch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

#: No axis is halved to fewer voxels than this (nnU-Net).
SMALLEST_EDGE = 4

#: Axes whose spacings differ by less than this factor are treated alike (nnU-Net).
SIMILAR_SPACING = 2.0


@dataclass(frozen=True)
class Topology:
    """The stages of a U-Net. Entries have one number per axis of the patch."""

    patch_size: tuple[int, ...]  # padded up to multiples of `divisor`
    strides: tuple[tuple[int, ...], ...]  # per stage; the first all ones
    kernel_sizes: tuple[tuple[int, ...], ...]  # per stage
    divisor: tuple[int, ...]  # product of the strides per axis

    @property
    def stages(self) -> int:
        """Number of resolutions, the bottleneck included."""
        return len(self.strides)


def derive_topology(spacing: Sequence[float], size: Sequence[float]) -> Topology:
    """Strides, kernels and the padded patch for a patch of `size` voxels (may be x.5) at `spacing` mm.

    At each stage the axes that have room and are about as fine as the finest of them are halved; an axis that is at
    least twice as coarse as the finest waits, with kernel 1, until the others have caught up (nnU-Net).
    """
    return stages_of(in_classes(spacing), tuple(size))


def in_classes(spacing: Sequence[float]) -> tuple[float, ...]:
    """Simple numbers that give the same topology as `spacing`.

    Spacings are only ever doubled and compared with each other and with each other's double. So of each only the binary
    exponent matters, and which has the larger fraction. A search for a patch tries hundreds of sizes at spacings that
    are all of one class: each size is then worked out once.
    """
    fractions, exponents = zip(*(math.frexp(value) for value in spacing), strict=True)
    ranks = sorted(set(fractions))
    smallest = min(exponents)
    return tuple(
        math.ldexp(0.5 + ranks.index(fraction) / 8, exponent - smallest)
        for fraction, exponent in zip(fractions, exponents, strict=True)
    )


@lru_cache(maxsize=4096)
def stages_of(spacing: tuple[float, ...], size: tuple[float, ...]) -> Topology:
    """`derive_topology`, worked out."""
    axes = range(len(size))
    current, spacings, kernel = list(size), list(spacing), [1] * len(size)
    divisor = [1] * len(size)
    strides = [(1,) * len(size)]
    kernel_sizes = []
    # a plan tries hundreds of patches: plain loops over two or three axes are what is quick here
    while halved := _axes_to_halve(spacings, current):
        finest = min(spacings)
        for axis in axes:
            if kernel[axis] == 1 and spacings[axis] / finest < SIMILAR_SPACING:
                kernel[axis] = 3
        kernel_sizes.append(tuple(kernel))
        stride = [1] * len(size)
        for axis in halved:
            stride[axis] = 2
            spacings[axis] *= 2
            current[axis] = math.ceil(current[axis] / 2)
            divisor[axis] *= 2
        strides.append(tuple(stride))
    kernel_sizes.append((3,) * len(size))
    padded = tuple(math.ceil(size[axis] / divisor[axis]) * divisor[axis] for axis in axes)
    return Topology(padded, tuple(strides), tuple(kernel_sizes), tuple(divisor))


def _axes_to_halve(spacings: Sequence[float], size: Sequence[float]) -> list[int]:
    roomy = [axis for axis, length in enumerate(size) if length >= 2 * SMALLEST_EDGE]
    if not roomy:
        return roomy
    finest = min([spacings[axis] for axis in roomy])
    halved = [axis for axis in roomy if spacings[axis] / finest < SIMILAR_SPACING]
    # a stage that halves one short axis alone is not worth its weights
    if len(halved) == 1 and size[halved[0]] < 3 * SMALLEST_EDGE:
        return []
    return halved
