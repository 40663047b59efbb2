"""Losses: soft Dice and cross-entropy, for labels and for regions, with deep supervision.

A loss is a formula over totals: a few numbers that add up over samples, whoever computes them. So the samples of a
batch may be computed by several processes, or in parts one after the other: the totals are added, the formula is
applied to the sum, and its slope with respect to each total is what every part goes backward with. Value and gradient
are those of the whole batch, also where the formula is a ratio of totals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from autoseg.errors import TrainingError
from autoseg.records import Labels
from autoseg.training.loss_sums import Sums, label_sums, region_sums

#: Added to numerator and denominator of the Dice (nnU-Net's value).
SMOOTH = 1e-5


class Loss(Protocol):
    """Scores (B, K, *space) and labels (B, *space) to one number, to be made small.

    `drawn` (B, K), booleans, tells which outputs are known in each sample; None is all, which is faster.
    """

    def __call__(self, scores: Tensor, labels: Tensor, drawn: Tensor | None = None, /) -> Tensor:
        """The loss."""
        ...


#: Labels of the dataset, and whether Dice sums over the batch, to a loss.
LossBuilder = Callable[[Labels, bool], Loss]


@dataclass(frozen=True, eq=False)
class LossOfTotals:
    """A loss as a formula over totals."""

    totals: Callable[[Tensor, Tensor, Tensor | None], Tensor]  # scores, labels, drawn to numbers that add up, (n,)
    value: Callable[[Tensor], Tensor]  # the loss, from the totals of all samples
    separable: bool  # whether the slopes of the formula follow from labels alone, whatever the scores

    def __call__(self, scores: Tensor, labels: Tensor, drawn: Tensor | None = None, /) -> Tensor:
        """The loss of the samples given."""
        return self.value(self.totals(scores, labels, drawn))


def of_totals(loss: Loss) -> LossOfTotals:
    """The loss as a formula over totals; one that is not such a formula counts as a mean over samples."""
    if isinstance(loss, LossOfTotals):
        return loss

    def totals(scores: Tensor, labels: Tensor, drawn: Tensor | None) -> Tensor:
        mean = loss(scores, labels, drawn)
        return torch.stack([mean * len(scores), torch.full_like(mean, len(scores))])

    return LossOfTotals(totals, lambda total: total[0] / total[1], separable=True)


# ---------------------------------------------------------------------------------------- Dice and cross-entropy


def dice_totals(sums: Sums, *, batch_dice: bool, background: bool) -> Tensor:
    """What the soft Dice adds up over samples: (2,) of ratios and their number, or with `batch_dice` (4 K,) of sums.

    `background` keeps the first class; without it there must be another. What was not drawn does not count.
    """
    start = 0 if background else 1
    parts = [part[:, start:] for part in (sums.intersection, sums.predicted, sums.reference)]
    counts = torch.ones_like(parts[0]) if sums.drawn is None else sums.drawn[:, start:].to(parts[0].dtype)
    if batch_dice:
        return torch.cat([part.sum(0) for part in (*parts, counts)])
    return torch.stack([(_ratios(*parts) * counts).sum(), counts.sum()])


def dice_value(totals: Tensor, *, batch_dice: bool) -> Tensor:
    """Mean soft Dice over classes, and over samples unless they were summed first (`batch_dice`); nnU-Net's formula."""
    if not batch_dice:
        return totals[0] / totals[1].clamp(min=1)
    intersection, predicted, reference, counts = totals.view(4, -1)
    known = (counts > 0).to(totals.dtype)
    overlap: Tensor = (_ratios(intersection, predicted, reference) * known).sum() / known.sum().clamp(min=1)
    return overlap


def _ratios(intersection: Tensor, predicted: Tensor, reference: Tensor) -> Tensor:
    return (2 * intersection + SMOOTH) / (predicted + reference + SMOOTH).clamp(min=1e-8)


def _sums(labels: Labels) -> Callable[[Tensor, Tensor, Tensor | None], Sums]:
    """The sums that suit the labels: sigmoid for regions, else softmax."""
    ignore = labels.ignore_index
    if labels.has_regions:
        members = tuple(labels.foreground.values())
        return lambda scores, reference, drawn: region_sums(scores, reference, ignore, members, drawn)
    if labels.heads < 2:
        raise TrainingError("there is no label but the background, so there is nothing to learn", where="labels")
    return lambda scores, reference, drawn: label_sums(scores, reference, ignore, drawn)


