"""The queue of an audit: cases and places by how surely networks contradict their reference, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError
from autoseg.evaluation.error_kinds import Correction, likeliest_correction, value_name
from autoseg.evaluation.label_errors import (
    Contradiction,
    LabelDoubt,
    Place,
    Usual,
    Voxel,
    label_doubts,
    label_thresholds,
    places_of,
    sure_margins,
    sure_pairs,
    usual_shares,
    usual_sizes,
)
from autoseg.pipeline.audit_evidence import Evidence, both_maps, training_labels
from autoseg.progress import Progress
from autoseg.records import (
    Audit,
    AuditedCase,
    AuditedLabel,
    AuditedPlace,
    Case,
    ConfusedPair,
    Dataset,
    Geometry,
    Labels,
)

#: Cases whose error is named at least and at most, and the suspicion from which on it is.
FEWEST_NAMED, MOST_NAMED, NAMED_FROM = 20, 200, 1.0

#: Pairs of labels that are told of.
MOST_PAIRS = 30


@dataclass(frozen=True, eq=False)
class _Judged:
    """What is known of all cases together."""

    labels: Labels
    membership: NDArray[np.bool_]
    sizes: NDArray[np.float64]
    usual: Mapping[int, Usual]


def ranked_audit(
    evidence: Sequence[Evidence], dataset: Dataset, models: str, failures: Mapping[str, str], progress: Progress
) -> Audit:
    """The queue of all cases that were looked at, the likeliest label errors first."""
    labels, said = dataset.labels, [one.said for one in evidence]
    membership = labels.value_membership
    thresholds, sizes = label_thresholds(said), usual_sizes(said, membership)
    margins = [sure_margins(one, thresholds) for one in said]
    doubts = [label_doubts(*pair, membership, sizes) for pair in zip(said, margins, strict=True)]
    judged = _Judged(labels, membership, sizes, usual_shares(doubts))
    cases = [_audited(*entry, judged) for entry in zip(evidence, margins, doubts, strict=True)]
    cases.sort(key=lambda case: (-case.suspicion, case.case))
    by_id = {one.case: one for one in evidence}
    named = _named(cases, by_id, {case.id: case for case in dataset.cases}, judged, progress)
    looked_at = {*by_id, *failures}
    return Audit(
        models=models,
        cases=tuple(named),
        thresholds={value_name(value, labels): round(float(at), 6) for value, at in enumerate(thresholds)},
        pairs=_pairs(said, margins, labels),
        not_held_out=sum(case.labelled and case.id not in looked_at for case in dataset.cases),
        failures=dict(failures),
    )


def _audited(
    seen: Evidence, margins: NDArray[np.float32], doubts: Mapping[int, LabelDoubt], judged: _Judged
) -> AuditedCase:
    """A case without the kind of its error."""
    names = list(judged.labels.foreground)
    told = {
        names[label]: AuditedLabel(
            suspicion=judged.usual[label].suspicion(doubt.share), share=doubt.share, dice=doubt.dice
        )
        for label, doubt in doubts.items()
    }
    worst = max(told, key=lambda name: told[name].suspicion, default="")
    places = places_of(seen.said, margins, judged.membership, doubts, judged.usual)
    return AuditedCase(
        case=seen.case,
        fold=seen.fold,
        suspicion=told[worst].suspicion if worst else 0.0,
        label=worst,
        labels=told,
        places=tuple(_audited_place(seen, place, judged.labels) for place in places),
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


def in_world(geometry: Geometry, voxel: Voxel) -> tuple[float, float, float]:
    """RAS+ mm of a voxel (k, j, i)."""
    x, y, z = (geometry.matrix @ np.array([*_reversed(voxel), 1.0]))[:3]
    return round(float(x), 3), round(float(y), 3), round(float(z), 3)


def _pairs(
    said: Sequence[Contradiction], margins: Sequence[NDArray[np.float32]], labels: Labels
) -> tuple[ConfusedPair, ...]:
    found = sorted(sure_pairs(said, margins).items(), key=lambda entry: -entry[1][0])[:MOST_PAIRS]
    return tuple(
        ConfusedPair(reference=value_name(truth, labels), model=value_name(other, labels), voxels=voxels, cases=cases)
        for (truth, other), (voxels, cases) in found
    )


# --------------------------------------------------------------------------------------------------------------- kinds


def _named(
    cases: Sequence[AuditedCase],
    evidence: Mapping[str, Evidence],
    files: Mapping[str, Case],
    judged: _Judged,
    progress: Progress,
) -> list[AuditedCase]:
    """The queue, with the kind of error where one is likely."""
    count = sum(case.suspicion >= NAMED_FROM for case in cases)
    count = min(len(cases), MOST_NAMED, max(FEWEST_NAMED, count))
    named = list(cases)
    with progress.stage("Naming the errors", count) as advance:
        for number in range(count):
            case = named[number]
            try:
                correction = _correction(evidence[case.case], files[case.case], judged)
            except AutosegError as error:
                progress.warn(f"the error of {case.case} has no name: {error}")
            else:
                named[number] = case.model_copy(
                    update={
                        "kind": correction.kind,
                        "what": correction.what or _locally(case),
                        "dice": correction.before,
                        "dice_corrected": correction.after,
                    }
                )
            advance(1)
    return named


def _correction(seen: Evidence, case: Case, judged: _Judged) -> Correction:
    truth, found = both_maps(training_labels(case, judged.labels), seen.said)
    return likeliest_correction(truth, found, judged.labels, seen.geometry.spacing, judged.sizes)


def _locally(case: AuditedCase) -> str:
    """In words what the most suspicious place is."""
    if not case.places:
        return "nothing that networks are sure of"
    place = case.places[0]
    if place.kind == "confused":
        return f"{place.reference} where networks see {place.model}, {place.voxels} voxels"
    told = "missing" if place.kind == "missing" else "too much"
    return f"{place.label} {told} at a place of {place.voxels} voxels"
