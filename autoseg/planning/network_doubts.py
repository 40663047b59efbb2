"""What speaks against a network that a person chose; the plan follows them all the same."""

from __future__ import annotations

from autoseg.planning.step import weights_of
from autoseg.records import Fingerprint, Plan, Problem


def network_doubts(plan: Plan, fingerprint: Fingerprint) -> tuple[Problem, ...]:
    """A warning where a transformer was chosen.

    However many cases there are: in "nnU-Net Revisited" (Isensee et al. 2024) four transformers, trained by nnU-Net on
    six data sets, had a lower Dice than its plain U-Net in 22 of 24 comparisons.
    """
    names = {entry.network for entry in plan.configurations.values()} - {"unet", "resenc"}
    if not names:
        return ()
    from autoseg.networks.catalog import find_network  # loads torch

    return tuple(_doubt(plan, fingerprint, name) for name in sorted(names) if find_network(name).transformer)


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
