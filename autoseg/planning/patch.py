"""Patch and batch size: the largest patch that fits the budget, then as many samples as help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autoseg.errors import PlanError
from autoseg.planning.decision import Decision, millions, times
from autoseg.planning.families import Family
from autoseg.planning.presets import DeviceBudget, Limits, Variant, Work
from autoseg.planning.topology import Topology
from autoseg.words import counted

#: A patch is not cut below this edge merely because it covers much of the image.
SMALLEST_COVERING_EDGE = 16


@dataclass(frozen=True)
class Fitted:
    """A patch with its network, and how it came about."""

    topology: Topology
    elements: int  # of convolution outputs, per sample
    first: Topology  # before anything was cut for the budget
    first_elements: int
    cuts: int  # how often an axis was cut
    larger: tuple[Topology, int] | None = None  # patch and elements before the last cut
    start: tuple[float, ...] = ()  # what it began with, before it was padded

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Voxels per axis."""
        return self.topology.patch_size

    @property
    def patch_voxels(self) -> int:
        """Voxels in all."""
        return math.prod(self.topology.patch_size)


@dataclass(frozen=True)
class Fitter:
    """Finds patches for one network family, one budget and one number of outputs."""

    variant: Variant
    dimensions: Literal[2, 3]
    factor: float  # what the preset's elements are multiplied by on this device
    outputs: int
    family: Family  # of the network
    given: tuple[int, ...] | None = None  # a patch that a person chose
    channels: int = 1  # of the images
    batch_factor: float | None = None  # the same for the batch, where memory beyond the reference is for patches only
    largest_step: float | None = None  # elements of a step for which there is memory, where the budget is of time

    @property
    def limits(self) -> Limits:
        """The preset's limits for these dimensions."""
        return self.variant.limits(self.dimensions)

    @property
    def budget(self) -> float:
        """Elements that each sample of the reference batch may hold."""
        return self.limits.elements * self.factor

    @property
    def batch_budget(self) -> float:
        """Elements that the samples of a batch may hold together."""
        factor = self.factor if self.batch_factor is None else self.batch_factor
        return self.limits.elements * factor * self.limits.reference_batch

    @property
    def largest_sample(self) -> float:
        """Elements that one sample may hold, if as many samples fit as must."""
        return self.budget * self.limits.reference_batch / self.limits.fitted_samples

    def elements(self, topology: Topology) -> int:
        """Elements of convolution outputs of one sample."""
        return self.family.elements(topology, self.limits.max_features, self.channels, self.outputs)

    def fits(self, elements: int) -> bool:
        """Whether as many samples of this size as must fit, do."""
        return elements * self.limits.fitted_samples / self.limits.reference_batch <= self.budget

    def covers_too_much(self, topology: Topology, median_shape: Sequence[float]) -> bool:
        """Whether a patch has a larger share of the median image than is useful on this device."""
        largest = self.limits.largest_coverage
        return largest is not None and math.prod(topology.patch_size) > largest * math.prod(median_shape)

    def fit(self, spacing: Sequence[float], median_shape: Sequence[float]) -> Fitted:
        """The patch for images of `median_shape` voxels at `spacing` mm (both of the prepared axes).

        Rule (nnU-Net): begin with the box of equal physical edges that has edge³ (2D: edge²) voxels, no longer than
        the median image; while it does not fit, cut the axis that covers most of the image. Where the preset limits
        the share of the image that a patch may have, cut for that as well, down to 16 voxels an axis. A given patch is
        taken as it is (padded, where it is not divisible: who calls looks at that).
        """
        if self.given is not None:
            chosen = self.family.topology(spacing, tuple(float(length) for length in self.given))
            size = self.elements(chosen)
            return Fitted(chosen, size, chosen, size, cuts=0)
        start = np.minimum(_isotropic_box(spacing, self.limits.edge), np.asarray(median_shape, dtype=np.float64))
        first = topology = self.family.topology(spacing, tuple(float(length) for length in start))
        if self.family.entry is not None:
            return self._counted(first, spacing, median_shape, tuple(float(length) for length in start))
        first_elements = elements = self.elements(topology)
        cuts, larger = 0, None
        while not self.fits(elements) or (
            self.covers_too_much(topology, median_shape) and min(topology.patch_size) > SMALLEST_COVERING_EDGE
        ):
            larger = (topology, elements)
            topology = _cut(topology, spacing, median_shape, self.family)
            elements = self.elements(topology)
            cuts += 1
        return Fitted(topology, elements, first, first_elements, cuts, larger, tuple(float(length) for length in start))

    def _counted(
        self, first: Topology, spacing: Sequence[float], median_shape: Sequence[float], start: tuple[float, ...]
    ) -> Fitted:
        """The same rule for a network that has to be counted, which takes a moment: the cuts are searched by halves."""
        row = _cuts(first, spacing, median_shape, self.family)
        low = next(
            (
                number
                for number, topology in enumerate(row)
                if not self.covers_too_much(topology, median_shape)
                or min(topology.patch_size) <= SMALLEST_COVERING_EDGE
            ),
            len(row) - 1,
        )
        high = len(row) - 1
        while low < high:  # the first of the row that fits lies within [low, high]
            middle = (low + high) // 2
            low, high = (low, middle) if self.fits(self.elements(row[middle])) else (middle + 1, high)
        while low < len(row) - 1 and not self.fits(self.elements(row[low])):
            low += 1  # a shallower network can hold more than a deeper one
        chosen, elements = row[low], self.elements(row[low])
        if not self.fits(elements):
            self._require_memory(chosen, elements)
        larger = (row[low - 1], self.elements(row[low - 1])) if low else None
        return Fitted(chosen, elements, first, self.elements(first), low, larger, start)

    def _require_memory(self, smallest: Topology, elements: int) -> None:
        """Raise PlanError where not even the smallest patch fits; a budget of time alone may be passed."""
        if self.largest_step is not None and elements * self.limits.fitted_samples <= self.largest_step:
            return
        raise PlanError(
            f"network {self.family.network!r} is too large for this budget: its smallest patch, "
            f"{times(smallest.patch_size)}, holds {millions(elements)} elements a sample, and "
            f"{millions(self.largest_sample)} fit",
            remedy="Choose another --network, or give the plan more memory.",
        )


