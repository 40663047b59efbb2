"""Why the training settings are what they are."""

from __future__ import annotations

from collections.abc import Collection

from autoseg.planning.presets import Preset
from autoseg.records import Reason, TrainSettings

#: Setting -> what it does for the training, and what is the alternative.
_WORDS = {
    "optimizer": (
        "adamw learns faster in short trainings; sgd is nnU-Net's, for its long ones",
        "Chosen with --optimizer or --set optimizer=…, which brings its own rate, decay and warm-up.",
    ),
    "learning_rate": (
        "what suits this optimizer with normalized features, decaying to 0 at the end",
        "A higher rate may diverge, a lower one needs more steps.",
    ),
    "momentum": ("for sgd only", "Less smooths the steps less."),
    "weight_decay": ("what suits this optimizer", "None would let weights grow without need."),
    "warmup_steps": (
        "adamw's first steps are uncertain, sgd's are not",
        "With no warm-up adamw begins with steps too large.",
    ),
    "schedule": (
        "how the learning rate falls; poly is nnU-Net's, and ends at 0",
        "A run may choose another one: --set schedule=NAME.",
    ),
    "patience": (
        "epochs without improvement that end a run; 0 never does, since late gains come from the falling rate",
        "Ending early would hurt hard datasets: published curves rise until the end of the schedule.",
    ),
    "decay_power": ("nnU-Net's: nearly linear", "A constant rate would end on unsettled weights."),
    "loss": (
        "Dice follows the overlap that counts, cross-entropy gives each voxel a gradient",
        "Either alone trains less steadily.",
    ),
    "foreground_share": (
        "this share of patches is centred on a label, so that small ones are seen",
        "With none, patches of large images would mostly show background; with all, never background alone.",
    ),
    "augmentation": ("nnU-Net's changes of shape and intensity", "Less of it overfits in long trainings."),
    "gradient_clip": ("nnU-Net's", "Without it a single bad patch may undo the training."),
    "ema_decay": (
        "weights averaged over the last steps, where above 0",
        "The last weights alone scored up to 0.004 Dice lower on Hippocampus; nnU-Net does not average.",
    ),
    "seed": ("every random number follows from it", "Another seed gives an equally good training."),
    "sampling": (
        "the label on which a patch is centred is drawn anew in each case, all its labels alike, as in nnU-Net",
        "balanced favours labels that patches seldom show; small (--focus small) draws every lesion alike.",
    ),
    "channel_dropout": (
        "the chance of each channel of a sample to be zeros",
        "Above 0 a model learns to do without a channel that may be missing later, at a small cost where none is.",
    ),
}


def training_reasons(
    training: TrainSettings, main: str, preset: Preset, defaults: TrainSettings, given: Collection[str]
) -> tuple[Reason, ...]:
    """A reason for each training setting of a plan.

    Args:
        training: the settings.
        main: the configuration that is trained by default.
        preset: where the defaults come from.
        defaults: the preset's own settings.
        given: names of those that a person set.
    """
    reasons = [
        Reason(
            field="training.epochs",
            value=str(training.epochs),
            because=f"Those of {main}, which is trained by default.",
            instead="Each configuration has epochs of its own, which its training takes.",
        )
    ]
    for name, (purpose, instead) in _WORDS.items():
        value, default = getattr(training, name), getattr(defaults, name)
        because = f"Constant of preset {preset.name!r}: {purpose}."
        constant = name not in given and value == default
        if name in given:
            because = f"Given by --set {name}={value} instead of what the preset has: {default}."
        elif value != default:
            because = f"Follows from --set optimizer={training.optimizer}; preset {preset.name!r} has {default}."
        reasons.append(
            Reason(field=f"training.{name}", value=str(value), because=because, instead=instead, constant=constant)
        )
    if training.budget_seconds is not None:
        because = f"Given by --set budget_seconds={training.budget_seconds:g}."
        instead = "Without a budget the number of epochs decides."
        reasons.append(
            Reason(
                field="training.budget_seconds", value=f"{training.budget_seconds:g}", because=because, instead=instead
            )
        )
    return tuple(reasons)
