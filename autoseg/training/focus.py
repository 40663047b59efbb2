"""What the forced samples of a batch are centred on, where nnU-Net's rule is not enough.

nnU-Net draws a case, then one of its labels (`training.patches`). Two other rules look at the whole training set:

    balanced    labels are drawn inversely to how often patches show them
    small       every connected component of a label ("lesion") is drawn alike, however small it is

Both are functions of the cases and the seed alone, and draw from the sample's own generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.components import pieces_of
from autoseg.preprocessing.locations import label_voxels
from autoseg.records import Labels
from autoseg.training.patches import Focus, Sampling, TrainingCase, draw_patch, sample_generator

#: Patches that are drawn, but not cropped, to see how often each label is in one.
TRIAL_PATCHES = 512

#: Steps whose samples are drawn for that count from here, so that they never meet training's.
TRIAL_FIRST_STEP = 1 << 41

#: A label that patches never show counts as if this share of them did.
LEAST_SHARE = 1 / TRIAL_PATCHES

#: Voxels that are kept of each connected component to centre patches on.
VOXELS_PER_COMPONENT = 64


@dataclass(frozen=True, eq=False)
class BalancedLabels:
    """Labels by weight, then a case that has the label, then one of its voxels."""

    voxels: tuple[tuple[tuple[int, NDArray[np.int32]], ...], ...]  # per label: (case, (N, 3))
    weights: NDArray[np.float64]  # per label, 1 in all

    def draw(self, generator: np.random.Generator) -> tuple[int, NDArray[np.int32]]:
        """Case and voxel to centre a patch on."""
        label = self.voxels[int(generator.choice(len(self.weights), p=self.weights))]
        case, found = label[int(generator.integers(len(label)))]
        chosen: NDArray[np.int32] = found[int(generator.integers(len(found)))]
        return case, chosen


@dataclass(frozen=True, eq=False)
class Lesions:
    """Labels alike, then the connected components of the label in all cases alike, then a voxel of the component."""

    components: tuple[tuple[tuple[int, NDArray[np.int32]], ...], ...]  # per label: (case, (N, 3))

    def draw(self, generator: np.random.Generator) -> tuple[int, NDArray[np.int32]]:
        """Case and voxel to centre a patch on."""
        label = self.components[int(generator.integers(len(self.components)))]
        case, found = label[int(generator.integers(len(label)))]
        chosen: NDArray[np.int32] = found[int(generator.integers(len(found)))]
        return case, chosen


def make_focus(rule: str, cases: Sequence[TrainingCase], sampling: Sampling, labels: Labels) -> Focus | None:
    """The focus of a rule of `TrainSettings.sampling`; None for nnU-Net's, and where no case has any foreground."""
    if rule == "balanced":
        return balanced(cases, sampling)
    if rule == "small":
        return lesions(cases, labels)
    return None


def balanced(cases: Sequence[TrainingCase], sampling: Sampling) -> BalancedLabels | None:
    """Labels with weights inverse to the share of patches, drawn by nnU-Net's rule, in which they occur."""
    found = [label_voxels(case.locations, sampling.has_ignore) for case in cases]
    names = dict.fromkeys(name for labels in found for name in labels)
    voxels = {
        name: tuple((index, labels[name]) for index, labels in enumerate(found) if len(labels.get(name, ())))
        for name in names
    }
    present = [name for name, places in voxels.items() if places]
    if not present:
        return None
    shares = shown_shares(cases, sampling, present)
    weights = 1 / np.maximum([shares[name] for name in present], LEAST_SHARE)
    return BalancedLabels(tuple(voxels[name] for name in present), weights / weights.sum())


def shown_shares(cases: Sequence[TrainingCase], sampling: Sampling, names: Sequence[str]) -> dict[str, float]:
    """The share of patches by nnU-Net's rule in which each label occurs, from TRIAL_PATCHES draws."""
    plain = replace(sampling, initial_size=sampling.patch_size, focus=None)
    size = np.asarray(sampling.patch_size)
    counts = dict.fromkeys(names, 0)
    for number in range(TRIAL_PATCHES):
        step, position = TRIAL_FIRST_STEP + number // sampling.batch_size, number % sampling.batch_size
        drawn = draw_patch(sample_generator(sampling.seed, step, position), cases, plain, position)
        start = np.asarray(drawn.start)
        for name in names:
            found = cases[drawn.case].locations.get(name)
            if found is not None and len(found):
                counts[name] += bool(np.all((found >= start) & (found < start + size), axis=1).any())
    return {name: count / TRIAL_PATCHES for name, count in counts.items()}


def lesions(cases: Sequence[TrainingCase], labels: Labels) -> Lesions | None:
    """The connected components (touching by a corner counts) of every label, a few voxels of each.

    Each case's labels are read once. A 2D training looks for components in the volume, as a person would.
    """
    components: list[list[tuple[int, NDArray[np.int32]]]] = [[] for _ in labels.foreground]
    for index, case in enumerate(cases):
        values = case.read_labels()
        for label, members in enumerate(labels.foreground.values()):
            mask = np.isin(values, members)
            if mask.any():
                components[label].extend((index, voxels) for voxels in component_voxels(mask))
    present = tuple(tuple(found) for found in components if found)
    return Lesions(present) if present else None


def component_voxels(mask: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    """Voxels (n, 3) of each connected component of a mask (Z, Y, X), evenly thinned to VOXELS_PER_COMPONENT."""
    numbered, _ = pieces_of(mask)
    voxels = np.argwhere(mask).astype(np.int32)
    owner = numbered[tuple(voxels.T)]
    order = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[order], np.arange(1, int(owner.max()) + 2))
    found = []
    for first, last in pairwise(edges):
        stride = max(1, -(-(last - first) // VOXELS_PER_COMPONENT))
        found.append(voxels[order[first:last:stride]])
    return found
