"""The gradient of a batch of which other processes hold a part, or that is computed in parts for the memory's sake.

Network and loss are one module that gives totals (`training.losses`). Those of all samples are added, the loss and its
slope with respect to each total follow, and each part goes backward with these slopes: the gradient is that of the
whole batch in one piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from autoseg.devices import Precision, autocast
from autoseg.training.losses import LossOfTotals, deep_supervision_totals, deep_supervision_value
from autoseg.training.ranks import Ranks

#: Images (B, C, *patch), labels (B, *patch), and which outputs are known (B, K), None for all.
Part = tuple[Tensor, Tensor, Tensor | None]


class BatchTotals(nn.Module):
    """Network and loss: samples in, totals (levels with a weight, n) out."""

    def __init__(
        self,
        network: nn.Module,
        compute: Callable[[Tensor], Tensor | list[Tensor]],
        loss: LossOfTotals,
        precision: Precision,
    ) -> None:
        """`compute` is the network, or what was compiled from it."""
        super().__init__()
        self.network = network
        self._compute = (compute,)  # in a tuple: a compiled network must not count as a further part of this one
        self._loss, self._precision = loss, precision
        self.shapes: list[tuple[int, ...]] = []  # of the last scores, without samples, finest first

    def forward(self, images: Tensor, labels: Tensor, drawn: Tensor | None) -> Tensor:
        """The totals of these samples."""
        with autocast(images.device, self._precision):
            outputs = self._compute[0](images)
        levels = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        self.shapes = [tuple(scores.shape[1:]) for scores in levels]
        return deep_supervision_totals(levels, labels, self._loss, drawn)

    @torch.no_grad()
    def without_scores(self, labels: Tensor, drawn: Tensor | None) -> Tensor:
        """Totals of which only those that follow from the labels are right."""
        scores = [torch.zeros(len(labels), *shape, device=labels.device) for shape in self.shapes]
        return deep_supervision_totals(scores, labels, self._loss, drawn)


@dataclass(frozen=True, eq=False)
class Backward:
    """Computes the gradients of a batch."""

    module: nn.Module  # a BatchTotals, or one within DistributedDataParallel
    bare: BatchTotals  # itself
    loss: LossOfTotals
    ranks: Ranks
    scale: Callable[[Tensor], Tensor]  # of the gradients, for float16

    def __call__(self, parts: Sequence[Part], in_parts: bool) -> float | None:
        """Add the gradients of the parts, of which each process has its own; gives the loss over all of them.

        None where it is not finite; the gradients are then of no use. `in_parts` tells whether any process has more
        than one part: all have to sum the same things.
        """
        if not in_parts:
            return self._at_once(parts[0])
        return self._one_pass(parts) if self.loss.separable else self._two_passes(parts)

    def _at_once(self, part: Part) -> float | None:
        totals: Tensor = self.module(*part)
        value, slopes = self._slopes(self.ranks.summed(totals.detach().clone()))
        if value is not None:
            totals.backward(slopes)
        return value

    def _one_pass(self, parts: Sequence[Part]) -> float | None:
        """Each part forward and backward: the slopes follow from labels alone. The first tells the shapes of scores."""
        slopes: Tensor | None = None
        whole: Tensor | None = None
        for number, part in enumerate(parts):
            with self._unsummed(number, len(parts)):
                totals: Tensor = self.module(*part)
                if slopes is None:
                    known = torch.stack([self.bare.without_scores(labels, drawn) for _, labels, drawn in parts])
                    _, slopes = self._slopes(self.ranks.summed(known.sum(0)))
                whole = totals.detach().clone() if whole is None else whole + totals.detach()
                totals.backward(slopes)
        if whole is None:
            raise ValueError("a batch has at least one sample")
        return self._slopes(self.ranks.summed(whole))[0]

    def _two_passes(self, parts: Sequence[Part]) -> float | None:
        """All parts forward to know the totals, then each forward and backward: a third more to compute."""
        with torch.no_grad():
            whole = torch.stack([self.bare(*part) for part in parts]).sum(0)
        value, slopes = self._slopes(self.ranks.summed(whole))
        if value is None:
            return None
        for number, part in enumerate(parts):
            with self._unsummed(number, len(parts)):
                self.module(*part).backward(slopes)
        return value

    def _slopes(self, whole: Tensor) -> tuple[float | None, Tensor]:
        """The loss (None unless finite) and its slope with respect to each total, scaled."""
        totals = whole.requires_grad_()
        value = deep_supervision_value(totals, self.loss)
        (slopes,) = torch.autograd.grad(value, totals)
        # DistributedDataParallel takes the mean over processes, where the sum is wanted
        scaled = self.scale(slopes * self.ranks.place.world)
        number = float(value.detach())
        return number if math.isfinite(number) else None, scaled

    def _unsummed(self, number: int, parts: int) -> AbstractContextManager[None]:
        """Gradients are summed over processes with the last part only."""
        if isinstance(self.module, DistributedDataParallel) and number < parts - 1:
            waiting: AbstractContextManager[None] = self.module.no_sync()
            return waiting
        return nullcontext()


def distributed(module: BatchTotals, ranks: Ranks) -> nn.Module:
    """The module, with gradients averaged over the processes while the backward pass goes on."""
    if not ranks.several:
        return module
    # the coarsest scores have no weight in the loss: their head never has a gradient
    return DistributedDataParallel(module, process_group=ranks.compute, find_unused_parameters=True)


def parts_of(images: Tensor, labels: Tensor, drawn: Tensor | None, samples: int) -> list[Part]:
    """The batch in parts of so many samples."""
    return [
        (
            images[start : start + samples],
            labels[start : start + samples],
            None if drawn is None else drawn[start : start + samples],
        )
        for start in range(0, len(images), samples)
    ]


def samples_at_a_time(samples: int, bytes_of: Callable[[int], int], limit_bytes: int) -> int:
    """How many samples fit at a time: the batch is halved until a part fits; 1 where none does."""
    at_a_time = samples
    while at_a_time > 1 and bytes_of(at_a_time) > limit_bytes:
        at_a_time = -(-at_a_time // 2)
    return at_a_time
