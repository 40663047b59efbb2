from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.errors import UsageError
from autoseg.evaluation.comparison import FEWEST_CASES, Entrant, choose
from autoseg.evaluation.paired import dice_table, interval, paired_gain
from autoseg.evaluation.summary import summarize
from autoseg.records import CaseScore, LabelScore

NAMES = ("liver", "tumor")


def label(dice: float | None, reference: int = 100) -> LabelScore:
    return LabelScore(
        dice=dice,
        iou=dice,
        true_positives=0 if dice is None else round(reference * dice),
        false_positives=0,
        false_negatives=0 if dice is None else reference - round(reference * dice),
        volume_reference_ml=1.0,
        volume_prediction_ml=1.0,
    )


def scored(case: str, liver: float | None, tumor: float | None = None) -> CaseScore:
    labels = {"liver": label(liver)} | ({} if tumor is None else {"tumor": label(tumor)})
    return CaseScore(case=case, labels=labels)


def entrant(name: str, networks: int, dice: list[float]) -> Entrant:
    return Entrant(
        name, networks, {f"c{place:02d}": scored(f"c{place:02d}", value) for place, value in enumerate(dice)}
    )


def test_means_are_those_of_a_summary() -> None:
    scores = [scored("a", 0.9, 0.5), scored("b", 0.7), scored("c", 0.8, 0.1)]
    alarm = scored("d", 0.6).labels | {"tumor": label(0.0, reference=0)}  # found although absent: enters no mean
    scores.append(CaseScore(case="d", labels=alarm))
    table = dice_table(scores, NAMES)
    assert np.isnan(table[[1, 3], 1]).all()
    assert interval(table).value == pytest.approx(summarize(scores, 1.0).mean_dice)


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


@pytest.mark.parametrize(
    ("gain", "cases", "chosen", "words"),
    [
        (0.02, 12, "2d + 3d", "worse"),
        (0.0005, 12, "3d", "better by less than 0.001: the simpler one is chosen"),
        (-0.02, 12, "3d", "worse"),
        (0.02, FEWEST_CASES - 1, "3d", "too few cases to tell (5 of 6): the simpler one is chosen"),
    ],
)
def test_more_networks_need_a_sure_gain(gain: float, cases: int, chosen: str, words: str) -> None:
    base = np.linspace(0.7, 0.9, cases)
    noise = 0.0001 * np.cos(np.arange(cases))
    found = choose([entrant("3d", 1, list(base)), entrant("2d + 3d", 2, list(base + gain + noise))], ["liver"])
    assert found.chosen.name == chosen
    assert found.compared[0].name == chosen
    assert found.compared[0].verdict == "chosen"
    assert found.compared[1].verdict == words
    assert found.compared[1].shared_cases == cases


def test_a_gain_that_chance_explains_is_a_tie() -> None:
    rng = np.random.default_rng(3)
    base = rng.uniform(0.6, 0.9, 20)
    found = choose(
        [entrant("3d", 1, list(base)), entrant("pair", 2, list(base + rng.normal(0.005, 0.05, 20)))], ["liver"]
    )
    assert found.chosen.name == "3d"
    row = found.compared[1]
    assert row.low is not None
    assert row.low < 0 < row.high
    assert row.verdict == "a tie: the simpler one is chosen"


def test_of_equally_simple_models_the_higher_mean_over_shared_cases_is_chosen() -> None:
    easy = {f"e{place}": scored(f"e{place}", 0.99) for place in range(5)}
    low, high = entrant("low", 1, [0.5, 0.6, 0.7]), entrant("high", 1, [0.6, 0.7, 0.8])
    with_easy = Entrant("low", 1, {**low.scores, **easy})  # cases that only one of them has decide nothing
    found = choose([with_easy, high], ["liver"])
    assert found.chosen.name == "high"
    assert found.compared[1].gain == pytest.approx(-0.1)


def test_a_model_without_shared_cases_is_left_out_by_name() -> None:
    other = Entrant("other", 1, {"x": scored("x", 1.0)})
    found = choose([entrant("3d", 1, [0.5, 0.6]), other], ["liver"])
    assert found.chosen.name == "3d"
    assert found.left_out == {"other": "no held-out case in common with 3d"}


def test_nothing_to_choose_from() -> None:
    with pytest.raises(UsageError, match="held-out"):
        choose([Entrant("3d", 1, {})], ["liver"])
