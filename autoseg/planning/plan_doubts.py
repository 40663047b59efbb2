"""What speaks against a plan that was asked for; it is carried out all the same."""

from __future__ import annotations

from collections.abc import Iterator

from autoseg.planning.step import weights_of
from autoseg.records import Configuration, Fingerprint, Plan, Problem

#: By so much a voxel may be larger than an image's without being called coarser.
ROUNDING = 1.01


def plan_doubts(plan: Plan, fingerprint: Fingerprint) -> tuple[Problem, ...]:
    """Warnings where a transformer was chosen, and where objects that touch cannot be told apart in coarser voxels."""
    return (*_doubts_of_networks(plan, fingerprint), *_doubts_of_objects(plan, fingerprint))


def _doubts_of_networks(plan: Plan, fingerprint: Fingerprint) -> Iterator[Problem]:
    """A transformer, however many cases there are.

    In "nnU-Net Revisited" (Isensee et al. 2024) four transformers, trained by nnU-Net on six data sets, had a lower
    Dice than its plain U-Net in 22 of 24 comparisons.
    """
    names = {entry.network for entry in plan.configurations.values()} - {"unet", "resenc"}
    if not names:
        return
    from autoseg.networks.catalog import find_network  # loads torch

    yield from (_doubt(plan, fingerprint, name) for name in sorted(names) if find_network(name).transformer)


def _doubt(plan: Plan, fingerprint: Fingerprint, name: str) -> Problem:
    largest = max(
        weights_of(entry, len(plan.channels), plan.labels)
        for entry in plan.configurations.values()
        if entry.network == name
    )
    return Problem(
        severity="warning",
        kind="transformer",
        what=f"network {name} has {largest / 1e6:,.0f} million weights, and there are {fingerprint.cases_declared} "
        "cases to learn them from: a transformer has to learn from the data what convolutions have built in, that "
        "neighbours belong together and that place does not matter",
        remedy="Compare it with --network unet on the same folds before you trust it, or begin with the weights of a "
        "training on many images (--init).",
    )


def _doubts_of_objects(plan: Plan, fingerprint: Fingerprint) -> Iterator[Problem]:
    """Configurations whose voxels are larger than what lies between the cores of two objects that touch.

    On the grid of the images cores are apart whatever the voxels are like (`arrays.cores`), but not on a coarser one.
    """
    if plan.labels.core_margin_mm is None:
        return
    between = 2 * plan.labels.core_margin_mm
    for entry in plan.configurations.values():
        coarse = [size for size in _coarser_voxels(entry, fingerprint) if size > between]
        if coarse:
            yield Problem(
                severity="warning",
                kind="objects-too-fine",
                what=f"{entry.name}: its voxels are {max(coarse):.3g} mm, coarser than those of images, and between "
                f"the cores of two objects that touch lie {between:.3g} mm: such objects may be taken for one",
                remedy="Prefer a configuration with finer voxels, or give their size: --set spacing=Z,Y,X (in mm).",
            )


def _coarser_voxels(entry: Configuration, fingerprint: Fingerprint) -> Iterator[float]:
    """Edges in mm of its voxels along axes where some images have finer ones."""
    preparation = entry.preparation
    for axis, size in zip(preparation.axis_order, preparation.spacing, strict=True):
        if size is not None and size > ROUNDING * min(case.spacing[axis] for case in fingerprint.cases):
            yield size
