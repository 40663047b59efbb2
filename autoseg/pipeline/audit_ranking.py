"""The queue of an audit: cases and places by how surely networks contradict their reference, and what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.orientation import in_world
from autoseg.evaluation.error_kinds import Correction, count_corrections, likeliest, value_name
from autoseg.evaluation.error_places import Place, Voxel, places_of
from autoseg.evaluation.label_doubts import (
    LabelDoubt,
    Spread,
    Usual,
    label_doubts,
    spread,
    usual_doubts,
    usual_sizes,
    with_whole,
)
from autoseg.evaluation.label_errors import (
    Contradiction,
    joint_counts,
    label_thresholds,
    sure_margins,
    sure_pairs,
)
from autoseg.pipeline.audit_evidence import Evidence
from autoseg.records import (
    Audit,
    AuditedCase,
    AuditedLabel,
    AuditedPlace,
    ConfusedPair,
    Dataset,
    Labels,
)

#: Mean Dice that a correction has to gain beyond what is usual, to be named.
GAIN = 0.05

#: What the foreground as a whole is called.
WHOLE = "all labels"

#: Pairs of labels that are told of.
MOST_PAIRS = 30


@dataclass(frozen=True, eq=False)
class _Judged:
    """What is known of all cases together."""

    labels: Labels
    names: tuple[str, ...]  # of the columns of doubts
    usual: Mapping[int, Usual]
    gains: Spread


def ranked_audit(evidence: Sequence[Evidence], dataset: Dataset, models: str, failures: Mapping[str, str]) -> Audit:
    """The queue of all cases that were looked at, the likeliest label errors first."""
    labels, said = dataset.labels.without_cores, [one.said for one in evidence]
    membership = with_whole(labels.value_membership)
    thresholds, sizes = label_thresholds(said), usual_sizes(said, membership)
    margins = [sure_margins(one, thresholds) for one in said]
    doubts = [label_doubts(*pair, membership, sizes) for pair in zip(said, margins, strict=True)]
    best = [_best_correction(one, labels, sizes) for one in evidence]
    gains = spread([0.0 if one is None else one.gain for one in best])
    judged = _Judged(labels, (*labels.foreground, WHOLE), usual_doubts(doubts), gains)
    cases = [_audited(*entry, judged) for entry in zip(evidence, margins, doubts, best, strict=True)]
    looked_at = {*(one.case for one in evidence), *failures}
    return Audit(
        models=models,
        cases=tuple(sorted(cases, key=lambda case: (-case.suspicion, case.case))),
        thresholds={value_name(value, labels): round(float(at), 6) for value, at in enumerate(thresholds)},
        pairs=_pairs(said, margins, labels),
        not_held_out=sum(case.labelled and case.id not in looked_at for case in dataset.cases),
        failures=dict(failures),
    )


def _best_correction(seen: Evidence, labels: Labels, sizes: NDArray[np.float64]) -> Correction | None:
    counted = count_corrections(joint_counts(seen.said), labels, sizes[: len(labels.foreground)])
    return likeliest((*counted, *seen.corrections))


def _audited(
    seen: Evidence,
    margins: NDArray[np.float32],
    doubts: Mapping[int, LabelDoubt],
    best: Correction | None,
    judged: _Judged,
) -> AuditedCase:
    """A case of the queue: as suspicious as its most suspicious label and what corrects it, together."""
    told = {
        judged.names[label]: AuditedLabel(
            suspicion=judged.usual[label].suspicion(doubt), share=doubt.share, bias=doubt.bias, dice=doubt.dice
        )
        for label, doubt in doubts.items()
    }
    worst = max(told, key=lambda name: told[name].suspicion, default="")
    places = places_of(seen.said, margins, judged.labels.value_membership, doubts, judged.usual)
    audited = tuple(_audited_place(seen, place, judged.labels) for place in places)
    gain = 0.0 if best is None else best.gain
    of_label = told[worst].suspicion if worst else 0.0
    dice = [told[name].dice for name in judged.labels.foreground if name in told]
    mean = float(np.mean([one for one in dice if one is not None])) if dice else None
    named = best is not None and gain - judged.gains.middle >= GAIN
    return AuditedCase(
        case=seen.case,
        fold=seen.fold,
        suspicion=math.hypot(of_label, max(0.0, judged.gains.deviation(gain))),
        label=worst,
        kind=best.kind if best is not None and named else "local",
        what=best.what if best is not None and named else _locally(audited),
        dice=mean,
        dice_corrected=mean + gain if mean is not None and named else None,
        labels=told,
        places=audited,
    )


def _audited_place(seen: Evidence, place: Place, labels: Labels) -> AuditedPlace:
    kind = "missing" if place.truth == 0 else "extra" if place.found == 0 else "confused"
    return AuditedPlace(
        case=seen.case,
        label=list(labels.foreground)[place.label],
        kind=kind,
        reference=value_name(place.truth, labels),
        model=value_name(place.found, labels),
        suspicion=place.suspicion,
        margin=place.mass / place.voxels,
        voxels=place.voxels,
        ml=place.voxels * seen.geometry.voxel_ml,
        index=_reversed(place.middle),
        position=in_world(seen.geometry, place.middle),
        low=_reversed(place.low),
        high=_reversed(place.high),
    )


def _reversed(voxel: Voxel) -> Voxel:
    """(i, j, k) of (k, j, i), as other programs show it."""
    k, j, i = voxel
    return i, j, k


def _pairs(
    said: Sequence[Contradiction], margins: Sequence[NDArray[np.float32]], labels: Labels
) -> tuple[ConfusedPair, ...]:
    found = sorted(sure_pairs(said, margins).items(), key=lambda entry: -entry[1][0])[:MOST_PAIRS]
    return tuple(
        ConfusedPair(reference=value_name(truth, labels), model=value_name(other, labels), voxels=voxels, cases=cases)
        for (truth, other), (voxels, cases) in found
    )


def _locally(places: Sequence[AuditedPlace]) -> str:
    """In words what the most suspicious place is."""
    if not places:
        return "nothing that networks are sure of"
    place = places[0]
    if place.kind == "confused":
        return f"{place.reference} where networks see {place.model}, {place.voxels} voxels"
    told = "missing" if place.kind == "missing" else "too much"
    return f"{place.label} {told} at a place of {place.voxels} voxels"
