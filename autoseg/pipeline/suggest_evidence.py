"""How networks see unlabelled cases, and labelled ones to compare them with: looked at once, and kept.

An unlabelled case is predicted, mirrored where a single network has nobody to disagree with. Of a labelled one no
more than its features are wanted, so it passes once through one network. What is seen depends on the networks and the
image alone, so a command that was interrupted goes on, and the next one looks at new images only.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.dataset.readers import read_image
from autoseg.errors import AutosegError, DatasetError
from autoseg.files import text_hash, written_aside
from autoseg.inference.deepest import deepest_layer, looking_at
from autoseg.inference.intake import is_blank, mended
from autoseg.inference.plane_doubts import PlaneDoubts, PlaneSums
from autoseg.inference.predictor import LoadedModel
from autoseg.inference.tile_grid import mirror_sets
from autoseg.inference.volume import found_labels, prepare_volume
from autoseg.inference.witness import Witness
from autoseg.interrupts import StopSwitch
from autoseg.pipeline.mask_folder import input_hash
from autoseg.progress import Progress
from autoseg.records import Case, Geometry, PredictSettings, PreparedCase

#: Raised where what is kept changes its meaning.
FORMAT = 2

_SUMS = ("place", "voxels", "inside", "total")

#: What reading a damaged file, or none, raises.
_UNREADABLE = (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Seen:
    """An image as the networks see it."""

    case: str
    geometry: Geometry
    features: NDArray[np.float32]  # (F,)
    planes: NDArray[np.float32]  # (P, F) of a 2D network, one row per plane of `sums`; else (0, F)
    sums: PlaneSums


@dataclass(frozen=True, eq=False)
class Onlooker:
    """Networks that look at images, and how they do."""

    model: LoadedModel
    settings: PredictSettings
    layer: torch.nn.Module
    stamp: str  # of the networks and the way
    folder: Path  # where what was seen is kept
    keeps_masks: bool = True  # for pictures

    @property
    def flat(self) -> bool:
        """Whether the networks see slices."""
        return self.model.groups[0].configuration.dimensions == 2


def onlooker(model: LoadedModel, model_hash: str, folder: Path) -> Onlooker:
    """The model ready to look: a single network with mirrored copies, several without."""
    group = model.groups[0]
    alone = sum(len(one.networks) for one in model.groups) == 1
    settings = PredictSettings(mirror=alone)
    channels = len(model.header.channels)
    if group.first_stage is not None:
        channels += len(model.labels.values) - 1
    patch = group.configuration.patch_size
    layer = deepest_layer(group.networks[0], torch.zeros((1, channels, *patch), device=model.device))
    stamp = "\n".join([str(FORMAT), model_hash, model.precision, settings.model_dump_json()])
    return Onlooker(model, settings, layer, stamp, folder)


def look_at_cases(
    looking: Onlooker, cases: Sequence[Case], title: str, stop: StopSwitch, progress: Progress
) -> tuple[list[Seen], dict[str, str]]:
    """What is seen of each case, in their order, and why others could not be looked at."""
    found: list[Seen] = []
    failures: dict[str, str] = {}
    with progress.stage(title, len(cases)) as advance:
        for case in cases:
            stamp = text_hash(f"{looking.stamp}\n{looking.settings.mirror}\n{input_hash(case)}", 32)
            path = looking.folder / f"{case.id}.npz"
            seen = read_seen(path, case.id, stamp)
            if seen is None:
                try:
                    seen, mask = look(looking, case)
                except AutosegError as error:
                    failures[case.id] = str(error)
                else:
                    write_seen(path, seen, mask if looking.keeps_masks else mask[:0], stamp)
            if seen is not None:
                found.append(seen)
            advance(1)
            stop.raise_if_set()
    return found, failures


def of_labelled(looking: Onlooker) -> Onlooker:
    """The same for labelled cases: one network, one pass, in a folder of their own."""
    first = looking.model.groups[0]
    group = replace(first, networks=first.networks[:1], names=first.names[:1])
    settings = looking.settings.model_copy(update={"mirror": False})
    return replace(
        looking,
        model=replace(looking.model, groups=(group,)),
        settings=settings,
        keeps_masks=False,
        folder=looking.folder.with_name(f"{looking.folder.name}-labelled"),
    )


def look(looking: Onlooker, case: Case) -> tuple[Seen, NDArray[np.integer]]:
    """Predict one case, and see how unsure the networks are of it and by what features they know it.

    Also returns the mask (k, j, i) with the file's values, which is not kept in memory for all cases.
    """
    volume = mended(read_image(case.images))
    labels = looking.model.labels
    if is_blank(volume):
        raise DatasetError("has the same value everywhere: there is nothing to label", where=case.id)
    doubts = PlaneDoubts(labels)
    prepared = prepare_volume(looking.model, case.id, volume, case.missing)
    with looking_at(looking.layer) as seen:
        mask = found_labels(looking.model, prepared, settings=looking.settings, witness=Witness(labels, doubts))
    for border, core in labels.core_values.items():
        mask[mask == core] = border
    rows, sums = _unmirrored(looking, seen.rows), doubts.sums()
    planes = _of_planes(rows, prepared[0], len(sums.place)) if looking.flat else rows[:0]
    return Seen(case.id, volume.geometry, rows.mean(axis=0), planes, sums), mask


def _unmirrored(looking: Onlooker, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows of patches as they are: of each tile the first pass, before its mirrored copies."""
    group = looking.model.groups[0]
    copies = len(mirror_sets(group.mirror_axes)) if looking.settings.mirror else 1
    chosen = rows[::copies] if len(rows) % copies == 0 else rows
    return chosen[np.isfinite(chosen).all(axis=1)]


