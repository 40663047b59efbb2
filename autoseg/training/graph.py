"""The forward and backward pass of a batch as one CUDA graph: recorded once, launched as one.

A step of a U-Net is a thousand small pieces of work for a GPU, each of which Python hands over by itself; for patches
of an ordinary size that takes longer than the work. A graph is handed over at once. It computes what was recorded, on
the memory that was recorded: batches are copied into its input, gradients lie where they lay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from autoseg.training.losses import LossOfTotals, deep_supervision_value
from autoseg.training.step import BatchTotals

#: Passes before the recording: libraries choose their algorithms and take their memory in the first.
WARM_UP = 3


class StepGraph:
    """Loss and gradients of batches of one shape, in which every output is known in every sample."""

    def __init__(
        self,
        bare: BatchTotals,
        loss: LossOfTotals,
        scale: Callable[[Tensor], Tensor],
        images: Tensor,
        labels: Tensor,
    ) -> None:
        """Record the pass on memory of its own, shaped as these images (B, C, *patch) and labels (B, *patch).

        Nothing else may use the device meanwhile. The network is as it was; its gradients are gone.
        """
        self._bare, self._loss, self._scale = bare, loss, scale
        self._images, self._labels = images.clone(), labels.clone()
        self._parameters = [parameter for parameter in bare.parameters() if parameter.requires_grad]
        with torch.cuda.device(images.device), _stream_kept(), _kept(bare.buffers()):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    self._pass()
            torch.cuda.current_stream().wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=aside):
                self._value = self._pass()
        self._gradients = [parameter.grad for parameter in self._parameters]

    def fits(self, images: Tensor, labels: Tensor) -> bool:
        """Whether the graph was recorded for such a batch."""
        return images.shape == self._images.shape and labels.shape == self._labels.shape

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a number on the device; the parameters have its gradients until the next call."""
        with torch.cuda.device(self._images.device):
            self._images.copy_(images)
            self._labels.copy_(labels)
            self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._value

    def _pass(self) -> Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        totals: Tensor = self._bare(self._images, self._labels, None)
        whole = totals.detach().clone().requires_grad_()
        value = deep_supervision_value(whole, self._loss)
        (slopes,) = torch.autograd.grad(value, whole)
        totals.backward(self._scale(slopes))
        return value.detach()


@contextmanager
def _stream_kept() -> Iterator[None]:
    """The current stream is afterwards what it was: a recording that fails leaves its own one current."""
    before = torch.cuda.current_stream()
    try:
        yield
    finally:
        torch.cuda.set_stream(before)


@contextmanager
def _kept(buffers: Iterable[Tensor]) -> Iterator[None]:
    """Buffers are afterwards as they were before: running statistics have learned nothing."""
    before = [(buffer, buffer.clone()) for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
