from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from autoseg.errors import RecordError
from autoseg.evaluation.instances import score_instances
from autoseg.evaluation.summary import as_nnunet_summary, names_by_key, read_summary, summarize
from autoseg.files import write_json
from autoseg.records import CaseScore, Labels, LabelScore


def score(true: int, extra: int, missed: int, hd: float | None = None) -> LabelScore:
    total, union = 2 * true + extra + missed, true + extra + missed
    return LabelScore(
        dice=2 * true / total if total else None,
        iou=true / union if union else None,
        true_positives=true,
        false_positives=extra,
        false_negatives=missed,
        volume_reference_ml=true + missed,
        volume_prediction_ml=true + extra,
        volume_error_ml=extra - missed,
        relative_volume_error=(extra - missed) / (true + missed) if true + missed else None,
        nsd=1.0 if true else (0.0 if total else None),
        hd95_mm=hd,
        assd_mm=None if hd is None else hd / 4,
    )


SCORES = [
    CaseScore(case="a", labels={"x": score(10, 0, 0, 0.0), "y": score(0, 0, 0)}, prediction_file="a.nii.gz"),
    CaseScore(case="b", labels={"x": score(5, 5, 5, 2.0), "y": score(0, 4, 0)}),
    CaseScore(case="c", labels={"x": score(0, 0, 7), "y": score(0, 0, 0)}),
]


def test_means_are_over_references_that_have_the_label() -> None:
    summary = summarize(SCORES, 1.0, {"d": "is unreadable"})
    x, y = summary.labels["x"], summary.labels["y"]
    assert x.dice == pytest.approx((1 + 0.5 + 0) / 3)
    assert x.hd95_mm == pytest.approx(1.0)
    assert x.assd_mm == pytest.approx(0.25)
    assert (x.cases, x.empty_references, x.both_empty) == (3, 0, 0)
    assert (y.dice, y.iou, y.nsd, y.hd95_mm) == (None, None, None, None)
    assert (y.cases, y.empty_references, y.both_empty) == (0, 1, 2)
    assert (y.assd_mm, y.volume_error_ml, y.relative_volume_error, y.volume_bias_ml) == (None,) * 4
    assert summary.mean_dice == x.dice
    assert summary.failures == {"d": "is unreadable"}


def test_errors_of_volume_do_not_cancel_but_their_bias_does() -> None:
    scores = [CaseScore(case=str(number), labels={"x": score(10, *errors)}) for number, errors in enumerate(ERRORS)]
    x = summarize(scores, 1.0).labels["x"]
    assert x.volume_error_ml == pytest.approx((6 + 2) / 2)
    assert x.relative_volume_error == pytest.approx((0.6 + 2 / 12) / 2)
    assert x.volume_bias_ml == pytest.approx((6 - 2) / 2)


ERRORS = [(6, 0), (0, 2)]  # (too much, missed)


def test_a_summary_without_the_newer_figures_is_read(tmp_path: Path) -> None:
    written = as_nnunet_summary(summarize(SCORES, 1.0))
    newer = ("assd_mm", "volume_error_ml", "relative_volume_error", "volume_bias_ml")
    for entry in (*written["labels"].values(), *(one for case in written["cases"] for one in case["labels"].values())):
        for name in newer:
            entry.pop(name, None)
    path = tmp_path / "summary.json"
    write_json(path, written)
    read = read_summary(path)
    assert read.labels["x"].assd_mm is None
    assert read.labels["x"].dice == pytest.approx(0.5)


def test_nothing_scored() -> None:
    summary = summarize([], 1.0, {"a": "no"})
    assert summary.mean_dice is None
    assert summary.labels == {}
    assert as_nnunet_summary(summary)["foreground_mean"] == {}


def test_nnunet_fields_stand_beside_ours(tmp_path: Path) -> None:
    summary = summarize(SCORES, 1.0)
    labels = Labels(names={"background": 0, "x": 1, "y": (2, 3)}, regions_class_order=(1, 2))
    record = as_nnunet_summary(summary, labels)
    json.dumps(record, allow_nan=False)
    assert set(record["mean"]) == {"1", "(2, 3)"}
    assert record["mean"]["(2, 3)"]["Dice"] == 0.0  # nnU-Net's mean takes the false alarm in
    assert record["mean"]["1"]["n_ref"] == pytest.approx(9.0)
    assert record["foreground_mean"]["Dice"] == pytest.approx(0.25)
    assert record["metric_per_case"][0]["prediction_file"] == "a.nii.gz"
    assert record["metric_per_case"][0]["metrics"]["(2, 3)"]["Dice"] is None
    assert names_by_key(record) == {"1": "x", "(2, 3)": "y"}
    assert names_by_key(as_nnunet_summary(summary)) == {}  # as earlier versions wrote it
    path = tmp_path / "summary.json"
    write_json(path, record)
    assert read_summary(path) == summary


def test_a_broken_summary_is_named(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(RecordError, match=r"summary\.json"):
        read_summary(path)
    path.write_text('{"format": 1, "cases": []}', encoding="utf-8")
    with pytest.raises(RecordError, match="tolerance_mm"):
        read_summary(path)


def test_cases_in_which_a_label_was_not_drawn_are_counted_apart(tmp_path: Path) -> None:
    scores = [CaseScore(case="0", labels={"y": score(3, 1, 0)}), *SCORES]
    summary = summarize(scores, 1.0, names=["x", "y", "z"])
    assert list(summary.labels) == ["x", "y", "z"]
    assert summary.labels["x"].dice == pytest.approx((1 + 0.5 + 0) / 3)
    assert [entry.not_annotated for entry in summary.labels.values()] == [1, 0, 4]
    assert (summary.labels["z"].cases, summary.labels["z"].dice) == (0, None)
    path = tmp_path / "summary.json"
    write_json(path, as_nnunet_summary(summary))
    assert read_summary(path) == summary
    assert json.loads(path.read_text())["foreground_mean"]["TP"] == pytest.approx((5 + 0.75) / 2)


def test_objects_are_pooled_averaged_and_told_by_kind(tmp_path: Path) -> None:
    one, two = np.array([[[1, 1, 0, 2, 2]]]), np.array([[[1, 1, 0, 0, 0]]])
    pairs = [(one, one), (one, two)]
    scores = [
        CaseScore(
            case=str(number),
            labels={
                "cell": score(1, 0, 0).model_copy(update={"instances": score_instances(*pair)}),
                "tissue": score(1, 0, 0).model_copy(update={"instances": score_instances(pair[0] > 0, pair[1] > 0)}),
            },
        )
        for number, pair in enumerate(pairs)
    ]
    summary = summarize(scores, 1.0, things=("cell",))
    cell, tissue = summary.labels["cell"], summary.labels["tissue"]
    assert cell.instances is not None
    assert (cell.instances.reference, cell.instances.matched) == (4, 3)
    assert cell.instances.panoptic_quality == pytest.approx(3 / 3.5)
    assert cell.instance_means is not None
    assert cell.instance_means.panoptic_quality == pytest.approx((1 + 1 / 1.5) / 2)
    assert tissue.instances is not None
    assert tissue.instances.panoptic_quality == pytest.approx(1 / 2)  # an IoU of exactly a half is no match
    assert summary.panoptic is not None
    assert summary.panoptic.things == cell.instances.panoptic_quality
    assert summary.panoptic.stuff == tissue.instances.panoptic_quality
    write_json(tmp_path / "summary.json", as_nnunet_summary(summary))
    assert read_summary(tmp_path / "summary.json") == summary
    assert summarize(SCORES, 1.0).panoptic is None
