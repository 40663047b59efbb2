"""How long to train: steps in an epoch, and epochs."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.planning.decision import Decision
from autoseg.planning.exposure import BACKGROUND, Exposure
from autoseg.planning.presets import Length

#: nnU-Net's length, for every dataset.
NNUNET_EPOCHS, NNUNET_STEPS = 1000, 250


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
        return Decision(
            most,
            "The preset's fixed number, for any dataset.",
            f"The images hold {parts:.0f} patches: one visit to each would be {wanted} steps of {batch}.",
        )
    steps = min(max(wanted, fewest), most)
    bound = (
        ""
        if steps == wanted
        else f"; at least {fewest} and at most {most}, for reports and saved states at a fair pace"
    )
    return Decision(
        steps,
        f"The images hold {parts:.0f} patches: {wanted} steps of {batch} visit each once{bound}.",
        f"nnU-Net's fixed {NNUNET_STEPS} steps would be {NNUNET_STEPS * batch / parts:.2g} visits.",
    )


def epochs(length: Length, exposures: Sequence[Exposure], batch: int, steps: int) -> Decision[int]:
    """Epochs of a whole training: until its patches have shown each voxel, and each label, often enough; bounded.

    Args:
        length: the preset's demands and bounds.
        exposures: what a random patch shows of each label, the background included.
        batch: samples per step.
        steps: per epoch.
    """
    fewest, most = length.epochs
    if length.fixed:
        return Decision(
            most,
            "The preset's fixed number, for any dataset.",
            "Preset 'auto' plans it from how often the patches show each voxel of the training images.",
        )
    # where every patch is centred on foreground, nothing can be asked for the background
    shown = [exposure for exposure in exposures if exposure.voxel > 0]
    rarest = min(shown, key=lambda exposure: exposure.voxel)
    hidden = min(shown, key=lambda exposure: exposure.any_part)
    demands = {
        f"{length.visits:g} patches with each voxel ({_named(rarest.label)} is seen least: a patch holds a given voxel "
        f"of it with chance {rarest.voxel:.2g})": length.visits / rarest.voxel,
        f"{length.label_patches:g} patches that show {_named(hidden.label)} (a patch does with chance "
        f"{hidden.any_part:.2g})": length.label_patches / hidden.any_part,
        "the least for any dataset": float(length.fewest_samples),
    }
    rule, samples = max(demands.items(), key=lambda entry: entry[1])
    wanted = samples / (batch * steps)
    count = round(min(max(wanted, fewest), most))
    bound = "" if fewest <= wanted <= most else f"; at least {fewest} and at most {most}"
    fixed = NNUNET_EPOCHS * NNUNET_STEPS / (count * steps)
    return Decision(
        count,
        f"{samples:,.0f} patches, {rule}: {wanted:,.0f} epochs of {steps} steps of {batch}{bound}.",
        f"nnU-Net's {NNUNET_EPOCHS} epochs of {NNUNET_STEPS} steps would be {fixed:.2g} times as many steps; "
        "published curves are flat after 50 of those epochs on Hippocampus and still rise after 800 on Colon.",
    )


def _named(label: str) -> str:
    return label if label == BACKGROUND else repr(label)