def _cuts(first: Topology, spacing: Sequence[float], median_shape: Sequence[float], family: Family) -> list[Topology]:
    """The patch and all smaller ones: the axis that covers most of the median image loses one divisor each time."""
    row = [first]
    while True:
        last = row[-1]
        by_coverage = sorted(
            range(len(last.patch_size)),
            key=lambda axis: (last.patch_size[axis] / median_shape[axis], axis),
            reverse=True,
        )
        smaller = (family.shorter(last, spacing, axis) for axis in by_coverage)
        following = next((topology for topology in smaller if topology is not None), None)
        if following is None:
            return row
        row.append(following)


def _isotropic_box(spacing: Sequence[float], edge: int) -> list[int]:
    inverse = 1 / np.asarray(spacing, dtype=np.float64)
    scale = (edge ** len(inverse) / np.prod(inverse)) ** (1 / len(inverse))
    return [round(float(length)) for length in inverse * scale]


def _cut(topology: Topology, spacing: Sequence[float], median_shape: Sequence[float], family: Family) -> Topology:
    """A smaller patch: the axis that covers most of the median image loses one divisor."""
    patch = list(topology.patch_size)
    coverage = [size / length for size, length in zip(patch, median_shape, strict=True)]
    axis = max(range(len(patch)), key=lambda a: (coverage[a], a))
    trial = list(patch)
    trial[axis] -= topology.divisor[axis]
    shorter = family.topology(spacing, trial)
    if shorter.divisor[axis] == topology.divisor[axis] and trial[axis] > 0:
        return shorter
    # the shorter patch is halved less often: then less than the old divisor has to go
    patch[axis] -= shorter.divisor[axis]
    if patch[axis] < 1:
        raise PlanError(
            f"no patch is small enough for this budget (reached {times(topology.patch_size)})",
            remedy="Give the plan more memory, or merge labels: each costs a full-resolution output.",
        )
    return family.topology(spacing, patch)


