"""How sure networks are of each label in each plane of an image, gathered while the mask is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.inference.evidence import label_sums, region_sums
from autoseg.inference.maps import entropy_bits
from autoseg.preprocessing.case import place_in_file
from autoseg.records import Labels, Placement


@dataclass(frozen=True, eq=False)
class PlaneSums:
    """What was seen in P planes of an image, which are the network's own: across its first axis.

    Planes that no network saw, which are background for certain, are not among them.
    """

    axis: int  # of (k, j, i) that the planes are cut across
    place: NDArray[np.int64]  # (P, 3) the voxel (k, j, i) about which a plane is most unsure, in the middle
    voxels: NDArray[np.float64]  # (P, R) voxels of each label or region in the mask
    inside: NDArray[np.float64]  # (P, R) sum of its probability there
    total: NDArray[np.float64]  # (P, R) sum of its probability everywhere


class PlaneDoubts:
    """Takes probabilities on the image's grid as they come, and keeps sums of their planes.

    Cores of objects are no labels: they have no sums.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        cores = set(labels.things.values())
        members = enumerate(labels.foreground.items())
        self._outputs = [  # of each label those that are summed
            [number] if labels.has_regions else list(values) for number, (name, values) in members if name not in cores
        ]
        self._sums: list[NDArray[np.float64]] = []
        self._places: list[tuple[int, int, int]] = []
        self._axis = 0

    def put(self, mean: Tensor, placement: Placement, first: int) -> None:
        """Take averaged probabilities (K, planes, Y, X) of planes of the cropped grid, from plane `first` on."""
        self._axis = placement.orientation_axes[placement.axis_order[0]]
        for number, (y, x) in enumerate(self._taken(mean)):
            self._places.append(place_in_file((first + number, y, x), placement))

    def put_whole(self, mean: NDArray[np.float32]) -> None:
        """Take averaged probabilities (K, k, j, i) of the whole image, plane by plane."""
        self._axis = 0
        for plane in range(mean.shape[1]):
            ((j, i),) = self._taken(torch.from_numpy(mean[:, plane : plane + 1]))
            self._places.append((plane, j, i))

    def sums(self) -> PlaneSums:
        """What was seen, when all planes have passed."""
        found = np.concatenate(self._sums) if self._sums else np.empty((0, 3, len(self._outputs)))
        places = np.array(self._places, dtype=np.int64).reshape(-1, 3)
        return PlaneSums(self._axis, places, found[:, 0], found[:, 1], found[:, 2])

    def _taken(self, mean: Tensor) -> list[tuple[int, int]]:
        """Add the sums of some planes; where in each (Y, X) the middle of what is unsure lies."""
        with torch.inference_mode():
            probabilities = mean.to(torch.float32)
            sums = self._of_labels(probabilities)
            unsure = entropy_bits(probabilities, self._labels.has_regions).cpu().numpy()
        self._sums.append(sums)
        return [_middle(plane) for plane in unsure]

    def _of_labels(self, probabilities: Tensor) -> NDArray[np.float64]:
        """(planes, 3, R): voxels, sum of p inside, sum of p everywhere."""
        if self._labels.has_regions:
            sums = torch.stack([region_sums(part) for part in probabilities], dim=1)
        else:
            sums = label_sums(probabilities)
        array = sums.cpu().numpy().astype(np.float64)[[0, 1, 4]]
        rows = [array[:, outputs].sum(axis=1) for outputs in self._outputs]
        return np.stack(rows).transpose(2, 1, 0)


def _middle(unsure: NDArray[np.float32]) -> tuple[int, int]:
    """The pixel (Y, X) in the middle of what is unsure; of the plane, where nothing is."""
    weights = [unsure.sum(axis=1, dtype=np.float64), unsure.sum(axis=0, dtype=np.float64)]
    total = weights[0].sum()
    if total <= 0:
        return unsure.shape[0] // 2, unsure.shape[1] // 2
    y, x = (round(float(part @ np.arange(len(part)) / total)) for part in weights)
    return y, x
