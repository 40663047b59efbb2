"""The loss of all resolutions in one call; a step adds up totals of its parts in between."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from autoseg.training.losses import Loss, deep_supervision_totals, deep_supervision_value, of_totals


def deep_supervision_loss(
    levels: Tensor | Sequence[Tensor], labels: Tensor, loss: Loss, drawn: Tensor | None = None
) -> Tensor:
    """The weighted loss of scores at several resolutions, as a step computes it of all its samples."""
    formula = of_totals(loss)
    return deep_supervision_value(deep_supervision_totals(levels, labels, formula, drawn), formula)