def _loss(labels: Labels, batch_dice: bool, *, dice: float, cross_entropy: float) -> LossOfTotals:
    """So many times the cross-entropy per valid voxel (0 where none is valid) minus so many times the Dice."""
    sums_of = _sums(labels)

    def totals(scores: Tensor, reference: Tensor, drawn: Tensor | None) -> Tensor:
        sums = sums_of(scores, reference, drawn)
        overlap = dice_totals(sums, batch_dice=batch_dice, background=labels.has_regions)
        return torch.cat([torch.stack([sums.cross_entropy, sums.terms]), overlap])

    def value(total: Tensor) -> Tensor:
        mean = total[0] / total[1].clamp(min=1)
        return cross_entropy * mean - dice * dice_value(total[2:], batch_dice=batch_dice)

    return LossOfTotals(totals, value, separable=not (batch_dice and dice))


def dice_ce(labels: Labels, batch_dice: bool) -> Loss:
    """Soft Dice without background plus cross-entropy, 1:1 (nnU-Net, Isensee et al. 2021). It can be negative.

    Regions: Dice of every region plus binary cross-entropy. Ignored voxels count in neither and get no gradient.
    """
    return _loss(labels, batch_dice, dice=1.0, cross_entropy=1.0)


def dice(labels: Labels, batch_dice: bool) -> Loss:
    """Soft Dice alone, negated."""
    return _loss(labels, batch_dice, dice=1.0, cross_entropy=0.0)


def ce(labels: Labels, batch_dice: bool) -> Loss:
    """Cross-entropy alone (binary for regions); `batch_dice` has no meaning here."""
    return _loss(labels, batch_dice, dice=0.0, cross_entropy=1.0)


LOSSES: dict[str, LossBuilder] = {"dice_ce": dice_ce, "dice": dice, "ce": ce}


def find_loss(name: str) -> LossBuilder:
    """The loss of that name. Raises TrainingError, with the known names, if there is none."""
    if name not in LOSSES:
        raise TrainingError(
            f"unknown loss {name!r}",
            where="setting loss",
            remedy=f"Known: {', '.join(LOSSES)}; name the module that adds another with --use.",
        )
    return LOSSES[name]


def level_weights(levels: int) -> tuple[float, ...]:
    """Weight of each resolution, finest first: halved at every level, none for the coarsest, 1 in all (nnU-Net).

    A network with one output keeps it at weight 1 (nnU-Net's rule would divide 0 by 0).
    """
    if levels == 1:
        return (1.0,)
    raw = [0.5**level for level in range(levels - 1)]
    return (*(weight / sum(raw) for weight in raw), 0.0)


def deep_supervision_totals(
    outputs: Tensor | Sequence[Tensor], labels: Tensor, loss: LossOfTotals, drawn: Tensor | None = None
) -> Tensor:
    """Totals (levels with a weight, n) of scores at several resolutions.

    Args:
        outputs: scores (B, K, *space) per resolution, finest first, or those of the finest alone.
        labels: (B, *space) of the finest resolution; coarser ones take the nearest voxel.
        loss: whose totals they are.
        drawn: (B, K) booleans, which outputs are known in each sample; None is all.
    """
    levels = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    return torch.stack(
        [
            loss.totals(scores, downsample_labels(labels, scores.shape[2:]), drawn)
            for scores, weight in zip(levels, level_weights(len(levels)), strict=True)
            if weight > 0
        ]
    )


def deep_supervision_value(totals: Tensor, loss: LossOfTotals) -> Tensor:
    """The weighted loss of the totals (levels with a weight, n) of all samples."""
    levels = len(totals)
    weights = level_weights(levels if levels == 1 else levels + 1)
    value = torch.zeros((), device=totals.device)
    for total, weight in zip(totals, weights, strict=False):  # the coarsest level has no weight and no totals
        value = value + weight * loss.value(total)
    return value


def downsample_labels(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """Labels (B, *space) on a coarser grid, each voxel from the one nearest to its centre (torch's nearest-exact)."""
    for axis, (size, new) in enumerate(zip(labels.shape[1:], shape, strict=True), start=1):
        if size != new:
            # floor((i + 1/2) * size / new), in integers
            index = (2 * torch.arange(new, device=labels.device) + 1) * size // (2 * new)
            labels = labels.index_select(axis, index)
    return labels
