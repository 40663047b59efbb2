"""A case that is done: its mask and what goes with it written, or the reason why there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.label_volumes import label_volumes
from autoseg.dataset.image_sides import side_names
from autoseg.dataset.mask_writers import LIKE_IMAGE, MaskWriter, mask_path
from autoseg.errors import AutosegError, PredictionError
from autoseg.files import aside_name, left_aside
from autoseg.fingerprint.likeness import Unlike
from autoseg.inference.chosen_labels import held_labels
from autoseg.inference.found_scene import found_scene, write_objects
from autoseg.inference.maps import CaseMaps, write_maps
from autoseg.inference.reading import guarded
from autoseg.records import Case, CaseCost, CaseEvidence, Geometry, LabelEvidence, Labels


@dataclass(frozen=True)
class CaseOutcome:
    """What became of one case: its mask, or the reason why there is none."""

    case: Case
    mask: Path | None = None
    unnamed: Path | None = None  # where the mask lies until it gets its name
    error: AutosegError | None = None
    seconds: dict[str, float] = field(default_factory=dict)  # read, network, write
    peak_bytes: Mapping[str, int] = field(default_factory=dict)  # main, device; see `inference.memory_watch`
    notes: tuple[str, ...] = ()  # what the reader found odd, and what was spared
    unlike: tuple[Unlike, ...] = ()  # what sets its image apart from those of the training
    seen: CaseEvidence = field(default_factory=CaseEvidence)  # how far its mask can be trusted
    maps: Mapping[str, Path] = field(default_factory=dict)  # kind -> file

    @property
    def cost(self) -> CaseCost:
        """What it took, as it is kept."""
        seconds = {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}
        return CaseCost(seconds=seconds, peak_bytes=dict(self.peak_bytes))

    def unwrap(self) -> Path:
        """The mask's path; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        if self.mask is None:
            raise PredictionError("has no mask", where=self.case.id)
        return self.mask


@dataclass(frozen=True, eq=False)
class ScoredCase:
    """A case that waits to be written."""

    outcome: CaseOutcome  # as far as it is known
    labels: NDArray[np.integer]  # (k, j, i), the file's grid and values
    names: Labels
    geometry: Geometry
    evidence: dict[str, LabelEvidence]
    maps: CaseMaps | None
    things: NDArray[np.uint8] | None = None  # (T, k, j, i) how sure the networks are of each thing, see `thing_scores`


def write_case(
    scored: ScoredCase,
    folder: Path,
    writer: MaskWriter = LIKE_IMAGE,
    chosen: Sequence[str] = (),
    *,
    object_masks: bool = False,
) -> CaseOutcome:
    """Write one mask, which holds the `chosen` labels, and its maps (writing thread); `named` gives it its name.

    Of a model with things the mask holds whole objects, whose ids and table are written beside it, and on request
    `object_masks`.
    """
    began = time.perf_counter()
    case, geometry = scored.outcome.case, scored.geometry
    path, held = mask_path(case, folder, writer), held_labels(scored.names.without_cores, chosen)

    unnamed = aside_name(path)

    def work() -> CaseOutcome:
        for stale in left_aside(path):
            stale.unlink(missing_ok=True)
        maps = {} if scored.maps is None else write_maps(scored.maps, case.id, folder, case.images[0])
        mask = scored.labels
        if scored.names.things:
            scene = found_scene(mask, scored.names, geometry, scored.things)
            maps |= write_objects(scene, case, folder, masks=object_masks)
            mask = scene.labels
        volumes = label_volumes(mask, geometry.voxel_ml, scored.names.without_cores, side_names(geometry))
        writer.write(unnamed, mask, geometry, case, held)  # last: what has a mask has all that goes with it
        seen = CaseEvidence(evidence=scored.evidence, volumes=volumes)
        return replace(scored.outcome, mask=path, unnamed=unnamed, maps=maps, seen=seen)

    written = guarded(case, work)
    seconds = {**scored.outcome.seconds, "write": time.perf_counter() - began}
    if isinstance(written, AutosegError):
        return replace(scored.outcome, error=written, seconds=seconds)
    return replace(written, seconds=seconds)


def named(outcome: CaseOutcome, before: Callable[[CaseOutcome, Path], None]) -> CaseOutcome:
    """The outcome once its mask has its name; `before` is told first, and where the mask lies until then."""
    mask, unnamed = outcome.mask, outcome.unnamed
    if mask is None or unnamed is None:
        return outcome

    def work() -> CaseOutcome:
        before(outcome, unnamed)
        os.replace(unnamed, mask)
        return replace(outcome, unnamed=None)

    done = guarded(outcome.case, work)
    if isinstance(done, AutosegError):
        forget(outcome)
        return replace(outcome, mask=None, unnamed=None, error=done)
    return done


def forget(outcome: CaseOutcome) -> None:
    """Remove a mask that has no name yet."""
    if outcome.unnamed is not None:
        outcome.unnamed.unlink(missing_ok=True)
