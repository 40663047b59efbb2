"""Reading and preparing cases ahead of the network: in a thread of this process, or in processes of their own.

A process of its own keeps a reader that crashes, or that is killed for the memory it takes, away from the network.
Small arrays come back through its pipe and large ones as files beside the masks, so no shared memory is needed. Nothing
here needs torch, so that such a process starts fast.
"""

from __future__ import annotations

import queue
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from autoseg.dataset.readers import read_image
from autoseg.errors import AutosegError, PredictionError, WorkerDied, is_out_of_memory
from autoseg.fingerprint.likeness import Unlike
from autoseg.inference.intake import is_blank, mended
from autoseg.inference.preparing import Preparing, prepared_for, unlike_training
from autoseg.inference.spill import SpillFolder, StoredArray, store, take
from autoseg.records import Case, Geometry, PreparedCase
from autoseg.workers.apart import Helper

Value = TypeVar("Value")

#: Bytes of an image from which it comes from another process as a file.
FILE_FROM_BYTES = 1 << 24


@dataclass(frozen=True)
class ReadTask:
    """What a reading process is told."""

    case: Case
    preparing: Preparing
    folder: Path | None  # for images of `store_from` bytes and more
    store_from: int = 0


@dataclass(frozen=True, eq=False)
class LoadedCase:
    """A case that waits for the network."""

    prepared: tuple[PreparedCase, ...]  # empty where there is nothing to see in the image
    geometry: Geometry
    notes: tuple[str, ...]
    unlike: tuple[Unlike, ...]  # what sets its image apart from those of the training
    seconds: float
    stored: tuple[StoredArray | None, ...] = ()  # images that were put into files, in place of those in `prepared`


@dataclass(frozen=True)
class Killed:
    """The process that read a case is dead: the case may be read again, alone."""

    error: WorkerDied


class CaseReader:
    """Reads and prepares cases in so many processes; with 0 in a thread of this one.

    `tell` is told, at once and from another thread, that a process died, and why processes are not used.
    """

    def __init__(self, preparing: Preparing, processes: int, spill: SpillFolder, tell: Callable[[str], None]) -> None:
        self._preparing = preparing
        self._spill = spill
        self._tell = tell
        self._threads = ThreadPoolExecutor(max(1, processes), "autoseg-read")
        self._helpers = [Helper() for _ in range(processes)]
        self._idle: queue.SimpleQueue[Helper] = queue.SimpleQueue()
        for helper in self._helpers:
            self._idle.put(helper)
        self._apart = processes > 0

    def submit(self, case: Case, *, on_disk: bool) -> Future[LoadedCase | AutosegError | Killed]:
        """Begin to read a case; `on_disk` puts its images into files whatever their size."""
        return self._threads.submit(self._read, case, on_disk)

    def close(self) -> None:
        """End all processes, whatever they do, and wait for a case that a thread is reading."""
        for helper in self._helpers:
            helper.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _read(self, case: Case, on_disk: bool) -> LoadedCase | AutosegError | Killed:
        if self._apart:
            helper = self._idle.get()
            try:
                return self._read_apart(helper, case, on_disk)
            finally:
                self._idle.put(helper)
        task = ReadTask(case, self._preparing, self._spill.path if on_disk else None)
        loaded = guarded(case, lambda: read_case(task))
        return _opened(loaded) if isinstance(loaded, LoadedCase) else loaded

    def _read_apart(self, helper: Helper, case: Case, on_disk: bool) -> LoadedCase | AutosegError | Killed:
        started = helper.call(ready, None)
        if started.error is not None and not helper.closed:
            self._apart = False
            self._tell(f"no process could be started for reading ({started.error.what}), so this one reads")
            return self._read(case, on_disk)
        task = ReadTask(case, self._preparing, self._spill.path, 0 if on_disk else FILE_FROM_BYTES)
        outcome = helper.call(read_case, task)
        if isinstance(outcome.error, WorkerDied) and not helper.closed:
            self._tell(f"{case.id}: while it was read, {outcome.error.what}; it is read once more, alone")
            return Killed(outcome.error)
        return named(case, outcome.error) if outcome.error is not None else _opened(outcome.unwrap())


def ready(_nothing: None) -> None:
    """What a process answers when it has come up."""


def read_case(task: ReadTask) -> LoadedCase:
    """Read and prepare one case. Raises the errors of readers and of `prepared_for`."""
    began = time.perf_counter()
    volume = mended(read_image(task.case.images))
    unlike = unlike_training(task.preparing, volume, task.case.missing)
    blank = is_blank(volume)
    prepared = () if blank else prepared_for(task.preparing, task.case.id, volume, task.case.missing, owned=True)
    loaded = LoadedCase(prepared, volume.geometry, volume.notes, unlike, 0.0)
    if task.folder is not None:
        loaded = _stored(loaded, task.folder, task.store_from)
    return replace(loaded, seconds=time.perf_counter() - began)


def _stored(loaded: LoadedCase, folder: Path, at_least: int) -> LoadedCase:
    """The case with large images in files; equal preparations share one array, and one file."""
    files: dict[int, StoredArray] = {}
    for case in loaded.prepared:
        if case.image.nbytes >= at_least and id(case.image) not in files:
            files[id(case.image)] = store(case.image, folder)
    stored = tuple(files.get(id(case.image)) for case in loaded.prepared)
    empty = np.empty(0, dtype=np.float32)
    prepared = tuple(
        case if file is None else replace(case, image=empty) for case, file in zip(loaded.prepared, stored, strict=True)
    )
    return replace(loaded, prepared=prepared, stored=stored)


def _opened(loaded: LoadedCase) -> LoadedCase:
    """The case with its images, those from files mapped."""
    if not any(loaded.stored):
        return loaded
    images = {file: take(file) for file in dict.fromkeys(loaded.stored) if file is not None}
    prepared = tuple(
        case if file is None else replace(case, image=images[file].astype(np.float32, copy=False))
        for case, file in zip(loaded.prepared, loaded.stored, strict=True)
    )
    return replace(loaded, prepared=prepared, stored=())


def guarded(case: Case, work: Callable[[], Value]) -> Value | AutosegError:
    """What `work` gives, or why it failed: whatever is wrong with one case must not end the others."""
    try:
        return work()
    except AutosegError as error:
        return named(case, error)
    except Exception as error:
        if "OutOfMemoryError" in type(error).__name__:  # torch's, whatever the device
            return PredictionError(
                "the device's memory ran out", where=case.id, remedy="Use --device cpu for this case."
            )
        if is_out_of_memory(error):
            remedy = "Close other programs, or predict it elsewhere."
            return PredictionError("memory ran out", where=case.id, remedy=remedy)
        trace = "".join(traceback.format_exception(error))
        return PredictionError(f"unexpected {type(error).__name__}: {error}\n{trace}", where=case.id)


def named(case: Case, error: AutosegError) -> AutosegError:
    """The error, with the case where it names no place."""
    return error if error.where is not None else type(error)(error.what, where=case.id, remedy=error.remedy)
