"""Objects counted one by one: those of reference and prediction matched by IoU, and what is told of the pairs.

A pair is an object of the reference and one of the prediction whose IoU reaches a threshold of a half or more. Above a
half an object has one partner at most, whatever the method of matching; at exactly a half several halves may compete
for a whole, and one of them gets it.

    panoptic quality     sum of IoU over pairs above 0.5 / (TP + FP / 2 + FN / 2)       Kirillov et al. 2019
    average precision    TP / (TP + FP + FN) of pairs from a threshold on               Schmidt et al. 2018 (StarDist)
    F1 of detection      2 TP / (2 TP + FP + FN) of pairs from a threshold on

A label that is not counted one by one (stuff) is one object per case: panoptic quality has it so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.records import InstanceMeans, InstanceScore, MatchCount, PanopticScore

#: From which IoU on two objects are a pair: the thresholds of StarDist's tables.
IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)

#: IoU above which pairs count for the panoptic quality.
PANOPTIC_IOU = 0.5

#: Share of ignored voxels above which a predicted object without a partner is no false alarm (Kirillov et al. 2019).
IGNORED_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The objects of two maps, numbered from 0 in the order of their ids, and those that share voxels."""

    reference_sizes: NDArray[np.int64]  # (R,) voxels, but for ignored ones; 0 for an object that lies in them
    prediction_sizes: NDArray[np.int64]  # (P,)
    ignored: NDArray[np.bool_]  # (P,) whether an object lies mostly in ignored voxels
    pairs: NDArray[np.int64]  # (N, 2) reference, prediction
    iou: NDArray[np.float64]  # (N,)


@dataclass(frozen=True, eq=False)
class Scene:
    """What is seen in an image: ids of objects and values of labels."""

    ids: NDArray[np.integer]  # (Z, Y, X) 0 where no counted object is
    values: NDArray[np.integer]  # (Z, Y, X)


# --------------------------------------------------------------------------------------------------------- scoring


def score_instances(
    reference: NDArray[np.generic],
    prediction: NDArray[np.generic],
    ignored: NDArray[np.bool_] | None = None,
) -> InstanceScore:
    """Objects of one label in one case.

    Args:
        reference, prediction: ids of objects (Z, Y, X), integers of any size, each map with ids of its own; 0 is none.
            Of a binary mask all is one object.
        ignored: voxels that count for nothing.

    Raises ValueError where the shapes differ.
    """
    found = overlaps(reference, prediction, ignored)
    pairs = _matched(found, PANOPTIC_IOU, above=True)
    counts = []
    for least in IOU_THRESHOLDS:
        hits = _matched(found, least)
        truths, alarms = _unmatched(found, hits)
        counts.append(_match_count(least, len(hits), alarms, truths))
    truths, alarms = _unmatched(found, pairs)
    # sorted: the order of the ids must not decide the last digit
    iou_sum = float(np.sort(found.iou[pairs]).sum())
    return _instance_score(len(pairs) + truths, len(pairs) + alarms, len(pairs), iou_sum, counts)


def score_scene(
    reference: Scene,
    prediction: Scene,
    labels: Mapping[str, Sequence[int]],
    things: Collection[str],
    ignored: NDArray[np.bool_] | None = None,
) -> dict[str, InstanceScore]:
    """Objects of every label of one case, matched label by label.

    Args:
        reference, prediction: on one grid.
        labels: name to the values that belong to it, without the background.
        things: names of those that are counted one by one; the others are one object each.
        ignored: voxels that count for nothing.
    """
    scores = {}
    for name, members in labels.items():
        own, found = (np.isin(scene.values, members) for scene in (reference, prediction))
        if name in things:
            scores[name] = score_instances(reference.ids * own, prediction.ids * found, ignored)
        else:
            scores[name] = score_instances(own, found, ignored)
    return scores


def pooled(scores: Iterable[InstanceScore]) -> InstanceScore:
    """The objects of all cases together: each counts alike, whichever case it is in."""
    every = list(scores)
    counts = [
        _match_count(
            least,
            sum(score.counts[place].true_positives for score in every),
            sum(score.counts[place].false_positives for score in every),
            sum(score.counts[place].false_negatives for score in every),
        )
        for place, least in enumerate(IOU_THRESHOLDS)
    ]
    return _instance_score(
        sum(score.reference for score in every),
        sum(score.prediction for score in every),
        sum(score.matched for score in every),
        sum(score.iou_sum for score in every),
        counts,
    )


def means(scores: Iterable[InstanceScore]) -> InstanceMeans:
    """Means over cases; those without any object, in reference and prediction, have no score and do not count."""
    every = [score for score in scores if score.panoptic_quality is not None]
    places = range(len(IOU_THRESHOLDS))
    return InstanceMeans(
        cases=len(every),
        panoptic_quality=_mean(score.panoptic_quality for score in every),
        segmentation_quality=_mean(score.segmentation_quality for score in every),
        recognition_quality=_mean(score.recognition_quality for score in every),
        average_precision=tuple(_mean(score.counts[place].average_precision for score in every) for place in places),
        f1=tuple(_mean(score.counts[place].f1 for score in every) for place in places),
    )


