"""What networks say at every voxel, beside what the reference says there: gathered while the mask is made."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.inference.volume import training_labels_of
from autoseg.preprocessing.case import view_of_crop
from autoseg.records import Labels, Placement


class Contrast:
    """Found labels, and the probabilities of these and of the reference's, on the file's grid (k, j, i).

    Three numbers a voxel instead of a probability per label. Outside the crop all is background for certain. Objects
    that are counted have one value, whole: where their cores begin no reference says.
    """

    def __init__(self, truth: NDArray[np.int16], labels: Labels) -> None:
        """`labels` are the networks'; `truth` are training labels of `labels.without_cores`.

        Where these are beyond its values, `own` says nothing.
        """
        self._truth, self._labels, self._whole = truth, labels, labels.without_cores
        cores = set(labels.things.values())
        self._outputs = [number for number, name in enumerate(labels.foreground) if name not in cores]
        self._value_of = np.array(
            [self._whole.values.index(_whole_value(value, labels)) for value in labels.values], dtype=np.int16
        )
        self.found = np.zeros(truth.shape, dtype=np.int16)
        self.own = (truth == 0).astype(np.float16)
        self.best = np.ones(truth.shape, dtype=np.float16)

    def put(self, mean: Tensor, placement: Placement, first: int) -> None:
        """Take averaged probabilities (K, planes, Y, X) of planes of the cropped grid, from plane `first` on."""
        planes = slice(first, first + mean.shape[1])
        self._compare(
            mean.to(torch.float32).cpu().numpy(),
            view_of_crop(self._truth, placement)[planes],
            view_of_crop(self.found, placement)[planes],
            view_of_crop(self.own, placement)[planes],
            view_of_crop(self.best, placement)[planes],
        )

    def put_whole(self, mean: NDArray[np.float32]) -> None:
        """Take averaged probabilities (K, k, j, i) of the whole image, plane by plane."""
        for plane in range(mean.shape[1]):
            one = slice(plane, plane + 1)
            self._compare(mean[:, one], self._truth[one], self.found[one], self.own[one], self.best[one])

    def _compare(
        self,
        probabilities: NDArray[np.float32],
        truth: NDArray[np.int16],
        found: NDArray[np.int16],
        own: NDArray[np.float16],
        best: NDArray[np.float16],
    ) -> None:
        """Write into the views what the probabilities (K, planes, Y, X) say there."""
        winner = self._value_of[training_labels_of(probabilities, self._labels)]
        known = np.minimum(truth, len(self._whole.values) - 1)
        outputs = probabilities[self._outputs] if self._labels.things else probabilities
        found[...] = winner
        own[...] = probability_of(outputs, known, self._whole, independent=self._labels.has_regions)
        best[...] = probability_of(outputs, winner, self._whole, independent=self._labels.has_regions)


def _whole_value(value: int, labels: Labels) -> int:
    """The file's value of an object whose core has the value; of all else its own."""
    return next((border for border, core in labels.core_values.items() if core == value), value)


def probability_of(
    probabilities: NDArray[np.float32], values: NDArray[np.int16], labels: Labels, *, independent: bool
) -> NDArray[np.float32]:
    """The probability (planes, Y, X) of a training label at each voxel, of network outputs (K, planes, Y, X).

    Where outputs are `independent`, one per label or region, a value is as probable as the least certain thing that it
    says of any of them.
    """
    if not independent:
        chosen: NDArray[np.float32] = np.take_along_axis(probabilities, values[None].astype(np.int64), axis=0)[0]
        return chosen
    membership = labels.value_membership
    found = np.ones(values.shape, dtype=np.float32)
    for region, probability in enumerate(probabilities):
        np.minimum(found, np.where(membership[values, region], probability, 1 - probability), out=found)
    return found
