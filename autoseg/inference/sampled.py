"""Probabilities at some voxels of a case, gathered while its mask is made."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.preprocessing.case import places_in_crop
from autoseg.records import Placement


class SampledProbabilities:
    """Averaged probabilities at voxels (N, 3) of the file's grid (k, j, i), filled plane by plane.

    Voxels outside the crop are background for sure, and nobody's opinion: they are not `seen`.
    """

    def __init__(self, places: NDArray[np.int64], outputs: int) -> None:
        self._places = places
        self.probabilities = np.zeros((len(places), outputs), dtype=np.float32)
        self.seen = np.zeros(len(places), dtype=np.bool_)
        self._cropped: NDArray[np.int64] | None = None
        self._inside = self.seen

    def put(self, mean: Tensor, placement: Placement, first: int) -> None:
        """Take what lies in averaged probabilities (K, planes, Y, X) of planes of the cropped grid."""
        if self._cropped is None:
            self._cropped, self._inside = places_in_crop(self._places, placement)
        plane = self._cropped[:, 0] - first
        here = np.flatnonzero(self._inside & (plane >= 0) & (plane < mean.shape[1]))
        if not len(here):
            return
        z, y, x = (torch.from_numpy(axis).to(mean.device) for axis in (plane[here], *self._cropped[here, 1:].T))
        self.probabilities[here] = mean[:, z, y, x].T.to(torch.float32).cpu().numpy()
        self.seen[here] = True

    def put_whole(self, mean: NDArray[np.float32]) -> None:
        """Take what lies in averaged probabilities (K, k, j, i) of the whole image."""
        k, j, i = self._places.T
        self.probabilities[:] = mean[:, k, j, i].T
        self.seen[:] = True