def precision_at(score: InstanceScore | InstanceMeans, iou: float) -> float | None:
    """Average precision from an IoU on, one of `IOU_THRESHOLDS`."""
    place = IOU_THRESHOLDS.index(iou)
    if isinstance(score, InstanceMeans):
        return score.average_precision[place]
    return score.counts[place].average_precision


def panoptic_score(labels: Mapping[str, InstanceScore], things: Collection[str]) -> PanopticScore:
    """Panoptic quality of things, stuff and all: means over labels of what `pooled` gives for each of them."""
    return PanopticScore(
        things=_mean(score.panoptic_quality for name, score in labels.items() if name in things),
        stuff=_mean(score.panoptic_quality for name, score in labels.items() if name not in things),
        all=_mean(score.panoptic_quality for score in labels.values()),
    )


# -------------------------------------------------------------------------------------------------------- matching


def overlaps(
    reference: NDArray[np.generic], prediction: NDArray[np.generic], ignored: NDArray[np.bool_] | None = None
) -> Overlaps:
    """The objects of two maps of ids, any shape, and the IoU of each two that share voxels.

    Memory: about 40 bytes for each voxel that is in an object of either map; ids may be of any size.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"reference of shape {reference.shape} and prediction of shape {prediction.shape}")
    where = np.flatnonzero((reference.reshape(-1) != 0) | (prediction.reshape(-1) != 0))
    truth, truths = _numbered(reference.reshape(-1)[where])
    found, founds = _numbered(prediction.reshape(-1)[where])
    counted = np.ones(where.size, dtype=np.bool_) if ignored is None else ~ignored.reshape(-1)[where]
    true_sizes, found_sizes = _sizes(truth[counted], truths), _sizes(found[counted], founds)
    both = counted & (truth >= 0) & (found >= 0)
    codes, shared = np.unique(truth[both] * founds + found[both], return_counts=True)
    pairs = np.stack([codes // max(founds, 1), codes % max(founds, 1)], axis=1)
    unions = true_sizes[pairs[:, 0]] + found_sizes[pairs[:, 1]] - shared
    return Overlaps(
        true_sizes,
        found_sizes,
        _sizes(found[~counted], founds) > IGNORED_SHARE * _sizes(found, founds),
        pairs,
        shared / unions,
    )


def _numbered(ids: NDArray[np.generic]) -> tuple[NDArray[np.int64], int]:
    """The place of each id among those above 0 that occur, negative for what is no object; and how many occur."""
    values = ids.astype(np.uint8) if ids.dtype == np.bool_ else ids
    occurring, places = np.unique(values, return_inverse=True)
    nothing = int(np.count_nonzero(occurring <= 0))
    return places.reshape(-1).astype(np.int64) - nothing, len(occurring) - nothing


def _sizes(numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.bincount(numbers[numbers >= 0], minlength=count).astype(np.int64)


def _matched(found: Overlaps, least: float, *, above: bool = False) -> NDArray[np.intp]:
    """Places in `found.pairs` of the pairs, from an IoU on, or only above it.

    At exactly a half the rivals for one object lie inside it, or it in them, so that they have no other partner: any
    choice gives as many pairs.
    """
    enough = np.flatnonzero(found.iou > least if above else found.iou >= least)
    best_first = enough[np.argsort(-found.iou[enough], kind="stable")]
    for column in (0, 1):
        _, first = np.unique(found.pairs[best_first, column], return_index=True)
        best_first = best_first[np.sort(first)]
    return best_first


def _unmatched(found: Overlaps, pairs: NDArray[np.intp]) -> tuple[int, int]:
    """Objects without a partner: missed ones of the reference, and false alarms."""
    missed, alarms = found.reference_sizes > 0, ~found.ignored
    missed[found.pairs[pairs, 0]] = False
    alarms[found.pairs[pairs, 1]] = False
    return int(np.count_nonzero(missed)), int(np.count_nonzero(alarms))


def _match_count(iou: float, hits: int, alarms: int, missed: int) -> MatchCount:
    every = hits + alarms + missed
    return MatchCount(
        iou=iou,
        true_positives=hits,
        false_positives=alarms,
        false_negatives=missed,
        average_precision=hits / every if every else None,
        f1=2 * hits / (every + hits) if every else None,
    )


def _instance_score(
    reference: int, prediction: int, matched: int, iou_sum: float, counts: Sequence[MatchCount]
) -> InstanceScore:
    size = (reference + prediction) / 2  # TP + FP / 2 + FN / 2
    return InstanceScore(
        reference=reference,
        prediction=prediction,
        matched=matched,
        iou_sum=iou_sum,
        panoptic_quality=iou_sum / size if size else None,
        segmentation_quality=iou_sum / matched if matched else None,
        recognition_quality=matched / size if size else None,
        counts=tuple(counts),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
