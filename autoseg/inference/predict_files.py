"""Many cases, file to file: while the network works on one case the next is read and the last is written.

Three lanes: reading and preparing (`inference.reading`), the network (the caller's thread), writing (a thread). At most
one case per reader waits before the network and one after it, and none where there is no memory for that: a case that
does not fit beside others is worked on alone, in the quickest mode in which it fits (`inference.memory`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from autoseg.dataset.inputs import grids_of
from autoseg.dataset.mask_writers import LIKE_IMAGE, MaskWriter
from autoseg.errors import AutosegError, WorkerDied
from autoseg.fingerprint.likeness import Unlike
from autoseg.inference.maps import open_maps
from autoseg.inference.memory import UNKNOWN, CaseMemory, budget, case_memory
from autoseg.inference.memory_watch import MemoryWatch
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import LoadedModel
from autoseg.inference.reading import CaseReader, Killed, LoadedCase, guarded, named
from autoseg.inference.scratch import scratch_array
from autoseg.inference.sliding_window import Room
from autoseg.inference.spill import SpillFolder
from autoseg.inference.thing_scores import ThingScores
from autoseg.inference.volume import mask_of_prepared, preparing_of
from autoseg.inference.witness import Witness
from autoseg.inference.writing import CaseOutcome, ScoredCase, forget, write_case
from autoseg.inference.writing import named as named_mask
from autoseg.machine import available_cores, free_memory, own_memory
from autoseg.records import (
    BEST_PREDICTION,
    NO_LIMITS,
    NO_MAPS,
    Case,
    Geometry,
    MapKinds,
    PredictLimits,
    PredictSettings,
)

Value = TypeVar("Value")

_NUMPY_TYPES: dict[torch.dtype, type[np.generic]] = {torch.float32: np.float32, torch.float16: np.float16}

#: Cases whose masks may wait to be written while the network goes on.
_WAITING_MASKS = 1

#: Seconds between two looks at whether to stop, while nothing else is to be done.
_LOOK_EVERY = 0.2

#: Cases, and bytes that reading one of them takes, from which processes of their own read. Starting one takes about a
#: second of a core: few small cases are done before that pays, and do not crash for lack of memory.
PROCESS_FROM_CASES = 50
PROCESS_FROM_BYTES = 500_000_000

#: Processes that read for a GPU at most; a CPU's network is slower than one.
MOST_READERS = 3


def predict_cases(
    model: LoadedModel,
    cases: Sequence[Case],
    masks_folder: Path,
    *,
    grids: Mapping[str, Geometry] | None = None,
    settings: PredictSettings = BEST_PREDICTION,
    limits: PredictLimits = NO_LIMITS,
    maps: MapKinds = NO_MAPS,
    writer: MaskWriter = LIKE_IMAGE,
    on_tile: Callable[[int], None] | None = None,
    on_unlike: Callable[[Case, Sequence[Unlike]], None] | None = None,
    before_naming: Callable[[CaseOutcome, Path], None] | None = None,
    check: Callable[[], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Generator[CaseOutcome, None, None]:
    """One outcome per case, in order, as masks are written; a case that fails does not stop the others.

    Masks lie on their image's grid and are written atomically; one that exists is replaced (whoever must not lose it
    leaves its case out). Stopping the iteration (close the generator) ends reading processes at once, and waits for
    masks being written.

    Args:
        grids: of the cases by id, where they are known (`dataset.inputs.grids_of`).
        limits: memory and processes; they decide no mask (but for rounding).
        maps: written in folders beside the masks.
        writer: format of the masks.
        on_tile: told the number of tiles finished since its last call.
        on_unlike: told, before the network runs on a case, what sets it apart from the training.
        before_naming: told of each mask that is complete, and where it lies, before it gets its name: what is noted of
            it then holds for every mask that there is, whenever the program is killed.
        check: called between tiles and while the caller's thread waits; what it raises ends the iteration.
        tell: told, possibly from another thread, what happens to reading processes.
    """
    model = narrowed(model, settings)
    listeners = (on_tile or _nothing, on_unlike or _nothing, before_naming or _nothing, check or _nothing)
    asked = _Asked(masks_folder, settings, maps, writer, *listeners)
    lanes = _Lanes(model, cases, grids_of(cases) if grids is None else grids, asked, limits, tell or _nothing)
    try:
        for index in range(len(cases)):
            if not lanes.read_ahead(index):
                yield from lanes.written(0)  # it is worked on alone
            loaded = lanes.loaded(index)
            if isinstance(loaded, Killed):
                yield from lanes.written(0)
                loaded = lanes.loaded_alone(index)
            yield from lanes.before_network(index)
            lanes.score(index, loaded)
            del loaded
            yield from lanes.written(_WAITING_MASKS)
        yield from lanes.written(0)
    finally:
        lanes.close()


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is to be made of each case, and who listens."""

    folder: Path
    settings: PredictSettings
    maps: MapKinds
    writer: MaskWriter
    on_tile: Callable[[int], None]
    on_unlike: Callable[[Case, Sequence[Unlike]], None]
    before_naming: Callable[[CaseOutcome, Path], None]
    check: Callable[[], None]


