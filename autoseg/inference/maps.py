"""Maps beside a mask, on the image's grid: probabilities, their entropy, and how much the networks disagree.

They are filled plane by plane while the mask is made, into files rather than memory, and do not touch the mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.dataset.nifti_maps import FULL, write_map
from autoseg.inference.scratch import scratch_array
from autoseg.preprocessing.case import view_of_crop
from autoseg.records import Calibration, Geometry, Labels, MapKinds, Placement

#: What the maps are called, and the folders that they lie in.
KINDS = ("probabilities", "entropy", "disagreement")

#: Entropy and disagreement are stored in thousandths of a bit.
BITS_STEP = 0.001

#: Probabilities are taken no closer to 0 where their logarithm is needed: about what float32 can hold.
_SMALLEST = 1e-37


@dataclass(frozen=True, eq=False)
class CaseMaps:
    """The maps of one case, axes as stored in its file; None where a map was not asked for."""

    labels: Labels
    calibration: Calibration | None
    geometry: Geometry
    probabilities: NDArray[np.uint16] | None  # (K, k, j, i), 65535 is 1
    entropy: NDArray[np.float32] | None  # (k, j, i), bits
    disagreement: NDArray[np.float32] | None  # (k, j, i), bits

    @property
    def gathering(self) -> CaseMaps | None:
        """Itself, where it gathers disagreement."""
        return None if self.disagreement is None else self

    def put(self, mean: Tensor, placement: Placement, first: int) -> None:
        """Take the averaged probabilities (K, planes, Y, X) of planes of the cropped grid, from plane `first` on."""
        self._put(mean, lambda whole: view_of_crop(whole, placement)[..., first : first + mean.shape[1], :, :])

    def put_whole(self, mean: NDArray[np.float32]) -> None:
        """Take the averaged probabilities (K, k, j, i) of the whole image, axes as stored; plane by plane."""
        for plane in range(mean.shape[1]):
            self._put(torch.from_numpy(mean[:, plane : plane + 1]), partial(_plane, plane))

    def disagree(self, bits: NDArray[np.float32], placement: Placement, first: int) -> None:
        """Add to the disagreement, on planes (planes, Y, X) of the cropped grid from plane `first` on."""
        if self.disagreement is not None:
            target = view_of_crop(self.disagreement, placement)[first : first + len(bits)]
            target += bits

    def disagree_whole(self, bits: NDArray[np.float32]) -> None:
        """Add to the disagreement, on the whole image (k, j, i)."""
        if self.disagreement is not None:
            self.disagreement[...] += bits

    def _put(self, mean: Tensor, place: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        if self.probabilities is None and self.entropy is None:
            return
        calibrated = calibrated_probabilities(mean, self.labels, self.calibration)
        if self.probabilities is not None:
            stored = (calibrated * FULL).round().to(torch.int32).cpu().numpy()
            place(self.probabilities)[...] = stored.astype(np.uint16)
        if self.entropy is not None:
            place(self.entropy)[...] = entropy_bits(calibrated, self.labels.has_regions).cpu().numpy()


def open_maps(
    kinds: MapKinds,
    labels: Labels,
    calibration: Calibration | None,
    geometry: Geometry,
    folder: Path,
) -> CaseMaps | None:
    """Maps to be filled, on the disk of `folder`: sure of the background so far. None where none is asked for."""
    if not (kinds.probabilities or kinds.uncertainty):
        return None
    shape = geometry.shape
    probabilities = scratch_array(folder, (labels.heads, *shape), np.uint16) if kinds.probabilities else None
    if probabilities is not None and not labels.has_regions:
        probabilities[0] = FULL
    entropy, disagreement = (scratch_array(folder, shape, np.float32) if kinds.uncertainty else None for _ in range(2))
    return CaseMaps(labels, calibration, geometry, probabilities, entropy, disagreement)


def write_maps(maps: CaseMaps, case_id: str, folder: Path, like: Path) -> dict[str, Path]:
    """Write the maps of a case below the folder of its mask; by kind where they are.

    They have folders of their own, so that nobody takes them for masks.
    """
    written = {}
    made = (maps.probabilities, maps.entropy, maps.disagreement)
    for kind, values, slope in zip(KINDS, made, (1 / FULL, BITS_STEP, BITS_STEP), strict=True):
        if values is not None:
            written[kind] = map_path(case_id, folder, kind)
            write_map(written[kind], values, slope, maps.geometry, like)
    return written


def map_path(case_id: str, folder: Path, kind: str) -> Path:
    """Where a map of a case lies, below the folder of its mask."""
    return folder / kind / f"{case_id}.nii.gz"


def map_paths(case_id: str, folder: Path, kinds: MapKinds) -> dict[str, Path]:
    """Where the maps of a case lie that are asked for, by kind."""
    asked = (kinds.probabilities, kinds.uncertainty, kinds.uncertainty)
    return {kind: map_path(case_id, folder, kind) for kind, wanted in zip(KINDS, asked, strict=True) if wanted}


def calibrated_probabilities(mean: Tensor, labels: Labels, calibration: Calibration | None) -> Tensor:
    """Probabilities (K, …) after the temperatures of a model; as they are where it has none.

    A softmax's log-probabilities are divided by the one temperature, a region's log-odds by its own (Guo et al. 2017).
    Which label is the most probable, and on which side of a half a region is, stays as it was.
    """
    if calibration is None:
        return mean
    values = [entry.value for entry in calibration.temperatures]
    if not labels.has_regions:
        return (mean.clamp_min(_SMALLEST).log() / values[0]).softmax(0)
    divisors = torch.tensor(values, dtype=mean.dtype, device=mean.device).view(-1, *(1,) * (mean.ndim - 1))
    return (mean.logit(eps=1e-7) / divisors).sigmoid()


def entropy_bits(probabilities: Tensor, independent: bool) -> Tensor:
    """Entropy of probabilities (K, …) in bits: 1 is a coin between two labels. Of regions that of each, added up."""
    if independent:
        other = 1 - probabilities
        nats = torch.special.entr(probabilities) + torch.special.entr(other)
    else:
        nats = torch.special.entr(probabilities)
    bits: Tensor = nats.sum(0) / math.log(2)
    return bits


def between_groups_bits(
    mean: NDArray[np.float32], groups: Sequence[NDArray[np.float32]], independent: bool
) -> NDArray[np.float32]:
    """How much groups of networks whose probabilities (K, …) are averaged disagree: their mutual information in bits.

    Entropy of the mean less the mean of the entropies (Houlsby et al. 2011, BALD): mean_g KL(p_g || mean).
    """
    whole = entropy_bits(torch.from_numpy(mean), independent)
    parts = sum(entropy_bits(torch.from_numpy(part), independent) for part in groups)
    found: NDArray[np.float32] = (whole - parts / len(groups)).clamp(min=0).numpy()
    return found


def entropy_of(whole: NDArray[np.float32], independent: bool) -> NDArray[np.float32]:
    """`entropy_bits` of probabilities (K, k, j, i), plane by plane."""
    found = np.empty(whole.shape[1:], dtype=np.float32)
    for plane in range(whole.shape[1]):
        found[plane] = entropy_bits(torch.from_numpy(whole[:, plane]), independent).numpy()
    return found


def _plane(number: int, whole: NDArray[Any]) -> NDArray[Any]:
    return whole[..., number : number + 1, :, :]