def batch_size(fitter: Fitter, fitted: Fitted, dataset_voxels: float) -> Decision[int]:
    """Samples per step: what the budget holds, but only a small share of the dataset, and at least two (nnU-Net)."""
    variant, limits = fitter.variant, fitter.limits
    if fitter.batch_factor is None:
        held = round(fitter.budget / fitted.elements * limits.reference_batch)  # nnU-Net's order: it can decide a half
    else:
        held = round(fitter.batch_budget / fitted.elements)
    bounds = {
        f"{variant.dataset_share:.0%} of the dataset's voxels": round(
            dataset_voxels * variant.dataset_share / fitted.patch_voxels
        )
    }
    if limits.largest_batch is not None:
        bounds["the preset's largest useful batch"] = limits.largest_batch
    name, bound = min(bounds.items(), key=lambda entry: entry[1])
    batch = max(min(held, bound), variant.smallest_batch)
    memory = f"the budget holds {counted(held, 'sample')} of {millions(fitted.elements)} elements"
    more = (
        f"{batch + 1} samples would hold {millions((batch + 1) * fitted.elements)} of {millions(fitter.batch_budget)}"
    )
    if min(held, bound) < variant.smallest_batch:
        return Decision(
            batch,
            f"The least that training needs: {memory}, and the bound is {bound} ({name}).",
            f"One sample alone gives a loss too unsteady to follow. {more}.",
        )
    if held <= bound:
        return Decision(batch, f"{_upper(memory)}; the upper bound was {bound} ({name}).", f"{more}.")
    return Decision(
        batch,
        f"{_upper(memory)}, but the bound is {bound} ({name}).",
        "Larger batches make each step slower and did not help where that was measured (Hippocampus, published nnU-Net "
        "runs: 58 instead of 9 lost 0.3 Dice points, 178 lost 0.4, at 4 and 13 times the hours).",
    )


def _upper(words: str) -> str:
    return words[0].upper() + words[1:]


def memory_elements(work: Work, device: DeviceBudget) -> float | None:
    """Elements of a step for which a CPU has memory, where the budget is of time; None where it is of memory."""
    return max(device.memory_gb, 1) / work.reference_gb * work.step_elements if work.per == "core" else None


def work_factor(work: Work, limits: Limits, device: DeviceBudget, memory_gb: float | None = None) -> Decision[float]:
    """What the preset's elements are multiplied by, and why.

    `memory_gb` is what a person gave: a preset that does not ask the device scales its budget by it.
    """
    if work.per == "preset":
        if memory_gb is None:
            return Decision(1.0, "the preset's own budget, whatever the device")
        own = work.reference_gb
        return Decision(memory_gb / own, f"the preset's own budget for {own} GB, scaled to the given {memory_gb:g} GB")
    if work.per == "memory":
        # Apple's GPU shares its memory with everything else that runs
        usable = device.memory_gb if device.kind == "cuda" else device.memory_gb / 2
        counted = max(min(usable, work.largest_gb), 1)
        more = f", more ({usable:g} GB) is not spent: no published result used it" if usable > counted else ""
        return Decision(counted / work.reference_gb, f"{counted:g} GB of device memory{more}")
    cores = min(device.cores, work.largest_cores)
    step = limits.elements * limits.reference_batch
    by_memory = (memory_elements(work, device) or 0.0) / step
    if by_memory < cores:
        return Decision(by_memory, f"{device.memory_gb:g} GB of memory, less than {cores} cores could use")
    return Decision(float(cores), f"{millions(step)} a step for each of {cores} CPU cores, so that it stays short")
