"""Networks whose last layer is linear: scores may be made of sums of features, not only features of scores."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class LinearHead(Protocol):
    """A network that tells its features apart from the linear map that makes scores of them, voxel by voxel.

    Inference sums over tiles whichever are fewer. A network from outside that has these three is summed so as well.
    """

    @property
    def feature_channels(self) -> int:
        """Channels F of what `features` gives."""
        ...

    def features(self, image: Tensor) -> Tensor:
        """Features (B, F, *space) of an image (B, C, *space)."""
        ...

    def scores(self, features: Tensor) -> Tensor:
        """Scores (B, K, *space) of `features`, of weighted means of them too."""
        ...
