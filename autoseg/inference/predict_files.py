"""Many cases, file to file: while the network works on one case the next is read and the last is written.

Three lanes: reading and preparing (a thread), the network (the caller's thread), writing (a thread). At
most one case waits before and one after the network, so memory does not grow with the number of cases.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.label_volumes import label_volumes
from autoseg.arrays.quantiles import channel_quantiles
from autoseg.dataset.image_sides import side_names
from autoseg.dataset.readers import mask_ending, read_image, write_labels
from autoseg.errors import AutosegError, PredictionError
from autoseg.fingerprint.likeness import Unlike, unlike_grid, unlike_intensities
from autoseg.inference.intake import is_blank, mended
from autoseg.inference.maps import CaseMaps, open_maps, write_maps
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import LoadedModel
from autoseg.inference.volume import mask_of_prepared, prepare_volume
from autoseg.inference.witness import Witness
from autoseg.records import (
    BEST_PREDICTION,
    NO_MAPS,
    Case,
    CaseEvidence,
    Geometry,
    LabelEvidence,
    Labels,
    MapKinds,
    PredictSettings,
    PreparedCase,
    Volume,
)

Value = TypeVar("Value")

#: Cases whose masks may wait to be written while the network goes on.
_WAITING_MASKS = 1


@dataclass(frozen=True)
class CaseOutcome:
    """What became of one case: its mask, or the reason why there is none."""

    case: Case
    mask: Path | None = None
    error: AutosegError | None = None
    seconds: dict[str, float] = field(default_factory=dict)  # read, network, write
    notes: tuple[str, ...] = ()  # what the reader found odd, and what was spared
    unlike: tuple[Unlike, ...] = ()  # what sets its image apart from those of the training
    seen: CaseEvidence = field(default_factory=CaseEvidence)  # how far its mask can be trusted
    maps: Mapping[str, Path] = field(default_factory=dict)  # kind -> file

    def unwrap(self) -> Path:
        """The mask's path; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        if self.mask is None:
            raise PredictionError("has no mask", where=self.case.id)
        return self.mask


def mask_path(case: Case, masks_folder: Path) -> Path:
    """Where the mask of a case goes: the case's name with its image's ending (or a lossless one)."""
    return masks_folder / f"{case.id}{mask_ending(case.images[0])}"


