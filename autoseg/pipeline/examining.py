"""Held-out cases predicted once more by the chosen model, to see how sure it is, and how fast.

Masks alone do not tell how sure the networks were. Each case is predicted by the networks that had not seen it, and
looked at while its mask is made: probabilities at some voxels near the foreground (for calibration), and what tells
how far the mask can be trusted (for expected Dice). No probabilities are written.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.components import post_processed
from autoseg.arrays.label_volumes import label_volumes
from autoseg.arrays.labels import encode
from autoseg.dataset.image_sides import side_names
from autoseg.dataset.label_files import read_reference
from autoseg.dataset.readers import read_image, read_labels
from autoseg.errors import AutosegError
from autoseg.evaluation.calibration import Sample, near_foreground, sampled_places, voxels_per_case
from autoseg.inference.found_scene import found_scene
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import LoadedModel, load_models
from autoseg.inference.sampled import SampledProbabilities
from autoseg.inference.volume import mask_of_prepared, prepare_volume
from autoseg.inference.witness import Witness
from autoseg.pipeline.candidates import Candidate
from autoseg.pipeline.ensembles import Trials, by_models, spread
from autoseg.records import Case, CaseEvidence, Labels

#: Cases that are examined at most: so many tell a temperature and an expected Dice well enough.
MOST_CASES = 60


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What was seen of a held-out case while networks that had not seen it segmented it."""

    case: str
    seen: CaseEvidence  # of the mask after post-processing
    sample: Sample | None  # None where not all labels were drawn: what is no label there may be one


def examined_cases(chosen: Candidate, cases_per_fold: int | None) -> list[str]:
    """The cases to examine, evenly spread over the folds."""
    by_fold: dict[str, list[str]] = {}
    for case in sorted(chosen.masks):
        by_fold.setdefault(chosen.parts[0].fold_of[case], []).append(case)
    each = max(1, MOST_CASES // max(1, len(by_fold)))
    count = each if cases_per_fold is None else min(each, cases_per_fold)
    return [case for _, cases in sorted(by_fold.items()) for case in spread(cases, count)]


def examine(
    trials: Trials, chosen: Candidate, steps: Sequence[str | None], names: Sequence[str], deadline: float | None
) -> list[HeldOut]:
    """What is seen of the named cases, of as many as time allows; `steps` are the post-processing that is kept.

    A case that fails is told, and left out.
    """
    count = voxels_per_case(len(names), trials.labels.heads)
    found: list[HeldOut] = []
    with trials.progress.stage("Examining held-out cases", len(names)) as advance:
        for models, cases in by_models(chosen.parts, [trials.cases[name] for name in names]):
            if deadline is not None and time.monotonic() > deadline:
                break
            model = narrowed(load_models(models, trials.device, trials.precision), trials.settings)
            for case in cases:
                try:
                    found.append(_examined(trials, model, chosen, case, steps, count, seed=len(found)))
                except AutosegError as error:
                    trials.progress.warn(f"{case.id} is left out of calibration: {error}")
                advance(1)
                trials.stop.raise_if_set()
                if deadline is not None and time.monotonic() > deadline:
                    break
    return found


def _examined(
    trials: Trials,
    model: LoadedModel,
    chosen: Candidate,
    case: Case,
    steps: Sequence[str | None],
    count: int,
    seed: int,
) -> HeldOut:
    """Predict one case, and look on."""
    places, truth = _places_to_sample(chosen, case, trials.labels, count, seed)
    sampled = SampledProbabilities(places, trials.labels.heads)
    witness = Witness(trials.labels, sampled)
    volume = read_image(case.images)
    prepared = prepare_volume(model, case.id, volume, case.missing)
    mask = mask_of_prepared(model, prepared, settings=trials.settings, witness=witness)
    mask, geometry = post_processed(mask, steps, trials.labels), volume.geometry
    if trials.labels.things:
        mask = found_scene(mask, trials.labels, geometry).labels
    volumes = label_volumes(mask, geometry.voxel_ml, trials.labels.without_cores, side_names(geometry))
    seen = CaseEvidence(evidence=witness.evidence(), volumes=volumes)
    if case.annotated is not None:
        return HeldOut(case.id, seen, None)
    return HeldOut(case.id, seen, Sample(sampled.probabilities[sampled.seen], truth[sampled.seen]))


def _places_to_sample(
    chosen: Candidate, case: Case, labels: Labels, count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Voxels (N, 3) near the foreground of reference or mask, and what the reference says there (N, K)."""
    reference, grown = read_reference(case, labels)
    truth = encode(reference.labels, grown)
    mask = read_labels(chosen.masks[case.id]).labels
    ignored = truth == grown.ignore_index if grown.ignore_index is not None else np.zeros(truth.shape, dtype=np.bool_)
    near = near_foreground((truth > 0) & ~ignored, mask != 0) & ~ignored
    if not labels.has_regions:
        near &= truth < labels.heads  # overlaps of label files that the model has no output for
    places = sampled_places(near, count, seed)
    values = truth[tuple(places.T)]
    if labels.has_regions:
        membership = grown.value_membership[:, [list(grown.foreground).index(name) for name in labels.foreground]]
        return places, membership[values]
    return places, values[:, None] == np.arange(labels.heads)
