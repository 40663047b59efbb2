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
    wanted = round(parts / batch)
    if fewest == most:
        return Decision(most, f"The preset's fixed number; the images hold {parts:.0f} patches, {wanted} batches.")
    steps = min(max(wanted, fewest), most)
    bound = (
        ""
        if steps == wanted
        else f"; at least {fewest} and at most {most}, for reports and saved states at a fair pace"
    )
    return Decision(steps, f"The images hold {parts:.0f} patches: {wanted} steps of {batch} visit each once{bound}.")


def epochs(length: Length, parts: float, batch: int, steps: int) -> Decision[int]:
    """Epochs of a whole training: until each part of the images was seen often enough, within bounds."""
    fewest, most = length.epochs
    if fewest == most:
        return Decision(most, "The preset's fixed number, for any dataset.")
    visits = length.visits * parts
    wanted = round(max(visits, length.fewest_samples) / (batch * steps))
    count = min(max(wanted, fewest), most)
    rule = f"{length.visits:g} visits to each of {parts:.0f} patch-sized parts of the images"
    if visits < length.fewest_samples:
        rule = f"At least {length.fewest_samples} patches, which is more than {rule}"
    bound = "" if count == wanted else f"; at least {fewest} and at most {most}"
    return Decision(
        count,
        f"{rule}: {wanted} epochs of {steps} steps of {batch}{bound}. A number fixed for all datasets would "
        f"waste or starve: published nnU-Net curves are flat after 50 of 1000 epochs on Hippocampus, and still "
        f"rise after 800 on Colon.",
    )
