"""The curves of a training as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoseg.files import written_aside
from autoseg.records import EpochRecord

#: Curves are drawn from at most this many epochs, so that drawing does not grow with the length of the run.
MOST_POINTS = 400


def draw_curves(path: Path, title: str, records: Sequence[EpochRecord]) -> None:
    """Loss, patch Dice per label and learning rate over epochs, as a PNG, written atomically."""
    from matplotlib.figure import Figure  # loading it takes a second: only who draws pays

    stride = max(1, len(records) // MOST_POINTS)
    shown = records[::stride] if (len(records) - 1) % stride == 0 else [*records[::stride], records[-1]]
    epochs = [record.epoch + 1 for record in shown]
    figure = Figure(figsize=(10, 6), layout="constrained")
    loss_axis, dice_axis = figure.subplots(2, 1, sharex=True)
    loss_axis.plot(epochs, [record.train_loss for record in shown], color="#1f5fa8", label="training loss")
    loss_axis.set_ylabel("loss")
    loss_axis.set_title(title)
    rate_axis = loss_axis.twinx()
    rate_axis.plot(
        epochs, [record.learning_rate for record in shown], color="#999999", linewidth=1, label="learning rate"
    )
    rate_axis.set_ylabel("learning rate")
    for name in shown[-1].patch_dice_per_label if shown else ():
        values = [record.patch_dice_per_label.get(name) for record in shown]
        dice_axis.plot(
            epochs, [float("nan") if value is None else value for value in values], linewidth=1.2, label=name
        )
    dice_axis.set_ylabel("Dice of held-out patches\n(a proxy, not the full-volume Dice)")
    dice_axis.set_xlabel("epoch")
    dice_axis.set_ylim(0, 1)
    dice_axis.grid(alpha=0.3)
    if shown and 0 < len(shown[-1].patch_dice_per_label) <= 12:
        dice_axis.legend(loc="lower right", fontsize=8)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=90, format="png")
