"""The features in which a network sees an image: those of its deepest layer, averaged over space.

The deepest layer is that whose output has the fewest places in space, of several the last: the bottleneck of a U-Net,
the end of an encoder. It is found by looking on, so that any network has one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class DeepestFeatures:
    """Gathers a row of features per patch that goes through the network, in the order in which they go."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.float32]] = []

    def take(self, output: Tensor) -> None:
        """Take the features (B, F, *space) of a batch."""
        with torch.inference_mode():
            self._rows.append(output.to(torch.float32).flatten(2).mean(2).cpu().numpy())

    @property
    def rows(self) -> NDArray[np.float32]:
        """(N, F) of all patches so far, mirrored copies too; (0, 0) where there was none."""
        return np.concatenate(self._rows) if self._rows else np.empty((0, 0), np.float32)


@contextmanager
def looking_at(layer: nn.Module) -> Iterator[DeepestFeatures]:
    """What a layer gives while the context is entered."""
    found = DeepestFeatures()
    handle = layer.register_forward_hook(lambda _module, _inputs, output: found.take(output))
    try:
        yield found
    finally:
        handle.remove()


def deepest_layer(network: nn.Module, patch: Tensor) -> nn.Module:
    """The layer of the fewest places in space, found by passing a patch (1, C, *patch) through the network.

    A layer whose output has one place tells of the whole patch what others have told (squeeze and excitation, pooling
    over the image): it is taken only where there is no other. The network itself where no layer has features in space.
    """
    seen: list[tuple[int, nn.Module]] = []

    def look(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == patch.ndim and output.shape[0] == patch.shape[0]:
            seen.append((math.prod(output.shape[2:]), module))

    handles = [module.register_forward_hook(look) for module in network.modules()]
    try:
        with torch.inference_mode():
            network(patch)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        return network
    fewest = min((places for places, _ in seen if places > 1), default=1)
    return [module for places, module in seen if places == fewest][-1]
