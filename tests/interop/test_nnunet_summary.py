"""nnU-Net's summary.json is read, and ours is one that nnU-Net reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoseg.errors import RecordError
from autoseg.evaluation.differences import CaseValues
from autoseg.interop.nnunet_summary import case_of, is_nnunet_summary, label_names, nnunet_scores

HERE = Path("summary.json")


def metrics(dice: float, reference: int, mask: int) -> dict[str, float]:
    return {
        "Dice": dice, "IoU": dice / (2 - dice), "TP": 5, "FP": 1, "FN": 2, "TN": 90, "n_ref": reference, "n_pred": mask
    }  # fmt: skip


def summary() -> dict[str, Any]:
    """As nnU-Net writes it: NaN where neither reference nor mask has the label."""
    text = json.dumps(
        {
            "foreground_mean": {"Dice": 0.5},
            "mean": {"1": {"Dice": 0.5}, "(1, 2)": {"Dice": 0.5}},
            "metric_per_case": [
                {
                    "metrics": {"1": metrics(0.8, 7, 6), "(1, 2)": metrics(float("nan"), 0, 0)},
                    "prediction_file": "/results/fold_0/validation/case_01.nii.gz",
                    "reference_file": "/raw/labelsTr/case_01.nii.gz",
                },
                {
                    "metrics": {"1": metrics(0.0, 0, 6), "(1, 2)": metrics(0.6, 7, 6)},
                    "prediction_file": "C:\\results\\case_02.nii.gz",
                },
            ],
        }
    )
    read: dict[str, Any] = json.loads(text)
    return read


def test_labels_count_where_the_reference_has_them() -> None:
    found = nnunet_scores(summary(), HERE)
    assert found == {
        "case_01": CaseValues({"1": {"dice": 0.8, "iou": pytest.approx(0.8 / 1.2)}}),
        "case_02": CaseValues({"(1, 2)": {"dice": 0.6, "iou": pytest.approx(0.6 / 1.4)}}, false_alarms=("1",)),
    }


def test_a_summary_of_ours_is_none_of_nnunet() -> None:
    assert is_nnunet_summary(summary())
    assert not is_nnunet_summary(summary() | {"cases": []})
    assert not is_nnunet_summary([])
    assert not is_nnunet_summary({"mean": {}})


@pytest.mark.parametrize(
    ("file", "case"),
    [("a/b/x.nii.gz", "x"), ("C:\\a\\x.mha", "x"), ("x.y.nii.gz", "x.y"), ("x", "x")],
)
def test_cases_are_files_without_folder_and_ending(file: str, case: str) -> None:
    assert case_of(file) == case


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda entries: entries[0].pop("prediction_file"), r"metric_per_case\[0\].prediction_file: is missing"),
        (lambda entries: entries[1].pop("metrics"), r"metric_per_case\[1\].metrics: is no object"),
        (lambda entries: entries[1]["metrics"]["1"].pop("n_ref"), r"metric_per_case\[1\].metrics.1: lacks n_ref"),
        (lambda entries: entries[1].update(prediction_file="case_01.mha"), "is the second score of case_01"),
    ],
)
def test_a_broken_file_is_told_by_its_field(change: Any, field: str) -> None:
    raw = summary()
    change(raw["metric_per_case"])
    with pytest.raises(RecordError, match=field):
        nnunet_scores(raw, HERE)


def test_names_are_those_of_the_dataset_json_above_the_fold(tmp_path: Path) -> None:
    path = tmp_path / "trainer__plans__2d" / "fold_0" / "validation" / "summary.json"
    path.parent.mkdir(parents=True)
    assert label_names(path) == {}
    labels = {"background": 0, "core": 1, "whole": [1, 2]}
    declaration = {"channel_names": {"0": "MR"}, "labels": labels, "regions_class_order": [1, 2], "file_ending": ".mha"}
    (path.parents[2] / "dataset.json").write_text(json.dumps(declaration), encoding="utf-8")
    assert label_names(path) == {"1": "core", "(1, 2)": "whole"}
    (path.parent / "dataset.json").write_text('{"labels": {"names": [["background", 0]]}}', encoding="utf-8")
    assert label_names(path) == {"1": "core", "(1, 2)": "whole"}  # one of another program hides none
