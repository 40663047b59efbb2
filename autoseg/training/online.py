"""The online Dice: overlap counted over patches during training. A proxy, not the full-volume figure."""

from __future__ import annotations

import torch

from autoseg.records import Labels


class PatchDice:
    """True and false positives per label, summed over batches (nnU-Net's pseudo Dice)."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._counts = {name: [0, 0] for name in labels.foreground}  # 2*TP, and 2*TP + FP + FN

    def add(self, scores: torch.Tensor, labels: torch.Tensor, drawn: torch.Tensor | None = None) -> None:
        """Count one batch.

        Args:
            scores: (B, K, *patch) network outputs.
            labels: (B, *patch) training labels; OUTSIDE counts as background, ignored voxels not at all.
            drawn: (B, K) booleans, which outputs are known in each sample; what is not counts for nothing. None is all.
        """
        ignore = self._labels.ignore_index
        valid = torch.ones_like(labels, dtype=torch.bool) if ignore is None else labels != ignore
        winner = None if self._labels.has_regions else scores.argmax(1)
        for number, (name, members) in enumerate(self._labels.foreground.items()):
            found = scores[:, number] > 0 if winner is None else winner == members[0]
            wanted = torch.zeros_like(valid)
            for member in members:
                wanted |= labels == member
            counted = valid
            if drawn is not None:
                known = drawn[:, number if winner is None else members[0]]
                counted = valid & known.view(-1, *(1,) * (labels.ndim - 1))
            found, wanted = found & counted, wanted & counted
            both = int((found & wanted).sum())
            self._counts[name][0] += 2 * both
            self._counts[name][1] += int(found.sum()) + int(wanted.sum())

    def per_label(self) -> dict[str, float | None]:
        """Dice per label; None where neither patches nor predictions had it."""
        return {name: (double / total if total else None) for name, (double, total) in self._counts.items()}