def _of_planes(rows: NDArray[np.float32], prepared: PreparedCase, count: int) -> NDArray[np.float32]:
    """(count, F) features of the planes of the image; none where they cannot be told apart.

    A 2D network goes over its planes in order, each with as many tiles.
    """
    depth = prepared.image.shape[1]
    if not count or not len(rows) or len(rows) % depth:
        return rows[:0]
    of_prepared = rows.reshape(depth, -1, rows.shape[1]).mean(axis=1)
    nearest = ((np.arange(count) + 0.5) * depth / count).astype(int)
    found: NDArray[np.float32] = of_prepared[nearest]
    return found


# --------------------------------------------------------------------------------------------------------------- files


def write_seen(path: Path, seen: Seen, mask: NDArray[np.integer], stamp: str) -> None:
    """Keep what was seen of a case, and its mask."""
    arrays: dict[str, Any] = {f"sums_{name}": getattr(seen.sums, name) for name in _SUMS}
    arrays |= {"axis": np.array(seen.sums.axis), "features": seen.features, "planes": seen.planes, "mask": mask}
    arrays |= {"stamp": np.array(stamp), "geometry": np.array(seen.geometry.model_dump_json())}
    with written_aside(path) as aside:
        np.savez_compressed(aside, **arrays)


def read_seen(path: Path, case: str, stamp: str | None) -> Seen | None:
    """What was kept of a case; None where there is nothing, or nothing of this stamp (None: of any)."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            if stamp is not None and str(kept["stamp"]) != stamp:
                return None
            sums = PlaneSums(int(kept["axis"]), **{name: kept[f"sums_{name}"] for name in _SUMS})
            geometry = Geometry.model_validate_json(str(kept["geometry"]))
            return Seen(case, geometry, kept["features"], kept["planes"], sums)
    except _UNREADABLE:
        return None


def read_mask(path: Path) -> NDArray[np.integer] | None:
    """The mask (k, j, i) that was kept of a case; None where there is none."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            mask: NDArray[np.integer] = kept["mask"]
            return mask
    except _UNREADABLE:
        return None
