"""Three lanes: reading and preparing (`inference.reading`), the network (the caller's thread), writing (a thread).

At most one case per reader waits before the network and one after it, and none where there is no memory for that. Each
is worked on in the quickest mode in which it fits (`inference.memory`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from autoseg.dataset.mask_writers import MaskWriter
from autoseg.dataset.readers import decoded_bytes
from autoseg.errors import AutosegError, ReadError, WorkerDied
from autoseg.fingerprint.likeness import Unlike
from autoseg.inference.maps import open_maps
from autoseg.inference.memory import UNKNOWN, CaseMemory, budget, case_memory
from autoseg.inference.memory_watch import MemoryWatch
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
from autoseg.records import Case, Geometry, MapKinds, PredictLimits, PredictSettings

Value = TypeVar("Value")

_NUMPY_TYPES: dict[torch.dtype, type[np.generic]] = {torch.float32: np.float32, torch.float16: np.float16}

#: Seconds between two looks at whether to stop, while nothing else is to be done.
_LOOK_EVERY = 0.2

#: Cases, and bytes that reading one of them takes, from which processes of their own read. Starting one takes about a
#: second of a core: few small cases are done before that pays, and do not crash for lack of memory.
PROCESS_FROM_CASES = 50
PROCESS_FROM_BYTES = 500_000_000

#: Processes that read for a GPU at most; a CPU's network is slower than one.
MOST_READERS = 3


@dataclass(frozen=True, eq=False)
class Asked:
    """What is to be made of each case, and who listens."""

    folder: Path
    settings: PredictSettings
    maps: MapKinds
    writer: MaskWriter
    on_tile: Callable[[int], None]
    on_unlike: Callable[[Case, Sequence[Unlike]], None]
    before_naming: Callable[[CaseOutcome, Path], None]
    check: Callable[[], None]


class Lanes:
    """The three lanes, and what of each case is in them."""

    def __init__(
        self,
        model: LoadedModel,
        cases: Sequence[Case],
        grids: Mapping[str, Geometry],
        asked: Asked,
        limits: PredictLimits,
        tell: Callable[[str], None],
    ) -> None:
        self.model, self.cases, self.asked = model, cases, asked
        self._memory = [_expected(model, case, grids.get(case.id), asked.settings) for case in cases]
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


def _expected(model: LoadedModel, case: Case, grid: Geometry | None, settings: PredictSettings) -> CaseMemory:
    """What a case takes; nothing is known of one whose header cannot be read, and it will fail by name."""
    if grid is None:
        return UNKNOWN
    try:
        return case_memory(model, grid, settings, decoded_bytes(case.images))
    except ReadError:
        return UNKNOWN


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
