"""Many cases, file to file: while the network works on one case the next is read and the last is written.

A case that does not fit into the memory beside others is worked on alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from autoseg.dataset.inputs import grids_of
from autoseg.dataset.mask_writers import LIKE_IMAGE, MaskWriter
from autoseg.fingerprint.likeness import Unlike
from autoseg.inference.lanes import Asked, Lanes
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import LoadedModel
from autoseg.inference.reading import Killed
from autoseg.inference.writing import CaseOutcome
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

#: Cases whose masks may wait to be written while the network goes on.
_WAITING_MASKS = 1


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
    asked = Asked(masks_folder, settings, maps, writer, *listeners)
    lanes = Lanes(model, cases, grids_of(cases) if grids is None else grids, asked, limits, tell or _nothing)
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


def _nothing(*_: object) -> None:
    """Listens, and does nothing."""