def predict_cases(
    model: LoadedModel,
    cases: Sequence[Case],
    masks_folder: Path,
    *,
    settings: PredictSettings = BEST_PREDICTION,
    maps: MapKinds = NO_MAPS,
    on_tile: Callable[[int], None] | None = None,
    on_unlike: Callable[[Case, Sequence[Unlike]], None] | None = None,
) -> Iterator[CaseOutcome]:
    """One outcome per case, in order, as masks are written; a case that fails does not stop the others.

    `maps` are written in folders beside the masks. `on_unlike` is told, before the network runs on a case, what sets
    it apart from the training.

    Masks lie on their image's grid and are written atomically; one that exists is replaced (whoever must not lose it
    leaves its case out). Stopping the iteration waits for the case being read and the masks being written.
    """
    model = narrowed(model, settings)
    reader = ThreadPoolExecutor(1, "autoseg-read")
    writer = ThreadPoolExecutor(1, "autoseg-write")
    pending: deque[Future[CaseOutcome]] = deque()
    try:
        following = reader.submit(_read, model, cases[0]) if cases else None
        for index, case in enumerate(cases):
            if following is None:
                break
            loaded = following.result()
            more = index + 1 < len(cases)
            following = reader.submit(_read, model, cases[index + 1]) if more else None
            if isinstance(loaded, CaseOutcome):
                pending.append(_finished(loaded))
            else:
                if loaded.unlike and on_unlike is not None:
                    on_unlike(case, loaded.unlike)
                asked = _Asked(masks_folder, settings, maps, on_tile)
                pending.append(_score(model, case, loaded, writer, asked))
            del loaded
            while len(pending) > _WAITING_MASKS or (pending and pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        reader.shutdown(wait=True, cancel_futures=True)
        writer.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A case that waits for the network."""

    prepared: tuple[PreparedCase, ...]  # empty where there is nothing to see in the image
    geometry: Geometry
    notes: tuple[str, ...]
    unlike: tuple[Unlike, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is to be made of each case."""

    folder: Path
    settings: PredictSettings
    maps: MapKinds
    on_tile: Callable[[int], None] | None


@dataclass(frozen=True, eq=False)
class _Scored:
    """A case that waits to be written."""

    outcome: CaseOutcome  # as far as it is known
    labels: NDArray[np.integer]  # (k, j, i), the file's grid and values
    names: Labels
    geometry: Geometry
    evidence: dict[str, LabelEvidence]
    maps: CaseMaps | None


def _read(model: LoadedModel, case: Case) -> _Loaded | CaseOutcome:
    """Read and prepare one case (reading thread)."""

    def work() -> _Loaded:
        began = time.perf_counter()
        volume = mended(read_image(case.images))
        unlike = unlike_training(model, volume, case.missing)
        prepared = () if is_blank(volume) else prepare_volume(model, case.id, volume, case.missing)
        return _Loaded(prepared, volume.geometry, volume.notes, unlike, time.perf_counter() - began)

    loaded = _guarded(case, work)
    return CaseOutcome(case, error=loaded) if isinstance(loaded, AutosegError) else loaded


def unlike_training(model: LoadedModel, volume: Volume, missing: Sequence[int] = ()) -> tuple[Unlike, ...]:
    """What sets an image apart from those that the model was trained on; of channels only where none is missing."""
    known = model.header.fingerprint
    preparations = [group.configuration.preparation for group in model.groups]
    found = unlike_grid(known, volume.geometry, any(entry.orientation == "stored" for entry in preparations))
    if not missing:
        quantiles = channel_quantiles(volume.image)
        found += unlike_intensities(known, quantiles, model.header.channels, preparations[0].normalization)
    return tuple(found)


def _score(
    model: LoadedModel, case: Case, loaded: _Loaded, writer: ThreadPoolExecutor, asked: _Asked
) -> Future[CaseOutcome]:
    """Run the network on one case (caller's thread) and hand the mask to the writing thread."""
    began = time.perf_counter()
    notes = list(loaded.notes)

    def work() -> _Scored:
        maps = open_maps(asked.maps, model.labels, model.header.calibration, loaded.geometry, asked.folder)
        witness = Witness(model.labels, maps)
        if not loaded.prepared:
            nothing = np.zeros(loaded.geometry.shape, dtype=np.uint8)
            return _Scored(known, nothing, model.labels, loaded.geometry, witness.evidence(), maps)
        found = mask_of_prepared(
            model,
            loaded.prepared,
            settings=asked.settings,
            on_tile=asked.on_tile,
            on_note=notes.append,
            witness=witness,
        )
        return _Scored(known, found, model.labels, loaded.geometry, witness.evidence(), maps)

    known = CaseOutcome(case, unlike=loaded.unlike)
    scored = _guarded(case, work)
    seconds = {"read": loaded.seconds, "network": time.perf_counter() - began}
    known = replace(known, seconds=seconds, notes=tuple(notes))
    if isinstance(scored, AutosegError):
        return _finished(replace(known, error=scored))
    return writer.submit(_write, replace(scored, outcome=known), asked.folder)


def _write(scored: _Scored, folder: Path) -> CaseOutcome:
    """Write one mask and its maps (writing thread)."""
    began = time.perf_counter()
    case, geometry = scored.outcome.case, scored.geometry
    path = mask_path(case, folder)

    def work() -> CaseOutcome:
        maps = {} if scored.maps is None else write_maps(scored.maps, case.id, folder, case.images[0])
        volumes = label_volumes(scored.labels, geometry.voxel_ml, scored.names, side_names(geometry))
        write_labels(path, scored.labels, geometry, case.images[0])  # last: what has a mask has all that goes with it
        seen = CaseEvidence(evidence=scored.evidence, volumes=volumes)
        return replace(scored.outcome, mask=path, maps=maps, seen=seen)

    written = _guarded(case, work)
    seconds = {**scored.outcome.seconds, "write": time.perf_counter() - began}
    if isinstance(written, AutosegError):
        return replace(scored.outcome, error=written, seconds=seconds)
    return replace(written, seconds=seconds)


def _guarded(case: Case, work: Callable[[], Value]) -> Value | AutosegError:
    """What `work` gives, or why it failed: whatever is wrong with one case must not end the others."""
    try:
        return work()
    except AutosegError as error:
        return error if error.where is not None else type(error)(error.what, where=case.id, remedy=error.remedy)
    except MemoryError:
        return PredictionError("memory ran out", where=case.id, remedy="Close other programs, or predict it elsewhere.")
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, whatever the device
            return PredictionError(
                "the device's memory ran out", where=case.id, remedy="Use --device cpu for this case."
            )
        trace = "".join(traceback.format_exception(error))
        return PredictionError(f"unexpected {type(error).__name__}: {error}\n{trace}", where=case.id)


def _finished(outcome: CaseOutcome) -> Future[CaseOutcome]:
    future: Future[CaseOutcome] = Future()
    future.set_result(outcome)
    return future
