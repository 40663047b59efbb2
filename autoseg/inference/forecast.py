"""What predicting a case will take, from its header alone: passes through the networks, seconds, memory.

Passes are counted, seconds follow from a pass that was timed, and what belongs to the voxels (reading, preparing, the
way back, writing) from how long a voxel took. The crop to what is not zero, and a region of interest, are known only
once an image is read: in that respect all figures are upper bounds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autoseg import devices
from autoseg.inference.memory import MODES, case_memory
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import LoadedModel, MemberGroup
from autoseg.inference.preparing import expected_shape
from autoseg.inference.region import COARSE
from autoseg.inference.scores import batch_size, score_slabs_of
from autoseg.inference.sliding_window import Room
from autoseg.inference.tile_grid import mirror_sets, tile_grid
from autoseg.records import Geometry, PredictSettings, SpeedMode

#: Seconds for a million voxels, on one core of an Ice Lake server: reading a channel of .nii.gz (0.006 to 0.02),
#: preparing one (0.006 where the spacing stays, 0.03 to 0.07 where it changes), a score on the way back to the image's
#: grid (0.011 to 0.026 for 3 to 16 labels), writing a mask (0.008 to 0.026).
READ_SECONDS = 0.015
PREPARE_SECONDS = 0.05
SCORE_SECONDS = 0.02
WRITE_SECONDS = 0.02

#: A pass is timed again if it took less than this: what happens once, at the first pass, would count too much.
SHORT_PASS_SECONDS = 1.0


@dataclass(frozen=True)
class Work:
    """What one group of networks does to one case."""

    group: MemberGroup
    tiles: int
    passes: int  # of each network: tiles and their mirrored copies


@dataclass(frozen=True)
class CaseForecast:
    """What one case will take."""

    passes: int  # all networks counted
    tiles: int
    reading: float  # seconds, preparing included
    network: float  # the way back to the image's grid included
    writing: float
    bytes: int  # of memory, beside the networks

    @property
    def seconds(self) -> float:
        """From the file to the mask, for a case alone."""
        return self.reading + self.network + self.writing


def works(model: LoadedModel, geometry: Geometry, settings: PredictSettings) -> list[Work]:
    """What each group does to a case, first stages and the coarse pass included."""
    chosen = narrowed(model, settings)
    found = []
    for group in chosen.preparing:
        if group is chosen.locator and all(other.first_stage is not None for other in chosen.groups):
            continue  # the first stages tell where the region is
        how = COARSE if group is chosen.locator else settings
        shape = expected_shape(geometry, group.configuration.preparation)
        tiles = tile_grid(shape, group.configuration.patch_size, how.step).tiles
        found.append(Work(group, tiles, tiles * len(mirror_sets(group.mirror_axes if how.mirror else ()))))
    return found


def measured_on(mode: SpeedMode, model: LoadedModel) -> bool:
    """Whether the mode carries seconds that were measured on a device like the model's."""
    return mode.seconds_per_million_voxels is not None and mode.device == devices.describe(model.device)


def time_passes(model: LoadedModel, most: int | None = None) -> dict[str, float]:
    """Seconds that one patch takes in a network, by the networks' names: one batch of zeros for each group is timed.

    A batch has no more than `most` patches, where memory is scarce.
    """
    seconds: dict[str, float] = {}
    for group in {group.names: group for group in model.preparing}.values():
        best = batch_size(model.device, group.configuration.patch_size)
        size = min(best, most or best)
        took = _time_batch(model, group, size)
        if took < SHORT_PASS_SECONDS:
            took = min(took, _time_batch(model, group, size))
        each = took / size / len(group.networks)
        seconds |= dict.fromkeys(group.names, each)
    return seconds


def _time_batch(model: LoadedModel, group: MemberGroup, size: int) -> float:
    """Seconds for one batch of so many patches side by side, all networks of the group."""
    configuration = group.configuration
    z, y, x = (1, *configuration.patch_size)[-3:]
    channels = len(model.header.channels) + (group.first_stage is not None)
    image = np.zeros((channels, z, y, x * size), dtype=np.float32)
    devices.synchronize(model.device)
    began = time.perf_counter()
    for _ in score_slabs_of(model, group, image, settings=COARSE, room=Room(batch_size=size)):
        pass
    devices.synchronize(model.device)
    return time.perf_counter() - began


def forecast(
    model: LoadedModel,
    geometry: Geometry,
    mode: SpeedMode,
    pass_seconds: Mapping[str, float] | None,
    *,
    decoded: int | None = None,
    only: bool = False,
) -> CaseForecast:
    """What a case will take in a mode.

    Args:
        pass_seconds: what `time_passes` gave; None takes the mode's own seconds.
        decoded: bytes of its numbers while it is read (`dataset.readers.decoded_bytes`).
        only: whether no other case is read while the network works on it, and none is written.
    """
    todo = works(model, geometry, mode.settings)
    channels, heads = len(model.header.channels), model.labels.heads
    voxels = math.prod(geometry.shape)
    prepared = {work.group.configuration.preparation.spacing: prepared_voxels(geometry, work.group) for work in todo}
    if pass_seconds is None:
        if mode.seconds_per_million_voxels is None:
            raise ValueError(f"nothing was measured of {mode.name}")
        network = mode.seconds_per_million_voxels * prepared_voxels(geometry, todo[0].group) / 1e6
    else:
        passes = sum(work.passes * sum(pass_seconds[name] for name in work.group.names) for work in todo)
        network = passes + SCORE_SECONDS * voxels * heads / 1e6
    memory = case_memory(narrowed(model, mode.settings), geometry, mode.settings, decoded)
    return CaseForecast(
        passes=sum(work.passes * len(work.group.networks) for work in todo),
        tiles=sum(work.tiles for work in todo),
        reading=(READ_SECONDS * voxels + PREPARE_SECONDS * sum(prepared.values())) * channels / 1e6,
        network=network,
        writing=WRITE_SECONDS * voxels / 1e6,
        bytes=memory.alone(MODES[0]) if only else memory.beside_another,
    )


def prepared_voxels(geometry: Geometry, group: MemberGroup) -> int:
    """Voxels of a case in the network space of a group, uncropped."""
    return math.prod(expected_shape(geometry, group.configuration.preparation))


def together(forecasts: list[CaseForecast]) -> float:
    """Seconds for all cases, one after the other: while the network works, the next is read and the last written."""
    if not forecasts:
        return 0.0
    middle = sum(max(case.reading, case.network, case.writing) for case in forecasts)
    return forecasts[0].reading + middle + forecasts[-1].writing
