"""What the losses are made of: sums over voxels per sample and output, with gradients in closed form.

Intersection, predicted and reference volume, and the cross-entropy, come from a few passes over the scores; all that
follows is autograd on a handful of numbers.

Where a label was not drawn in a sample, nothing is known of its output there. Regions: the output counts for nothing.
Softmax: the background of such a sample is all that was not drawn, so the scores of background and undrawn labels are
joined into one class (the marginal probability of Fang & Yan 2020 and Shi et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: Score of an output that counts for nothing: its probability is 0 to the last bit.
NOTHING = -1e4


@dataclass(frozen=True, eq=False)
class Sums:
    """What the losses are made of. Shapes (B, K) but for the two numbers."""

    intersection: Tensor  # of probability and reference
    predicted: Tensor  # probability
    reference: Tensor  # voxels
    cross_entropy: Tensor  # summed over valid voxels (and regions)
    terms: Tensor  # what the cross-entropy's sum is divided by for its mean
    drawn: Tensor | None = None  # which entries count for the Dice, booleans; None is all


class _LabelSums(Function):
    """(intersection, predicted, cross-entropy) of softmax(scores) (B, K, V) with labels (B, V), in float32."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        log_probabilities = functional.log_softmax(scores.float(), 1)
        at_label = log_probabilities.gather(1, labels[:, None])[:, 0]  # (B, V)
        probabilities = log_probabilities.exp_()
        own = at_label.exp()  # probability of the true label
        if valid is not None:
            own, at_label = own * valid, at_label * valid
            predicted = torch.einsum("bkv,bv->bk", probabilities, valid)
        else:
            predicted = probabilities.sum(2)
        intersection = _per_label(labels, scores.shape[1], own)
        ctx.save_for_backward(probabilities, own, labels, valid)
        ctx.dtype = scores.dtype
        return intersection, predicted, -at_label.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        probabilities, own, labels, valid = ctx.saved_tensors
        intersection, predicted, cross_entropy = gradients
        # d softmax: p * (g - sum(p * g)), where g = predicted + intersection at the true label
        at_label = own * intersection.gather(1, labels)
        inner = (predicted[:, None] @ probabilities)[:, 0]
        inner = inner.add_(at_label).sub_(cross_entropy)
        result = (predicted[:, :, None] - inner[:, None]).mul_(probabilities)
        if valid is not None:
            result.mul_(valid[:, None])
            cross_entropy = cross_entropy * valid
        result.scatter_add_(1, labels[:, None], (at_label - cross_entropy)[:, None])
        return result.to(ctx.dtype), None, None


