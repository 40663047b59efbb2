from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.evaluation.instances import score_instances
from autoseg.evaluation.paired import (
    Interval,
    case_means,
    dice_table,
    fold_gains,
    fold_noise,
    interval,
    paired_gain,
    quality_table,
    score_table,
    values_of,
)
from autoseg.evaluation.summary import summarize
from autoseg.records import CaseScore, LabelScore

NAMES = ("liver", "tumor")
NAN = float("nan")

tables = st.integers(2, 12).flatmap(
    lambda cases: st.lists(
        st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), min_size=2, max_size=2), min_size=cases, max_size=cases
    )
)


def label(dice: float | None, reference: int = 100, hd95_mm: float | None = None) -> LabelScore:
    return LabelScore(
        dice=dice,
        iou=dice,
        true_positives=0 if dice is None else round(reference * dice),
        false_positives=0,
        false_negatives=0 if dice is None else reference - round(reference * dice),
        volume_reference_ml=1.0,
        volume_prediction_ml=1.0,
        hd95_mm=hd95_mm,
    )


def scored(case: str, liver: float | None, tumor: float | None = None) -> CaseScore:
    labels = {"liver": label(liver)} | ({} if tumor is None else {"tumor": label(tumor)})
    return CaseScore(case=case, labels=labels)


def test_means_are_those_of_a_summary() -> None:
    scores = [scored("a", 0.9, 0.5), scored("b", 0.7), scored("c", 0.8, 0.1)]
    alarm = scored("d", 0.6).labels | {"tumor": label(0.0, reference=0)}  # found although absent: enters no mean
    scores.append(CaseScore(case="d", labels=alarm))
    table = dice_table(scores, NAMES)
    assert np.isnan(table[[1, 3], 1]).all()
    assert interval(table).value == pytest.approx(summarize(scores, 1.0).mean_dice)


def test_the_quality_of_things_is_that_of_their_objects() -> None:
    one, none = np.ones((1, 2, 2), dtype=np.uint32), np.zeros((1, 2, 2), dtype=np.uint32)

    def case(name: str, reference: np.ndarray, mask: np.ndarray) -> CaseScore:
        entry = label(0.3, reference=int(reference.sum()))
        counted = entry.model_copy(update={"instances": score_instances(reference, mask)})
        return CaseScore(case=name, labels={"liver": label(0.8), "tumor": counted})

    scores = [case("found", one, one), case("missed", one, none), case("alarm", none, one), case("empty", none, none)]
    scores.append(scored("without objects", 0.8, 0.4))
    scores.append(scored("not drawn", 0.8))
    table = quality_table(scores, NAMES, {"tumor": "core"})
    np.testing.assert_allclose(table[:, 1], [1.0, 0.0, 0.0, NAN, 0.4, NAN])
    np.testing.assert_allclose(table[:, 0], 0.8)
    np.testing.assert_array_equal(quality_table(scores, NAMES, ()), dice_table(scores, NAMES))
    assert values_of(scores[1], "average_precision_50") == {"tumor": 0.0}
    assert values_of(scores[3], "panoptic_quality") == values_of(scores[5], "panoptic_quality") == {}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.floats(-0.3, 0.3))
def test_an_interval_holds_its_mean_and_moves_with_it(values: list[float], shift: float) -> None:
    table = np.array(values)[:, None]
    found = interval(table)
    assert found.low is not None
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9
    gain = paired_gain(table + shift, table)
    # paired: what all cases have in common has no spread
    assert (gain.low, gain.value, gain.high) == pytest.approx((shift, shift, shift), abs=1e-9)


def test_the_interval_is_that_of_many_samples_of_cases() -> None:
    values = np.random.default_rng(0).beta(8, 2, 200)
    found = interval(values[:, None])
    error = values.std() / np.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_values_are_of_labels_that_the_reference_has_and_that_exist() -> None:
    labels = {"a": label(0.9, hd95_mm=2.0), "b": label(0.0, hd95_mm=None), "c": label(0.0, reference=0)}
    score = CaseScore(case="x", labels=labels)
    assert values_of(score, "dice") == {"a": 0.9, "b": 0.0}
    assert values_of(score, "hd95_mm") == {"a": 2.0}


def test_means_of_a_case_are_over_the_labels_that_it_has() -> None:
    table = score_table([{"liver": 0.8, "tumor": 0.4}, {"tumor": 0.5}, {}], NAMES)
    assert case_means(table) == pytest.approx([0.6, 0.5, NAN], nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(tables)
def test_a_gain_the_other_way_round_is_its_negative(rows: list[list[float]]) -> None:
    table = np.array(rows)
    other = np.where(np.isfinite(table), np.random.default_rng(1).uniform(0, 1, table.shape), NAN)
    there, back = paired_gain(table, other), paired_gain(other, table).negated
    for one, same in zip((there.value, there.low, there.high), (back.value, back.low, back.high), strict=True):
        assert one is same is None or one == pytest.approx(same, abs=1e-9)


def test_the_negative_of_an_interval_keeps_its_ends_in_order() -> None:
    assert Interval(0.1, -0.2, 0.3).negated == Interval(-0.1, -0.3, 0.2)
    assert Interval(None).negated == Interval(None)


def test_gains_of_folds_and_their_noise_by_hand() -> None:
    first = np.array([[0.5], [0.7], [0.6], [0.8], [NAN]])
    second = np.array([[0.6], [0.8], [0.6], [0.9], [NAN]])
    gains = fold_gains(second, first, ["0", "0", "1", "1", "2"])
    assert gains == pytest.approx({"0": 0.1, "1": 0.05})  # fold 2 has no value
    assert fold_noise(gains) == pytest.approx(0.05 / np.sqrt(2))
    assert fold_noise({"0": 0.1}) is None
    assert fold_noise({}) is None