class _Lanes:
    """The three lanes, and what of each case is in them."""

    def __init__(
        self,
        model: LoadedModel,
        cases: Sequence[Case],
        grids: Mapping[str, Geometry],
        asked: _Asked,
        limits: PredictLimits,
        tell: Callable[[str], None],
    ) -> None:
        self.model, self.cases, self.asked = model, cases, asked
        self._memory = [_expected(model, grids.get(case.id), asked.settings) for case in cases]
        readers = _readers(self._memory, model.device, limits)
        self._budget = budget(limits, own_memory(), free_memory(), readers)
        self._spill = SpillFolder(asked.folder)
        self._reader = CaseReader(preparing_of(model), readers, self._spill, tell)
        self._writer = ThreadPoolExecutor(1, "autoseg-write")
        self._ahead = max(1, readers)
        self._reading: dict[int, Future[LoadedCase | AutosegError | Killed]] = {}
        self._pending: deque[tuple[int, Future[CaseOutcome]]] = deque()
        self._watch = MemoryWatch(model.device)

    # ------------------------------------------------------------------------------------------------- reading

    def read_ahead(self, index: int) -> bool:
        """Whether the case is being read already."""
        return index in self._reading

    def loaded(self, index: int) -> LoadedCase | AutosegError | Killed:
        """The case, read and prepared."""
        self._start(index)
        return self._awaited(self._reading.pop(index))

    def loaded_alone(self, index: int) -> LoadedCase | AutosegError:
        """A case whose reading process died, read once more while nothing else is worked on."""
        for future in self._reading.values():
            self._awaited(future)
        loaded = self.loaded(index)
        if not isinstance(loaded, Killed):
            return loaded
        return WorkerDied(
            f"could not be read: {loaded.error.what}, and the same again when nothing else was worked on",
            where=self.cases[index].id,
            remedy="Look whether the file is sound. If memory ran out, see --max-ram, or predict it elsewhere.",
        )

    def before_network(self, index: int) -> Iterator[CaseOutcome]:
        """Begin to read the next cases, as far as there is memory beside this one's network; else make room for it."""
        own = self._network_bytes(index)
        writing = [self._memory[other].writing for other, _ in self._pending]
        if not self._budget.fits(own, *writing, *self._reading_bytes()):
            yield from self.written(0)
            writing = []
        for following in range(index + 1, min(index + 1 + self._ahead, len(self.cases))):
            if following in self._reading:
                continue
            if not self._budget.fits(own, *writing, *self._reading_bytes(), self._memory[following].reading):
                break
            self._start(following)

    def _start(self, index: int) -> None:
        if index in self._reading:
            return
        try:
            on_disk = self._budget.mode(self._memory[index]).image_on_disk
        except AutosegError as error:  # it fits in no mode
            self._reading[index] = _finished(named(self.cases[index], error))
            return
        self._reading[index] = self._reader.submit(self.cases[index], on_disk=on_disk)

    def _reading_bytes(self) -> tuple[int, ...]:
        return tuple(self._memory[other].reading for other in self._reading)

    def _network_bytes(self, index: int) -> int:
        memory = self._memory[index]
        try:
            return memory.network(self._budget.mode(memory))
        except AutosegError:
            return 0  # it will not come that far

    # ------------------------------------------------------------------------------------------------- network

    def score(self, index: int, loaded: LoadedCase | AutosegError) -> None:
        """Run the network on one case (caller's thread) and hand the mask to the writing thread."""
        case = self.cases[index]
        if isinstance(loaded, AutosegError):
            self._pending.append((index, _finished(CaseOutcome(case, error=loaded))))
            return
        if loaded.unlike:
            self.asked.on_unlike(case, loaded.unlike)
        began = time.perf_counter()
        notes = list(loaded.notes)
        scored = guarded(case, lambda: self._scored(index, loaded, notes))
        seconds = {"read": loaded.seconds, "network": time.perf_counter() - began}
        known = CaseOutcome(
            case, unlike=loaded.unlike, seconds=seconds, peak_bytes=self._watch.take(), notes=tuple(notes)
        )
        if isinstance(scored, AutosegError):
            self._pending.append((index, _finished(replace(known, error=scored))))
            return
        asked = self.asked
        done = replace(scored, outcome=known)
        write = partial(write_case, object_masks=asked.maps.object_masks)
        written = self._writer.submit(write, done, asked.folder, asked.writer, asked.settings.labels)
        self._pending.append((index, written))

    def _scored(self, index: int, loaded: LoadedCase, notes: list[str]) -> ScoredCase:
        model, asked, mode = self.model, self.asked, self._budget.mode(self._memory[index])
        maps = open_maps(asked.maps, model.labels, model.header.calibration, loaded.geometry, asked.folder)
        things = None
        if model.labels.things:
            things = ThingScores(model.labels, model.header.calibration, loaded.geometry, asked.folder)
        takers = [taker for taker in (maps, things) if taker is not None]
        witness = Witness(model.labels, *takers, gathering=None if maps is None else maps.gathering)
        known, sure = CaseOutcome(self.cases[index]), None if things is None else things.probabilities
        if not loaded.prepared:
            nothing = np.zeros(loaded.geometry.shape, dtype=np.uint8)
            return ScoredCase(known, nothing, model.labels, loaded.geometry, witness.evidence(), maps, sure)
        found = mask_of_prepared(
            model,
            loaded.prepared,
            settings=asked.settings,
            room=Room(batch_size=mode.batch_size, allocate=self._on_disk if mode.sums_on_disk else None),
            on_tile=self._ticked,
            on_note=notes.append,
            witness=witness,
        )
        return ScoredCase(known, found, model.labels, loaded.geometry, witness.evidence(), maps, sure)

    def _on_disk(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(scratch_array(self.asked.folder, shape, _NUMPY_TYPES[dtype]))

    def _ticked(self, tiles: int) -> None:
        self.asked.check()
        self.asked.on_tile(tiles)

    # ------------------------------------------------------------------------------------------------- writing

    def written(self, waiting: int) -> Iterator[CaseOutcome]:
        """Outcomes of cases that are done, until no more than so many wait to be written."""
        while self._pending and (len(self._pending) > waiting or self._pending[0][1].done()):
            yield named_mask(self._awaited(self._pending.popleft()[1]), self.asked.before_naming)

    def close(self) -> None:
        """End the lanes; masks being written come to their end."""
        self._watch.close()
        self._reader.close()
        self._writer.shutdown(wait=True, cancel_futures=True)
        for _, future in self._pending:  # nobody asks for these any more
            if not future.cancelled():
                forget(future.result())
        self._spill.close()

    def _awaited(self, future: Future[Value]) -> Value:
        """What the future gives; `check` is asked meanwhile."""
        while not future.done():
            wait([future], timeout=_LOOK_EVERY)
            self.asked.check()
        return future.result()


def _expected(model: LoadedModel, grid: Geometry | None, settings: PredictSettings) -> CaseMemory:
    """What a case takes; nothing is known of one whose header cannot be read, and it will fail by name."""
    return UNKNOWN if grid is None else case_memory(model, grid, settings)


def _readers(cases: Sequence[CaseMemory], device: torch.device, limits: PredictLimits) -> int:
    """Processes that read."""
    if limits.workers is not None:
        return min(limits.workers, len(cases))
    if len(cases) < PROCESS_FROM_CASES and all(case.reading < PROCESS_FROM_BYTES for case in cases):
        return 0
    return 1 if device.type == "cpu" else max(1, min(MOST_READERS, available_cores() // 2, len(cases)))


def _finished(value: Value) -> Future[Value]:
    future: Future[Value] = Future()
    future.set_result(value)
    return future


def _nothing(*_: object) -> None:
    """Listens, and does nothing."""
