"""How sure the networks are of each label, summed up while the scores of a case pass by.

All figures are of the network's own grid and of probabilities as the networks give them, before any calibration: so
they mean the same for held-out cases, from which expected Dice is learned, and for new ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from autoseg.records import LabelEvidence, Labels


class Evidence:
    """Sums per network output of one group of networks.

    confidence = 2 * sum of p inside the mask / (voxels of the mask + sum of p everywhere): the soft Dice confidence of
    Borges et al. 2024, the Dice that is to be expected where the probabilities p are right. boundary = mean p over the
    voxels of the mask with an in-plane neighbour outside it.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._sums = torch.zeros((5, labels.heads), dtype=torch.float64)

    def seen(self, slabs: Iterator[Tensor], *, rows: bool = False) -> Iterator[Tensor]:
        """The same slabs (K, planes, Y, X), looked at.

        With `rows` they are (K, rows, 1, X) of one plane; then only neighbours within a slab are seen.
        """
        for slab in slabs:
            with torch.inference_mode():
                scores = slab[: self._labels.heads].to(torch.float32)
                self._add(scores.transpose(1, 2) if rows else scores)
            yield slab

    def _add(self, scores: Tensor) -> None:
        if self._labels.has_regions:
            sums = torch.stack([region_sums(part.sigmoid()) for part in scores], dim=1)
        else:
            sums = label_sums(scores.softmax(0))
        # of each plane on its own in float32, which no device lacks; together in float64
        self._sums += sums.to("cpu").to(torch.float64).sum(-1)

    def labels(self) -> dict[str, LabelEvidence]:
        """What was seen of each label or region."""
        found = {}
        for number, (name, members) in enumerate(self._labels.foreground.items()):
            own = [number] if self._labels.has_regions else list(members)
            voxels, inside, edge, edge_inside, total = self._sums[:, own].sum(1).tolist()
            found[name] = LabelEvidence(
                confidence=2 * inside / (voxels + total) if voxels else None,
                boundary=edge_inside / edge if edge else None,
            )
        return found


def region_sums(probability: Tensor) -> Tensor:
    """Rows of sums of one region's probabilities (planes, Y, X), per plane: (5, planes)."""
    inside = probability > 0.5
    edge = _edges(inside) & inside
    sums = (inside, probability * inside, edge, edge * probability, probability)
    return torch.stack([part.flatten(1).sum(1, dtype=torch.float32) for part in sums])


def label_sums(probabilities: Tensor) -> Tensor:
    """Rows of sums of the probabilities (K, planes, Y, X) of labels that exclude one another, per plane.

    Returns (5, K, planes).
    """
    heads, planes = probabilities.shape[:2]
    best, winner = probabilities.max(0)
    edge = _edges(winner).to(torch.float32)
    sums = torch.zeros((5, heads * planes), device=best.device)
    where = winner.flatten().nonzero()[:, 0]  # of the background nobody asks, and it is nearly all
    best, edge = best.flatten()[where], edge.flatten()[where]
    place = winner.flatten()[where] * planes + where // winner[0].numel()
    for row, values in zip(sums, (torch.ones_like(best), best, edge, edge * best), strict=False):
        row.scatter_add_(0, place, values)
    sums[4] = probabilities.flatten(2).sum(2).flatten()
    return sums.view(5, heads, planes)


def _edges(winner: Tensor) -> Tensor:
    """Voxels (planes, Y, X) with an in-plane neighbour of another winner."""
    edge = torch.zeros(winner.shape, dtype=torch.bool, device=winner.device)
    rows, columns = winner[:, 1:] != winner[:, :-1], winner[:, :, 1:] != winner[:, :, :-1]
    edge[:, 1:] |= rows
    edge[:, :-1] |= rows
    edge[:, :, 1:] |= columns
    edge[:, :, :-1] |= columns
    return edge


def joined(groups: Sequence[Evidence]) -> dict[str, LabelEvidence]:
    """What several groups of networks saw, averaged over those that found a label."""
    each = [group.labels() for group in groups]
    return {
        name: LabelEvidence(
            confidence=_mean([part[name].confidence for part in each]),
            boundary=_mean([part[name].boundary for part in each]),
        )
        for name in each[0]
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
