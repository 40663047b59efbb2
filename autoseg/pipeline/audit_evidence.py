"""What networks that had not seen a case say against its reference, case by case, and kept in the work folder.

Training leaves masks of its held-out cases, not how sure it was of them: so each case is predicted once more, by the
networks that had not seen it. Kept of each are the voxels at which mask and reference differ, and what would correct
the whole reference, so that an audit that was interrupted goes on, and after a reference was corrected that case alone
is predicted again.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.labels import decode, encode
from autoseg.dataset.instance_maps import whole_objects
from autoseg.dataset.label_files import read_reference
from autoseg.dataset.readers import read_image
from autoseg.errors import AutosegError, DatasetError
from autoseg.evaluation.error_kinds import Correction, voxel_corrections
from autoseg.evaluation.label_errors import Contradiction, contradiction
from autoseg.files import file_hash, text_hash, written_aside
from autoseg.inference.contrast import Contrast
from autoseg.inference.intake import is_blank, mended
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import LoadedModel, load_models
from autoseg.inference.volume import found_labels, prepare_volume
from autoseg.inference.witness import Witness
from autoseg.pipeline.candidates import Configured
from autoseg.pipeline.ensembles import Trials, by_models, expected_seconds
from autoseg.pipeline.mask_folder import input_hash
from autoseg.pipeline.receipts import files_hash
from autoseg.progress import duration
from autoseg.records import Case, Geometry, Labels
from autoseg.workspace import Workspace

#: Raised where what is kept changes its meaning.
FORMAT = 3

_ARRAYS = ("index", "truth", "found", "own", "best", "sums", "near", "voxels")


@dataclass(frozen=True, eq=False)
class Evidence:
    """A case with what is said against its reference, and where its voxels lie."""

    case: str
    fold: str
    geometry: Geometry
    said: Contradiction
    corrections: tuple[Correction, ...]  # of the voxels of its reference


@dataclass(frozen=True)
class _Wanted:
    """A case to look at, whose networks looked, and by what its evidence is known again."""

    case: Case
    fold: str
    models: tuple[Path, ...]
    stamp: str


def held_out_evidence(
    trials: Trials, parts: Sequence[Configured], names: Sequence[str]
) -> tuple[list[Evidence], dict[str, str]]:
    """The evidence of the named cases, and why others have none; what is there already is read."""
    found: list[Evidence] = []
    todo: list[_Wanted] = []
    for wanted in _wanted(trials, parts, names):
        known = read_evidence(evidence_path(trials.work, wanted.case.id), wanted.case.id, wanted.fold, wanted.stamp)
        if known is None:
            todo.append(wanted)
        else:
            found.append(known)
    _tell_cost(trials, parts, len(todo), len(found))
    failures = _look_at(trials, todo, found) if todo else {}
    return sorted(found, key=lambda one: one.case), failures


def _look_at(trials: Trials, todo: Sequence[_Wanted], found: list[Evidence]) -> dict[str, str]:
    """Look at all cases, keep what is seen of each and add it to what was found; why others have nothing."""
    failures: dict[str, str] = {}
    loaded: tuple[tuple[Path, ...], LoadedModel] | None = None
    with trials.progress.stage("Looking at held-out cases", len(todo)) as advance:
        for wanted in todo:
            if loaded is None or loaded[0] != wanted.models:
                model = narrowed(load_models(wanted.models, trials.device, trials.precision), trials.settings)
                loaded = (wanted.models, model)
            try:
                seen = _looked_at(trials, loaded[1], wanted)
            except AutosegError as error:
                failures[wanted.case.id] = str(error)
            else:
                write_evidence(evidence_path(trials.work, wanted.case.id), seen, wanted.stamp)
                found.append(seen)
            advance(1)
            trials.stop.raise_if_set()
    return failures


def _tell_cost(trials: Trials, parts: Sequence[Configured], new: int, known: int) -> None:
    if known:
        trials.progress.say(f"{known} cases were looked at before and have not changed since")
    seconds = expected_seconds(parts, new)
    if new:
        told = "" if seconds is None else f", about {duration(seconds)}"
        trials.progress.say(f"{new} held-out cases to predict by the networks that had not seen them{told}")


def _wanted(trials: Trials, parts: Sequence[Configured], names: Sequence[str]) -> list[_Wanted]:
    """The cases with what decides their evidence: networks, settings, image and reference."""
    found = []
    for models, cases in by_models(parts, [trials.cases[name] for name in names]):
        way = [str(FORMAT), *(file_hash(model) for model in models), trials.settings.model_dump_json()]
        way += [trials.precision, trials.labels.model_dump_json()]
        for case in cases:
            drawn = repr((case.annotated, case.trust_voxels))
            stamp = text_hash("\n".join([*way, input_hash(case), files_hash(case.label_paths), drawn]), 32)
            found.append(_Wanted(case, parts[0].fold_of[case.id], tuple(models), stamp))
    return found


def _looked_at(trials: Trials, model: LoadedModel, wanted: _Wanted) -> Evidence:
    """Predict one case, and compare it with its reference voxel by voxel."""
    case, labels = wanted.case, trials.labels
    volume = mended(read_image(case.images))
    truth = training_labels(case, labels)
    if truth.shape != volume.image.shape[1:]:
        raise DatasetError(
            f"the labels have shape {truth.shape}, the image {volume.image.shape[1:]}",
            where=case.id,
            remedy="They must lie on one grid.",
        )
    contrast, whole = Contrast(truth, labels), labels.without_cores
    if not is_blank(volume):
        prepared = prepare_volume(model, case.id, volume, case.missing)
        found_labels(model, prepared, settings=trials.settings, witness=Witness(labels, contrast))
    known = known_values(whole, case.annotated)
    said = contradiction(truth, contrast.found, contrast.own, contrast.best, known)
    corrections = voxel_corrections(*both_maps(truth, said), whole, volume.geometry.spacing)
    return Evidence(case.id, wanted.fold, volume.geometry, said, corrections)


def training_labels(case: Case, labels: Labels) -> NDArray[np.int16]:
    """The reference (k, j, i) of a case as training labels of `labels.without_cores`.

    What no output stands for has values beyond them.
    """
    reference, grown = read_reference(case, labels)
    return encode(whole_objects(reference, labels).labels, grown.without_cores)


def known_values(labels: Labels, annotated: Sequence[str] | None) -> NDArray[np.bool_]:
    """(V,) the training labels of which a case's reference says whether they are there."""
    known = np.zeros(len(labels.values), dtype=np.bool_)
    known[0] = True
    for name in labels.drawn_names(annotated):
        known[list(labels.foreground[name])] = True
    return known


