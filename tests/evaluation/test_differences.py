"""Sides against one another: symmetry, ties of equal scores, and small examples by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.errors import UsageError
from autoseg.evaluation.differences import CaseValues, ScoredSide, compare_sides
from autoseg.evaluation.verdicts import METRICS
from autoseg.records import Comparison, PairedDifference

DICE = METRICS["dice"]
OTHER_WAY = {"first": "second", "second": "first", "tie": "tie", "unclear": "unclear"}


def side(name: str, values: Sequence[float], folds: Sequence[str] | None = None, field: str = "dice") -> ScoredSide:
    """A side with one label."""
    return ScoredSide(
        name,
        {
            f"case_{place:02d}": CaseValues({"liver": {field: value}}, fold=None if folds is None else folds[place])
            for place, value in enumerate(values)
        },
    )


def only(comparison: Comparison) -> PairedDifference:
    (pair,) = comparison.pairs
    return pair


scores = st.integers(1, 15).flatmap(
    lambda count: st.tuples(
        *(st.lists(st.integers(0, 100).map(lambda n: n / 100), min_size=count, max_size=count),) * 2,
        st.lists(st.sampled_from("012"), min_size=count, max_size=count),
    )
)


@settings(max_examples=60, deadline=None)
@given(scores)
def test_the_other_way_round_the_verdict_is_the_same(drawn: tuple[list[float], list[float], list[str]]) -> None:
    a, b, folds = drawn
    there = only(compare_sides([side("a", a, folds), side("b", b, folds)], DICE))
    back = only(compare_sides([side("b", b, folds), side("a", a, folds)], DICE))
    assert there.verdict == OTHER_WAY[back.verdict]
    assert there.difference == pytest.approx(-(back.difference or 0.0))
    assert (there.higher, there.lower) == (back.lower, back.higher)
    assert there.p == pytest.approx(back.p)
    assert there.fold_noise == (None if back.fold_noise is None else pytest.approx(back.fold_noise))
    if there.low is not None:
        assert (there.low, there.high) == pytest.approx((-(back.high or 0.0), -(back.low or 0.0)), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(scores)
def test_equal_scores_are_a_tie(drawn: tuple[list[float], list[float], list[str]]) -> None:
    values, _, folds = drawn
    pair = only(compare_sides([side("a", values, folds), side("b", values, folds)], DICE))
    assert (pair.verdict, pair.words) == ("tie", "a tie: every case has the same mean Dice")
    assert (pair.difference, pair.p, pair.higher, pair.lower) == (0.0, 1.0, 0, 0)


def test_a_small_example_by_hand() -> None:
    first = [0.50, 0.60, 0.70, 0.80, 0.90, 0.85]
    second = [0.55, 0.63, 0.72, 0.81, 0.94, 0.91]  # + 0.05 0.03 0.02 0.01 0.04 0.06
    pair = only(compare_sides([side("old", first, "001122"), side("new", second, "001122")], DICE))
    assert pair.difference == pytest.approx(0.035)
    assert pair.p == pair.p_holm == pytest.approx(2 / 64)
    assert pair.folds == pytest.approx({"0": 0.04, "1": 0.015, "2": 0.05})
    assert pair.fold_noise == pytest.approx(np.std([0.04, 0.015, 0.05], ddof=1))
    assert (pair.cases, pair.higher, pair.lower, pair.verdict) == (6, 6, 0, "second")
    assert pair.words.startswith("new is better: difference +0.035 (95 % interval +0.0")
    assert pair.words.endswith(", p 0.031), fold noise 0.018")


def test_a_tie_tells_difference_and_fold_noise() -> None:
    rng = np.random.default_rng(0)
    base, folds = rng.uniform(0.6, 0.9, 30), [str(place % 5) for place in range(30)]
    pair = only(compare_sides([side("a", base, folds), side("b", base + rng.normal(0, 0.004, 30), folds)], DICE))
    assert pair.verdict == "tie"
    assert pair.words.startswith("a tie: difference ")
    assert ", fold noise 0.00" in pair.words
    assert "not excluded" not in pair.words


def test_a_difference_that_varies_more_from_fold_to_fold_is_a_tie() -> None:
    base = np.linspace(0.5, 0.6, 20)
    gains = np.repeat([0.05, 0.002, 0.002, 0.002], 5) + 0.0001 * np.cos(np.arange(20))
    folds = [str(place // 5) for place in range(20)]
    known = only(compare_sides([side("a", base, folds), side("b", base + gains, folds)], DICE))
    unknown = only(compare_sides([side("a", base), side("b", base + gains)], DICE))
    assert known.low is not None
    assert known.low > 0
    assert known.fold_noise > known.difference
    assert (known.verdict, unknown.verdict) == ("tie", "second")
    assert "it varies more than that from fold to fold" in known.words
    assert unknown.words.endswith("fold noise unknown")


def test_wide_intervals_say_what_they_do_not_exclude() -> None:
    rng = np.random.default_rng(1)
    base = rng.uniform(0.4, 0.6, 8)
    pair = only(compare_sides([side("a", base), side("b", base + rng.normal(0, 0.2, 8))], DICE))
    assert pair.verdict == "tie"
    assert "is not excluded" in pair.words


def test_five_cases_are_too_few() -> None:
    values = np.linspace(0.5, 0.6, 5)
    pair = only(compare_sides([side("a", values), side("b", values + 0.2)], DICE))
    assert pair.verdict == "unclear"
    assert pair.words == "cannot tell from 5 of at least 6 cases: difference +0.200, fold noise unknown"


def test_a_gain_that_nobody_would_report_is_a_tie() -> None:
    values = np.linspace(0.5, 0.6, 30)
    pair = only(compare_sides([side("a", values), side("b", values + 0.0004)], DICE))
    assert pair.verdict == "tie"
    assert pair.words.endswith("; less than 0.001)")


def test_of_distances_the_smaller_is_better() -> None:
    values = np.linspace(5, 9, 12)
    sides = [side("a", values, field="hd95_mm"), side("b", values - 1.5, field="hd95_mm")]
    pair = only(compare_sides(sides, METRICS["hd95"]))
    assert pair.verdict == "second"
    assert pair.words.startswith("b is better: difference -1.50 mm")


def test_more_pairs_need_smaller_p_values() -> None:
    base = np.linspace(0.5, 0.6, 6)
    rising = base + 0.01 * np.arange(1, 7)
    alone = only(compare_sides([side("a", base), side("b", rising)], DICE))
    assert alone.verdict == "second"
    three = compare_sides([side("a", base), side("b", rising), side("c", base[::-1])], DICE)
    assert [(pair.first, pair.second) for pair in three.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    first = three.pairs[0]
    assert first.p == pytest.approx(2 / 64)
    assert first.p_holm == pytest.approx(6 / 64)
    assert first.verdict == "tie"
    assert "; p 0.094" in first.words


def test_only_what_all_have_is_compared() -> None:
    both = {"dice": 0.5, "iou": 0.4}
    a = {"x": CaseValues({"liver": both, "tumor": both}), "y": CaseValues({"liver": both}), "only a": CaseValues({})}
    b = {"x": CaseValues({"liver": both}, false_alarms=("tumor", "liver")), "y": CaseValues({"liver": {"iou": 0.4}})}
    found = compare_sides([ScoredSide("a", a), ScoredSide("b", b)], DICE)
    assert found.labels == ("liver",)
    assert found.cases == {"x": {"a": 0.5, "b": 0.5}, "y": {"a": None, "b": None}}
    assert found.sides[1].false_alarms == 1  # of the labels that are compared
    assert only(found).cases == 1
    assert found.notes == (
        "cases of a left out, since not every side has a score of them: 1 of 3",
        "label tumor is left out: b has no Dice of it",
        "values left out, since not every side has one of that case and label: 1",
    )
    assert found.by_label == ()


def test_labels_have_rows_of_their_own() -> None:
    def two(name: str, gain: float) -> ScoredSide:
        cases = {
            str(place): CaseValues({"liver": {"dice": 0.5 + 0.01 * place}, "tumor": {"dice": 0.3 + gain}})
            for place in range(10)
        }
        return ScoredSide(name, cases)

    found = compare_sides([two("a", 0.0), two("b", 0.2)], DICE)
    assert [(row.label, row.verdict) for row in found.by_label] == [("liver", "tie"), ("tumor", "second")]
    assert found.by_label[0].words == "a tie: every case has the same Dice"
    assert only(found).difference == pytest.approx(0.1)


def test_other_folds_tell_nothing() -> None:
    values = np.linspace(0.5, 0.6, 8)
    pair = only(compare_sides([side("a", values, "00001111"), side("b", values + 0.1, "01010101")], DICE))
    assert pair.folds == {}
    assert pair.fold_noise is None
    one_knows = only(compare_sides([side("a", values, "00001111"), side("b", values + 0.1)], DICE))
    assert list(one_knows.folds) == ["0", "1"]


def test_nothing_in_common() -> None:
    a = side("a", [0.5])
    with pytest.raises(UsageError, match="nothing to compare it with"):
        compare_sides([a], DICE)
    with pytest.raises(UsageError, match=r"no scored case in common \(case_00, …; x, …\)"):
        compare_sides([a, ScoredSide("b", {"x": CaseValues({"liver": {"dice": 0.5}})})], DICE)
    with pytest.raises(UsageError, match=r"no label of which all have Dice \(a: liver; b: kidney\)"):
        compare_sides([a, ScoredSide("b", {"case_00": CaseValues({"kidney": {"dice": 0.5}})})], DICE)
    with pytest.raises(UsageError, match="no case has a score"):
        compare_sides([a, ScoredSide("b", {})], DICE)


def test_a_comparison_is_read_again() -> None:
    found = compare_sides([side("a", [0.5, 0.6], "01"), side("b", [0.6, 0.6], "01")], DICE)
    assert Comparison.model_validate_json(found.model_dump_json()) == found
