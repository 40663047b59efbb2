from __future__ import annotations

from typing import Any

import pytest

from autoseg.evaluation.verdicts import METRICS, judge
from autoseg.records import PairedDifference

SURE: dict[str, Any] = {
    "difference": 0.02, "low": 0.01, "high": 0.03, "p": 0.002, "p_holm": 0.004, "cases": 20, "higher": 18, "lower": 2,
    "folds": {}, "fold_noise": 0.005,
}  # fmt: skip


def row(**changed: Any) -> PairedDifference:
    known: dict[str, Any] = {"first": "A", "second": "B", "label": None, "verdict": "unclear", "words": ""}
    return PairedDifference(**known | SURE | changed)


@pytest.mark.parametrize(
    ("changed", "verdict", "words"),
    [
        ({}, "second", "B is better: difference +0.020 (95 % interval +0.010 to +0.030, p 0.004), fold noise 0.005"),
        (
            {"difference": -0.02, "low": -0.03, "high": -0.01, "fold_noise": None},
            "first",
            "A is better: difference -0.020 (95 % interval -0.030 to -0.010, p 0.004), fold noise unknown",
        ),
        (
            {"difference": 0.001, "low": -0.002, "high": 0.004, "p_holm": 0.4, "fold_noise": 0.003},
            "tie",
            "a tie: difference +0.001, fold noise 0.003 (95 % interval -0.002 to +0.004)",
        ),
        (
            {"low": -0.02, "high": 0.06},
            "tie",
            "a tie: difference +0.020, fold noise 0.005 (95 % interval -0.020 to +0.060; one of up to 0.060 is not "
            "excluded)",
        ),
        (
            {"p_holm": 0.05},
            "tie",
            "a tie: difference +0.020, fold noise 0.005 (95 % interval +0.010 to +0.030; p 0.05)",
        ),
        (
            {"difference": 0.0009, "low": 0.0005, "high": 0.002},
            "tie",
            "a tie: difference +0.0009, fold noise 0.005 (95 % interval +0.0005 to +0.002; less than 0.001)",
        ),
        (
            {"fold_noise": 0.02},
            "tie",
            "a tie: difference +0.020, fold noise 0.020 (95 % interval +0.010 to +0.030; it varies more than that from "
            "fold to fold)",
        ),
        ({"low": 0.0}, "tie", None),  # an interval that ends at 0 leaves it in
        (
            {"cases": 5},
            "unclear",
            "cannot tell from 5 of at least 6 cases: difference +0.020, fold noise 0.005",
        ),
        ({"difference": None, "low": None, "high": None, "p": None, "p_holm": None}, "unclear", None),
        (
            {"difference": 0.0, "low": 0.0, "high": 0.0, "higher": 0, "lower": 0, "p_holm": 1.0, "label": "liver"},
            "tie",
            "a tie: every case has the same Dice",
        ),
    ],
)
def test_one_is_better_only_where_everything_agrees(changed: dict[str, Any], verdict: str, words: str | None) -> None:
    found, told = judge(row(**changed), METRICS["dice"])
    assert found == verdict
    assert words is None or told == words


def test_of_distances_a_lower_one_is_better() -> None:
    changed = {"difference": -1.5, "low": -2.0, "high": -1.0, "fold_noise": 0.25}
    found, told = judge(row(**changed), METRICS["hd95"])
    assert found == "second"
    assert told == (
        "B is better: difference -1.50 mm (95 % interval -2.00 mm to -1.00 mm, p 0.004), fold noise 0.25 mm"
    )


@pytest.mark.parametrize(
    ("metric", "value", "told"),
    [
        ("dice", 0.0123, "+0.012"),
        ("dice", -0.0123, "-0.012"),
        ("dice", 0.00042, "+0.00042"),
        ("dice", 0.0, "+0.000"),
        ("assd", 0.25, "+0.25 mm"),
    ],
)
def test_values_in_words(metric: str, value: float, told: str) -> None:
    assert METRICS[metric].told(value) == told
