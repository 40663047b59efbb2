"""How sure the networks are of each kind of object in each voxel: what the scores of objects are means of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.inference.maps import calibrated_probabilities
from autoseg.inference.scratch import scratch_array
from autoseg.preprocessing.case import view_of_crop
from autoseg.records import Calibration, Geometry, Labels, Placement

#: What a probability of 1 is stored as.
SURE = 255


class ThingScores:
    """Probabilities of the things of a model, axes as stored in the image's file; a `witness.Taker`."""

    def __init__(
        self, labels: Labels, calibration: Calibration | None, geometry: Geometry, folder: Path | None = None
    ) -> None:
        """Scores to be filled, on the disk of `folder` or in memory: sure of the background so far."""
        names = list(labels.foreground)
        self._labels, self._calibration = labels, calibration
        self._heads = [names.index(name) for name in labels.things]
        shape = (len(self._heads), *geometry.shape)
        self.probabilities: NDArray[np.uint8] = (
            np.zeros(shape, dtype=np.uint8) if folder is None else scratch_array(folder, shape, np.uint8)
        )

    def put(self, mean: Tensor, placement: Placement, first: int) -> None:
        """Take averaged probabilities (K, planes, Y, X) of planes of the cropped grid, from plane `first` on."""
        self._put(mean, lambda whole: view_of_crop(whole, placement)[..., first : first + mean.shape[1], :, :])

    def put_whole(self, mean: NDArray[np.float32]) -> None:
        """Take averaged probabilities (K, k, j, i) of the whole image, plane by plane."""
        for plane in range(mean.shape[1]):
            self._put(torch.from_numpy(mean[:, plane : plane + 1]), partial(_plane, plane))

    def _put(self, mean: Tensor, place: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        calibrated = calibrated_probabilities(mean, self._labels, self._calibration)[self._heads]
        place(self.probabilities)[...] = (calibrated * SURE).round().to(torch.uint8).cpu().numpy()


def _plane(number: int, whole: NDArray[Any]) -> NDArray[Any]:
    return whole[..., number : number + 1, :, :]