class _RegionSums(Function):
    """(intersection, predicted, cross-entropy) of sigmoid(scores) (B, R, V) with regions (B, R, V), in float32."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, regions: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        dtype, scores = scores.dtype, scores.float()
        probabilities = scores.sigmoid()
        losses = functional.softplus(scores) - scores * regions
        if valid is None:
            intersection, predicted = (probabilities * regions).sum(2), probabilities.sum(2)
        else:
            losses = losses * valid[:, None]
            intersection = torch.einsum("brv,brv,bv->br", probabilities, regions, valid)
            predicted = torch.einsum("brv,bv->br", probabilities, valid)
        ctx.save_for_backward(probabilities, regions, valid)
        ctx.dtype = dtype
        return intersection, predicted, losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        probabilities, regions, valid = ctx.saved_tensors
        intersection, predicted, cross_entropy = gradients
        slope = probabilities * (1 - probabilities)
        result = slope * (predicted[:, :, None] + intersection[:, :, None] * regions)
        result = result + cross_entropy * (probabilities - regions)
        if valid is not None:
            result = result * valid[:, None]
        return result.to(ctx.dtype), None, None


def label_sums(scores: Tensor, labels: Tensor, ignore: int | None, drawn: Tensor | None = None) -> Sums:
    """Sums over softmax probabilities.

    Args:
        scores: (B, K, *space).
        labels: (B, *space) integers, 0..K-1; negative ones (outside) count as background.
        ignore: label of voxels that do not count, or None.
        drawn: (B, K) booleans, which labels are known in each sample; None is all.
    """
    flat = labels.flatten(1).long().clamp_(min=0)
    valid = None
    if ignore is not None:
        kept = flat != ignore
        flat, valid = flat * kept, kept.float()
    scores = scores.flatten(2)
    if drawn is not None:
        scores, flat = joined_scores(scores, drawn), flat * drawn.gather(1, flat)
    intersection, predicted, cross_entropy = _LabelSums.apply(scores, flat, valid)
    reference = _per_label(flat, scores.shape[1], valid)
    terms = torch.full_like(cross_entropy, flat.numel()) if valid is None else valid.sum()
    return Sums(intersection, predicted, reference, cross_entropy, terms, drawn)


def joined_scores(scores: Tensor, drawn: Tensor) -> Tensor:
    """Scores (B, K, V) with background and undrawn labels as one class, float32.

    The joined score, log of the sum of exp, stands at the background; those of the undrawn labels become -infinity, so
    that softmax gives the drawn labels the probability that they had, and the background that of all the rest.
    """
    rest = ~drawn[:, :, None]
    rest[:, 0] = True
    wide = scores.float()
    background = wide.masked_fill(~rest, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, wide.masked_fill(rest, -torch.inf)[:, 1:]], 1)


def region_sums(
    scores: Tensor,
    labels: Tensor,
    ignore: int | None,
    members: Sequence[tuple[int, ...]],
    drawn: Tensor | None = None,
) -> Sums:
    """Sums over sigmoid probabilities of regions.

    Args:
        scores: (B, R, *space), one output per region.
        labels: (B, *space) integers; negative ones (outside) belong to no region.
        ignore: label of voxels that do not count, or None.
        members: per region the labels that it is made of.
        drawn: (B, R) booleans, which regions are known in each sample; None is all.
    """
    flat = labels.flatten(1).long().clamp_(min=0)
    highest = max(max(values) for values in members) if ignore is None else ignore
    table = torch.zeros((len(members), highest + 1), dtype=torch.float32, device=labels.device)
    for region, values in enumerate(members):
        for value in values:  # filled one by one: indices and values would be copied, for which the host would wait
            table[region, value].fill_(1.0)
    regions = table[:, flat].movedim(1, 0)  # (B, R, V)
    valid = None if ignore is None else (flat != ignore).float()
    scores = scores.flatten(2)
    if drawn is not None:
        known = drawn[:, :, None]
        scores, regions = torch.where(known, scores.float(), NOTHING), regions * known
    intersection, predicted, cross_entropy = _RegionSums.apply(scores, regions, valid)
    # nnU-Net divides by voxels and regions, but with an ignore label by valid voxels alone
    terms = torch.full_like(cross_entropy, regions.numel()) if valid is None else valid.sum()
    if drawn is not None:
        share = drawn.float().mean(1)  # of the regions that count, per sample
        terms = share.mean() * regions.numel() if valid is None else (valid.sum(1) * share).sum()
    return Sums(intersection, predicted, regions.sum(2), cross_entropy, terms, drawn)


def _per_label(labels: Tensor, heads: int, weights: Tensor | None = None) -> Tensor:
    """Voxels per sample and label, or the sum of their weights: (B, V) to (B, K) float32."""
    if labels.device.type == "cuda":
        return _per_label_compared(labels, heads, weights)
    batch = labels.shape[0]
    offsets = torch.arange(batch, device=labels.device)[:, None] * heads
    flat = None if weights is None else weights.flatten()
    return torch.bincount((labels + offsets).flatten(), flat, minlength=batch * heads).view(batch, heads).float()


#: Labels that are compared at a time: what is held meanwhile has as many values per voxel.
LABELS_AT_A_TIME = 8


def _per_label_compared(labels: Tensor, heads: int, weights: Tensor | None) -> Tensor:
    """The same by comparing with each label: counting would wait for a GPU, and add in whichever order threads come."""
    found = []
    for start in range(0, heads, LABELS_AT_A_TIME):
        some = torch.arange(start, min(start + LABELS_AT_A_TIME, heads), device=labels.device)
        inside = labels[:, None] == some[:, None]  # (B, some, V)
        found.append(inside.sum(2) if weights is None else torch.where(inside, weights[:, None], 0).sum(2))
    return torch.cat(found, 1).float()
