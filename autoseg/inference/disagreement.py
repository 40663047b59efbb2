"""How much networks, mirrored copies and overlapping tiles differ at a voxel, from one more sum beside the scores.

Scores s are averaged, which makes of the voters' probabilities p_m their normalized geometric mean q, a logarithmic
opinion pool. The mean distance of the voters from what they agree on is the pool's ambiguity (Heskes 1998, "Selecting
weighting factors in logarithmic opinion pools"):

    mean_m KL(q || p_m) = mean_m log sum exp(s_m) - log sum exp(mean_m s_m)

It is never negative, and 0 just where all voters have the same probabilities. The second term follows from the scores
that are averaged anyway, so that the first, one number a voxel, is all there is to add up. For regions, each a sigmoid
of its own, log sum exp becomes the sum over regions of log(1 + exp(s)).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional


def log_sum(scores: Tensor, axis: int, independent: bool) -> Tensor:
    """Log of what the exponentials of scores are divided by to make probabilities, along the heads' axis, which stays.

    `independent` is for regions: one sigmoid each.
    """
    if independent:
        return functional.softplus(scores).sum(axis, keepdim=True)
    return scores.logsumexp(axis, keepdim=True)


def mean_log_sum(scores: Sequence[Tensor], independent: bool) -> Tensor:
    """Mean over networks of the log-sums (B, 1, *patch) of their scores (B, K, *patch), in float32."""
    return torch.stack([log_sum(part.to(torch.float32), 1, independent) for part in scores]).mean(0)


def with_disagreement(slab: Tensor, exact: int, finish: Callable[[Tensor], Tensor], independent: bool) -> Tensor:
    """Finished scores and below them the disagreement in nats: (K + 1, planes, Y, X).

    The last `exact` channels of the slab are the mean log-sum, and before it the mean scores where `finish` gives them
    with fewer digits.
    """
    scores = finish(slab[:-exact])
    means = scores if exact == 1 else slab[-exact:-1]
    ambiguity = slab[-1:] - log_sum(means, 0, independent)
    return torch.cat([scores, ambiguity.clamp(min=0)])  # rounding alone makes it negative
