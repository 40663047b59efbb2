"""The online Dice: overlap counted over patches during training. A proxy, not the full-volume figure."""

from __future__ import annotations

import torch

from autoseg.records import Labels


class PatchDice:
    """True and false positives per label, summed over batches (nnU-Net's pseudo Dice)."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._counts: torch.Tensor | None = None  # per output 2*TP, and 2*TP + FP + FN; on the device of the scores

    def add(self, scores: torch.Tensor, labels: torch.Tensor, drawn: torch.Tensor | None = None) -> None:
        """Count one batch.

        Args:
            scores: (B, K, *patch) network outputs.
            labels: (B, *patch) training labels; OUTSIDE counts as background, ignored voxels not at all.
            drawn: (B, K) booleans, which outputs are known in each sample; what is not counts for nothing. None is all.
        """
        ignore = self._labels.ignore_index
        ignored = None if ignore is None else labels == ignore
        count = self._of_regions if self._labels.has_regions else _of_labels
        both, either = count(scores, labels, ignored)
        if drawn is not None:
            both, either = both * drawn, either * drawn
        counts = torch.stack([2 * both.sum(0), either.sum(0)], 1)
        self._counts = counts if self._counts is None else self._counts + counts

    def _of_regions(
        self, scores: torch.Tensor, labels: torch.Tensor, ignored: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Voxels of TP, and of 2*TP + FP + FN, per sample and region: (B, K) whole numbers."""
        both, either = [], []
        for number, members in enumerate(self._labels.foreground.values()):
            found, wanted = scores[:, number] > 0, torch.zeros_like(labels, dtype=torch.bool)
            for member in members:
                wanted |= labels == member
            if ignored is not None:
                found, wanted = found & ~ignored, wanted & ~ignored
            both.append((found & wanted).flatten(1).sum(1))
            either.append(found.flatten(1).sum(1) + wanted.flatten(1).sum(1))
        return torch.stack(both, 1), torch.stack(either, 1)

    def per_label(self) -> dict[str, float | None]:
        """Dice per label; None where neither patches nor predictions had it."""
        counts = [] if self._counts is None else self._counts.tolist()
        outputs = self._labels.foreground.items()
        # outputs are the regions, or the training labels with the background
        places = [number if self._labels.has_regions else members[0] for number, (_, members) in enumerate(outputs)]
        pairs = [counts[place] if counts else (0, 0) for place in places]
        return {
            name: (both / total if total else None) for (name, _), (both, total) in zip(outputs, pairs, strict=True)
        }


def _of_labels(
    scores: torch.Tensor, labels: torch.Tensor, ignored: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Voxels of TP, and of 2*TP + FP + FN, per sample and training label: (B, K) whole numbers.

    All labels are counted in one pass: a pass for each takes seconds a batch where there are a hundred. What is in the
    background or ignored is counted as background, whose figures nobody reads.
    """
    samples, heads = scores.shape[:2]
    found, wanted = scores.argmax(1), labels.long().clamp(min=0)
    if ignored is not None:
        found, wanted = found.masked_fill(ignored, 0), wanted.masked_fill(ignored, 0)
    first = torch.arange(samples, device=scores.device).mul_(heads).view(-1, *(1,) * (labels.ndim - 1))

    def counted(values: torch.Tensor) -> torch.Tensor:
        return (values + first).flatten().bincount(minlength=samples * heads).view(samples, heads)

    return counted(found.where(found == wanted, 0)), counted(found) + counted(wanted)
