"""Many cases, file to file: while the network works on one case the next is read and the last is written.

Three lanes: reading and preparing (a thread), the network (the caller's thread), writing (a thread). At
most one case waits before and one after the network, so memory does not grow with the number of cases.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.readers import mask_ending, read_image, write_labels
from autoseg.errors import AutosegError, PredictionError
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import LoadedModel
from autoseg.inference.volume import mask_of_prepared, prepare_volume
from autoseg.records import BEST_PREDICTION, Case, Geometry, PredictSettings, PreparedCase

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
    on_tile: Callable[[int], None] | None = None,
) -> Iterator[CaseOutcome]:
    """One outcome per case, in order, as masks are written; a case that fails does not stop the others.

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
                pending.append(_score(model, case, loaded, writer, masks_folder, settings, on_tile))
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

    prepared: tuple[PreparedCase, ...]
    geometry: Geometry
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class _Scored:
    """A case that waits to be written."""

    case: Case
    labels: NDArray[np.integer]  # (k, j, i), the file's grid and values
    geometry: Geometry
    notes: tuple[str, ...]
    seconds: dict[str, float]


def _read(model: LoadedModel, case: Case) -> _Loaded | CaseOutcome:
    """Read and prepare one case (reading thread)."""

    def work() -> _Loaded:
        began = time.perf_counter()
        volume = read_image(case.images)
        prepared = prepare_volume(model, case.id, volume, case.missing)
        return _Loaded(prepared, volume.geometry, volume.notes, time.perf_counter() - began)

    loaded = _guarded(case, work)
    return CaseOutcome(case, error=loaded) if isinstance(loaded, AutosegError) else loaded


def _score(
    model: LoadedModel,
    case: Case,
    loaded: _Loaded,
    writer: ThreadPoolExecutor,
    masks_folder: Path,
    settings: PredictSettings,
    on_tile: Callable[[int], None] | None,
) -> Future[CaseOutcome]:
    """Run the network on one case (caller's thread) and hand the mask to the writing thread."""
    began = time.perf_counter()
    notes = list(loaded.notes)
    labels = _guarded(
        case,
        lambda: mask_of_prepared(model, loaded.prepared, settings=settings, on_tile=on_tile, on_note=notes.append),
    )
    seconds = {"read": loaded.seconds, "network": time.perf_counter() - began}
    if isinstance(labels, AutosegError):
        return _finished(CaseOutcome(case, error=labels, seconds=seconds, notes=tuple(notes)))
    scored = _Scored(case, labels, loaded.geometry, tuple(notes), seconds)
    return writer.submit(_write, scored, mask_path(case, masks_folder))


def _write(scored: _Scored, mask: Path) -> CaseOutcome:
    """Write one mask (writing thread)."""
    began = time.perf_counter()

    def work() -> Path:
        write_labels(mask, scored.labels, scored.geometry, scored.case.images[0])
        return mask

    written = _guarded(scored.case, work)
    seconds = {**scored.seconds, "write": time.perf_counter() - began}
    if isinstance(written, AutosegError):
        return CaseOutcome(scored.case, error=written, seconds=seconds, notes=scored.notes)
    return CaseOutcome(scored.case, mask=written, seconds=seconds, notes=scored.notes)


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
