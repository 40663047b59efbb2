"""Scores of many cases: means with their N, and what has no score counted apart."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.errors import RecordError
from autoseg.evaluation.instances import means, panoptic_score
from autoseg.evaluation.instances import pooled as pooled_instances
from autoseg.evaluation.lesions import pooled
from autoseg.files import parse_record
from autoseg.records import CaseScore, Labels, LabelScore, LabelSummary, PanopticScore, Summary

#: Fields of nnU-Net's summary.json that stand beside ours.
NNUNET_FIELDS = ("foreground_mean", "mean", "metric_per_case")

#: What it was made with, beside the scores in summary.json.
RECEIPT = "receipt"


def summarize(
    scores: Sequence[CaseScore],
    tolerance_mm: float,
    failures: Mapping[str, str] | None = None,
    names: Sequence[str] = (),
    lesion_iou: float | None = None,
    things: Collection[str] = (),
) -> Summary:
    """Means over cases, per label and over labels; `failures` tells why cases have no score.

    A label's mean is over the cases whose reference has it: a missed one counts with Dice 0, and has no HD95 or ASSD.
    Errors of volume count by their size, so that too much here and too little there do not cancel; in the bias they
    may. Cases whose reference lacks the label are counted as false alarms or as rightly absent, and enter no mean.
    Cases in which nobody drew the label are counted apart too. Lesions, where they were matched, are those of all cases
    together.
    `names` are all labels, in their order; without them those of the scores. `things` are those that are counted.
    """
    told = list(dict.fromkeys([*names, *(name for score in scores for name in score.labels)]))
    labels = {name: _summarize_label([score.labels.get(name) for score in scores]) for name in told}
    return Summary(
        tolerance_mm=tolerance_mm,
        lesion_iou=lesion_iou,
        mean_dice=_mean(entry.dice for entry in labels.values()),
        panoptic=_panoptic(labels, things),
        labels=labels,
        cases=tuple(scores),
        failures=dict(failures or {}),
    )


def _panoptic(labels: Mapping[str, LabelSummary], things: Collection[str]) -> PanopticScore | None:
    scored = {name: entry.instances for name, entry in labels.items() if entry.instances is not None}
    return panoptic_score(scored, things) if scored else None


def _summarize_label(scores: Sequence[LabelScore | None]) -> LabelSummary:
    drawn = [score for score in scores if score is not None]
    present = [score for score in drawn if _reference_voxels(score) > 0]
    absent = [score for score in drawn if _reference_voxels(score) == 0]
    alarms = sum(score.false_positives > 0 for score in absent)
    lesions = [score.lesions for score in drawn if score.lesions is not None]
    instances = [score.instances for score in drawn if score.instances is not None]
    return LabelSummary(
        dice=_mean(score.dice for score in present),
        iou=_mean(score.iou for score in present),
        nsd=_mean(score.nsd for score in present),
        hd95_mm=_mean(score.hd95_mm for score in present),
        assd_mm=_mean(score.assd_mm for score in present),
        volume_error_ml=_mean(_size(score.volume_error_ml) for score in present),
        relative_volume_error=_mean(_size(score.relative_volume_error) for score in present),
        volume_bias_ml=_mean(score.volume_error_ml for score in present),
        cases=len(present),
        empty_references=alarms,
        both_empty=len(absent) - alarms,
        not_annotated=len(scores) - len(drawn),
        lesions=pooled(lesions) if lesions else None,
        instances=pooled_instances(instances) if instances else None,
        instance_means=means(instances) if instances else None,
    )


def _reference_voxels(score: LabelScore) -> int:
    return score.true_positives + score.false_negatives


def _size(error: float | None) -> float | None:
    return None if error is None else abs(error)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def as_nnunet_summary(summary: Summary, labels: Labels | None = None) -> dict[str, Any]:
    """The summary as plain JSON with nnU-Net's fields beside ours; what nnU-Net calls NaN is null.

    In nnU-Net's fields a false alarm counts as 0 and enters the mean, as nnU-Net has it. Labels are called by their
    values ("1", "(1, 2)") when `labels` are given, else by name. Background voxels (TN) are not kept and so not told.
    """
    keys = {name: name if labels is None else nnunet_key(labels.names[name]) for name in summary.labels}
    metrics = [{keys[name]: _nnunet_metrics(score) for name, score in case.labels.items()} for case in summary.cases]
    per_case = [
        {"metrics": entry, "prediction_file": case.prediction_file, "reference_file": case.reference_file}
        for entry, case in zip(metrics, summary.cases, strict=True)
    ]
    mean = {key: _mean_entry([entry[key] for entry in metrics if key in entry]) for key in keys.values()}
    nnunet = {"foreground_mean": _mean_entry(list(mean.values())), "mean": mean, "metric_per_case": per_case}
    return {**summary.model_dump(mode="json"), **nnunet}


def read_summary(path: Path) -> Summary:
    """A summary written by `as_nnunet_summary`; raises RecordError when it is missing, broken or of another format."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecordError(f"cannot be read ({error})", where=path, remedy="Evaluate again.") from error
    ours = (
        {key: value for key, value in raw.items() if key not in (*NNUNET_FIELDS, RECEIPT)}
        if isinstance(raw, dict)
        else raw
    )
    return parse_record(json.dumps(ours), Summary, where=path)


def nnunet_key(value: int | tuple[int, ...]) -> str:
    """What nnU-Net calls a label of this value in its summaries: "1", or "(1, 2)" for a region."""
    return str(value[0] if isinstance(value, tuple) and len(value) == 1 else value)


def names_by_key(raw: Mapping[str, Any]) -> dict[str, str]:
    """How the labels of a summary of ours, as plain JSON, are called by the keys of nnU-Net's fields.

    Empty for files in which those fields name them as well, as earlier versions wrote them.
    """
    keys, names = list(raw.get("mean") or ()), list(raw.get("labels") or ())
    return dict(zip(keys, names, strict=True)) if len(keys) == len(names) and keys != names else {}


def _nnunet_metrics(score: LabelScore) -> dict[str, float | None]:
    return {
        "Dice": score.dice,
        "IoU": score.iou,
        "TP": score.true_positives,
        "FP": score.false_positives,
        "FN": score.false_negatives,
        "n_pred": score.true_positives + score.false_positives,
        "n_ref": _reference_voxels(score),
    }


def _mean_entry(entries: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    keys = dict.fromkeys(key for entry in entries for key in entry)
    return {key: _mean(entry.get(key) for entry in entries) for key in keys}
