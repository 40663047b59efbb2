"""Ways to compute a network faster, none of which is faster everywhere: so they are tried, not believed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Acceleration:
    """A way to compute a network; the results are the same but for rounding."""

    compiled: bool = False  # by torch.compile
    channels_last: bool = False  # in memory
    graphed: bool = False  # forward and backward pass of a training step recorded as one CUDA graph

    def suits(self, device: torch.device) -> bool:
        """Whether it can be a gain on a device: CPUs lay out channels last by themselves, graphs are CUDA's."""
        if device.type == "cpu":
            return not self.graphed and (self.compiled or not self.channels_last)
        return not self.graphed or device.type == "cuda"


EAGER = Acceleration()

ACCELERATIONS: dict[str, Acceleration] = {
    "eager": EAGER,
    "channels-last": Acceleration(channels_last=True),
    "compile": Acceleration(compiled=True),
    "compile-channels-last": Acceleration(compiled=True, channels_last=True),
    "graph": Acceleration(graphed=True),
    "compile-graph": Acceleration(compiled=True, graphed=True),
}


def usual(device: torch.device, *, recordable: bool) -> str:
    """The way that is taken unless another is asked for or was tried: a graph costs seconds and nearly always pays.

    `recordable` says that no network or loss of a user's own may take part. A graph would go on with whatever their
    Python decided while it was recorded (a weight that changes with the steps, say): it has to be asked for there.
    """
    return "graph" if device.type == "cuda" and recordable else "eager"


def compiled_at_first_call(network: nn.Module) -> Callable[[Tensor], Tensor | list[Tensor]]:
    """What torch.compile makes of a network; where it does not work, the first call raises, whatever the reason."""

    @cache
    def compiled() -> Callable[[Tensor], Tensor | list[Tensor]]:
        return torch.compile(network)

    return lambda images: compiled()(images)


def in_short(error: Exception) -> str:
    """The first line of an error with its kind: those of compilers are pages long."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first[:200]}" if first else type(error).__name__
