"""A volume in network space, as every network of a model needs it.

Nothing here needs torch, so that a process that only reads and prepares starts fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.arrays.orientation import STORED, closest_canonical, oriented_spacing
from autoseg.arrays.quantiles import channel_quantiles
from autoseg.arrays.resample import resampled_shape
from autoseg.errors import PredictionError
from autoseg.fingerprint.likeness import Unlike, unlike_grid, unlike_intensities
from autoseg.machine import total_memory
from autoseg.preprocessing.case import to_network_space
from autoseg.records import Geometry, Preparation, PreparedCase, Shape, TrainingData, Volume


@dataclass(frozen=True)
class Preparing:
    """What of a model decides how a volume is prepared."""

    channels: tuple[str, ...]
    may_lack: bool  # whether the model can do without a channel
    preparations: tuple[Preparation, ...]  # of each group of networks, in their order
    training: TrainingData  # the ranges of what the model was trained on


def prepared_for(
    preparing: Preparing, case_id: str, volume: Volume, missing: Sequence[int] = (), *, owned: bool = False
) -> tuple[PreparedCase, ...]:
    """The case in network space, once per preparation (one and the same array where two are equal).

    With `owned` the volume's image may be written over.

    Channels that are `missing` from the volume, which a model trained with channel dropout can do without, are zeros
    there, as they were in its training.

    Raises PredictionError when the image does not have the model's channels.
    """
    channels = preparing.channels
    gaps = list(missing) if preparing.may_lack else []
    if gaps:
        volume = _with_gaps(volume, gaps)
    if volume.image.shape[0] != len(channels):
        raise PredictionError(
            f"the image has {_plural(volume.image.shape[0], 'channel')}, the model needs {len(channels)}: "
            f"{', '.join(channels)}",
            where=case_id,
            remedy="Give one file per channel, in this order.",
        )
    prepared: list[PreparedCase] = []
    every = preparing.preparations
    last = max(index for index, preparation in enumerate(every) if preparation not in every[:index])
    for index, preparation in enumerate(preparing.preparations):
        earlier = preparing.preparations[:index]
        if preparation in earlier:
            prepared.append(prepared[earlier.index(preparation)])
        else:
            free = owned and index == last  # nobody needs the image after this one
            case = to_network_space(case_id, volume, None, preparation, most_bytes=total_memory(), owned=free)
            case.image[gaps] = 0
            prepared.append(case)
    return tuple(prepared)


def unlike_training(preparing: Preparing, volume: Volume, missing: Sequence[int] = ()) -> tuple[Unlike, ...]:
    """What sets an image apart from those that the model was trained on; of channels only where none is missing."""
    known, preparations = preparing.training, preparing.preparations
    found = unlike_grid(known, volume.geometry, any(entry.orientation == "stored" for entry in preparations))
    if not missing:
        quantiles = channel_quantiles(volume.image)
        found += unlike_intensities(known, quantiles, preparing.channels, preparations[0].normalization)
    return tuple(found)


def _with_gaps(volume: Volume, missing: Sequence[int]) -> Volume:
    """The volume with channels of zeros in the places of the missing ones; they take no part in cropping."""
    count = volume.image.shape[0] + len(missing)
    image = np.zeros((count, *volume.image.shape[1:]), dtype=np.float32)
    image[[channel for channel in range(count) if channel not in missing]] = volume.image
    return Volume(image, volume.geometry, volume.notes)


@dataclass(frozen=True)
class ExpectedGrid:
    """How a volume becomes a prepared one, from its header alone.

    Upper bounds: the crop to what is not zero is known only once the image is read.
    """

    turned: bool  # whether its axes change places or direction
    own: Shape  # voxels (Z, Y, X) in the network's axes, before resampling
    prepared: Shape

    @property
    def resampled(self) -> bool:
        """Whether the whole of it is; a part, which is smaller, is then at most so far from its own size."""
        return self.prepared != self.own


def expected_shape(geometry: Geometry, preparation: Preparation) -> Shape:
    """Voxels (Z, Y, X) of a prepared volume (`ExpectedGrid`)."""
    return expected_grid(geometry, preparation).prepared


def expected_grid(geometry: Geometry, preparation: Preparation) -> ExpectedGrid:
    """The grids of a volume on its way into network space."""
    orientation = closest_canonical(geometry) if preparation.orientation == "ras" else STORED
    oriented = oriented_spacing(geometry, orientation)
    order = preparation.axis_order
    z, y, x = (geometry.shape[orientation.axes[axis]] for axis in order)
    spacing = [oriented[axis] for axis in order]
    wanted = [own if new is None else new for own, new in zip(spacing, preparation.spacing, strict=True)]
    return ExpectedGrid(
        turned=orientation != STORED or order != (0, 1, 2),
        own=(z, y, x),
        prepared=resampled_shape((z, y, x), spacing, wanted),
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
