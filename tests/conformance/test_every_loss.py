"""What every loss of the catalog must do."""

from __future__ import annotations

import pytest
import torch
from loss_builders import deep_supervision_loss

from autoseg.records import Labels
from autoseg.training.losses import LOSSES

LABELS = [
    Labels(names={"background": 0, "organ": 1}),
    Labels(names={"background": 0, "left": 1, "right": 2}, ignore=3),
    Labels(names={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2)),
]


def _perfect(labels: Labels, reference: torch.Tensor) -> torch.Tensor:
    """Scores that leave no doubt."""
    members = list(labels.foreground.values()) if labels.has_regions else [(value,) for value in range(labels.heads)]
    inside = [torch.stack([reference == label for label in values]).any(0) for values in members]
    return torch.stack(inside, 1).float() * 40 - 20


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("shape", [(4, 4, 4), (6, 6)])
def test_every_loss(name: str, labels: Labels, batch_dice: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    loss = LOSSES[name](labels, batch_dice)
    reference = torch.randint(0, len(labels.values), (2, *shape)).short()
    scores = torch.randn(2, labels.heads, *shape, requires_grad=True)
    value = loss(scores, reference)
    assert value.shape == ()
    assert value.dtype == torch.float32
    value.backward()
    assert scores.grad is not None
    assert bool(scores.grad.isfinite().all())
    assert bool(scores.grad.any())
    perfect = loss(_perfect(labels, reference), reference)
    assert float(perfect) < float(value.detach())
    step = loss((scores - 0.1 * scores.grad / scores.grad.norm()).detach(), reference)
    assert float(step) < float(value.detach())  # downhill


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_under_deep_supervision(name: str) -> None:
    loss = LOSSES[name](LABELS[0], True)
    levels = [torch.randn(1, 2, size, size, requires_grad=True) for size in (8, 4, 2)]
    deep_supervision_loss(levels, torch.randint(0, 2, (1, 8, 8)).short(), loss).backward()
    assert [level.grad is not None for level in levels] == [True, True, False]
