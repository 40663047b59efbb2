"""What is seen of a case while its mask is made: how sure the networks are of each label, and maps where asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.arrays.resample_scores_torch import ScorePortions
from autoseg.inference.evidence import Evidence, joined
from autoseg.inference.maps import between_groups_bits, entropy_of
from autoseg.preprocessing.case import image_taps
from autoseg.records import LabelEvidence, Labels, Placement


class Taker(Protocol):
    """Whoever is given the probabilities on the image's grid as they come: maps, or a sample of voxels."""

    def put(self, mean: Tensor, placement: Placement, first: int) -> None:
        """Averaged probabilities (K, planes, Y, X) of planes of the cropped grid, from plane `first` on."""
        ...

    def put_whole(self, mean: NDArray[np.float32]) -> None:
        """Averaged probabilities (K, k, j, i) of the whole image, axes as stored."""
        ...


class DisagreementTaker(Protocol):
    """Whoever gathers how much the networks disagree, in bits."""

    def disagree(self, bits: NDArray[np.float32], placement: Placement, first: int) -> None:
        """Disagreement on planes (planes, Y, X) of the cropped grid from plane `first` on, to be added."""
        ...

    def disagree_whole(self, bits: NDArray[np.float32]) -> None:
        """Disagreement on the whole image (k, j, i), to be added."""
        ...


class Witness:
    """Looks at the slabs of scores that a mask is made from. The mask is the same whether or not there is one.

    `takers` are given the probabilities, and `gathering` the disagreement, which is computed for it alone.
    """

    def __init__(self, labels: Labels, *takers: Taker, gathering: DisagreementTaker | None = None) -> None:
        self._labels = labels
        self._takers = takers
        self._gathering = gathering
        self._seen: list[Evidence] = []
        self._placements: Sequence[Placement] = ()

    @property
    def disagreement(self) -> bool:
        """Whether the slabs need the channel of disagreement (`scores.score_slabs_of`)."""
        return self._gathering is not None

    def watched(
        self, groups: Sequence[Iterator[Tensor]], placements: Sequence[Placement], *, rows: bool = False
    ) -> list[Iterator[Tensor]]:
        """The slabs (K, planes, Y, X) of each group, looked at on their way to whoever makes the mask.

        With `rows` the planes are rows of a picture, see `inference.rows`.
        """
        self._seen = [Evidence(self._labels) for _ in groups]
        self._placements = placements
        alone = len(groups) == 1
        return [
            seen.seen(self._mapped(slabs, placement, 1 / len(groups), alone), rows=rows)
            for seen, slabs, placement in zip(self._seen, groups, placements, strict=True)
        ]

    def evidence(self) -> dict[str, LabelEvidence]:
        """What was seen of each label or region, when all slabs have passed."""
        return joined(self._seen) if self._seen else {}

    def take_mean(self, first: int, mean: NDArray[np.float32], groups: Sequence[NDArray[np.float32]]) -> None:
        """Several groups: mean probabilities (K, planes, Y, X) and each group's, of planes of their common crop."""
        for taker in self._takers:
            taker.put(torch.from_numpy(mean), self._placements[0], first)
        if self._gathering is not None:
            bits = between_groups_bits(mean, groups, self._labels.has_regions)
            self._gathering.disagree(bits, self._placements[0], first)

    def take_part(self, part: NDArray[np.float32], groups: int) -> None:
        """One of several groups whose crops differ: its probabilities (K, k, j, i) on the whole image."""
        if self._gathering is not None:
            self._gathering.disagree_whole(entropy_of(part, self._labels.has_regions) * np.float32(-1 / groups))

    def take_whole(self, mean: NDArray[np.float32]) -> None:
        """The mean of those groups' probabilities."""
        for taker in self._takers:
            taker.put_whole(mean)
        if self._gathering is not None:
            self._gathering.disagree_whole(entropy_of(mean, self._labels.has_regions))

    def _mapped(self, slabs: Iterator[Tensor], placement: Placement, share: float, alone: bool) -> Iterator[Tensor]:
        """The slabs with K channels; what they say is handed on."""
        if not (self._takers or self.disagreement):
            yield from slabs
            return
        heads = self._labels.heads
        # with several groups only the disagreement within each is known here; probabilities are of their mean
        from_channel = 0 if alone else heads
        portions = ScorePortions(image_taps(placement)) if alone or self.disagreement else None
        for slab in slabs:
            if portions is not None:
                with torch.inference_mode():
                    for first, planes in portions.of(slab[from_channel:]):
                        self._put(planes, heads if alone else 0, placement, first, share)
            yield slab[:heads]

    def _put(self, planes: Tensor, heads: int, placement: Placement, first: int, share: float) -> None:
        if heads and self._takers:
            scores = planes[:heads]
            mean = scores.sigmoid() if self._labels.has_regions else scores.softmax(0)
            for taker in self._takers:
                taker.put(mean, placement, first)
        if self._gathering is not None:
            bits = planes[heads] * (share / math.log(2))
            self._gathering.disagree(bits.cpu().numpy(), placement, first)