def both_maps(truth: NDArray[np.int16], said: Contradiction) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Reference and mask as training labels (k, j, i); what was not counted is background in both."""
    inside = np.where(truth < len(said.voxels), truth, 0).astype(np.int16)
    found = inside.copy()
    found.reshape(-1)[said.index] = said.found
    return inside, found


def mask_values(truth: NDArray[np.int16], said: Contradiction, labels: Labels) -> NDArray[np.integer]:
    """The mask (k, j, i) with the values of label files, `labels` being without cores, for pictures."""
    return decode(both_maps(truth, said)[1], labels)


# --------------------------------------------------------------------------------------------------------------- files


def evidence_path(work: Workspace, case: str) -> Path:
    """Where what was seen of a case is kept."""
    return work.audit / "evidence" / f"{case}.npz"


def write_evidence(path: Path, seen: Evidence, stamp: str) -> None:
    """Keep what was seen of a case; probabilities with 11 bits."""
    said = seen.said
    arrays: dict[str, Any] = {name: getattr(said, name) for name in _ARRAYS}
    arrays |= {"own": said.own.astype(np.float16), "best": said.best.astype(np.float16)}
    arrays |= {"stamp": np.array(stamp), "geometry": np.array(seen.geometry.model_dump_json())}
    arrays |= {"corrections": np.array(json.dumps([asdict(one) for one in seen.corrections]))}
    with written_aside(path) as aside:
        np.savez_compressed(aside, **arrays)


def read_evidence(path: Path, case: str, fold: str, stamp: str | None) -> Evidence | None:
    """What was kept of a case; None where there is nothing, or nothing of this stamp (None: of any)."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            if stamp is not None and str(kept["stamp"]) != stamp:
                return None
            geometry = Geometry.model_validate_json(str(kept["geometry"]))
            corrections = tuple(Correction(**one) for one in json.loads(str(kept["corrections"])))
            arrays = {name: kept[name] for name in _ARRAYS}
    except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    arrays |= {name: arrays[name].astype(np.float32) for name in ("own", "best")}
    return Evidence(case, fold, geometry, Contradiction(shape=geometry.shape, **arrays), corrections)
