"""How long to train: steps in an epoch, and epochs."""

from __future__ import annotations

from autoseg.planning.decision import Decision
from autoseg.planning.presets import Length


def steps_per_epoch(length: Length, parts: float, batch: int) -> Decision[int]:
    """Steps of one epoch: about one visit to every part of the training images, within bounds.

    Args:
        length: the preset's bounds.
        parts: patch-sized parts of all training images (cases × median voxels / patch voxels).
        batch: samples per step.
    """
    fewest, most = length.steps_per_epoch
    if fewest == most:
        return Decision(most, f"The preset's fixed number; one visit to each part of the images would take {parts / batch:.0f}.")
    wanted = round(parts / batch)
    steps = min(max(wanted, fewest), most)
    bound = "" if steps == wanted else f"; kept within {fewest} to {most}, so that reports and saved states come at a fair pace"
    return Decision(
        steps, f"The images hold {parts:.0f} patches in all, which a batch of {batch} visits once in {wanted} steps{bound}."
    )


def epochs(length: Length, parts: float, batch: int, steps: int) -> Decision[int]:
    """Epochs of a whole training: until each part of the images was seen often enough, within bounds."""
    fewest, most = length.epochs
    if fewest == most:
        return Decision(most, "The preset's fixed number, for any dataset.")
    samples = max(length.visits * parts, length.fewest_samples)
    wanted = round(samples / (batch * steps))
    count = min(max(wanted, fewest), most)
    rule = (
        f"{length.visits:g} visits to each of {parts:.0f} patch-sized parts of the images"
        if samples > length.fewest_samples
        else f"at least {length.fewest_samples} patches, more than {length.visits:g} visits to each of {parts:.0f} parts"
    )
    bound = "" if count == wanted else f"; kept within {fewest} to {most}"
    return Decision(
        count,
        f"{rule[0].upper()}{rule[1:]}: {wanted} epochs of {steps} steps of {batch}{bound}. "
        f"A fixed 1000 × 250 would ignore the data (nnU-Net's published curves are flat after 50 epochs on Hippocampus and still "
        f"rise after 900 on Colon).",
    )
