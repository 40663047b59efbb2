"""What is unusual for a label stands out, and what is usual does not."""

from __future__ import annotations

import numpy as np
import pytest
from contradiction_builders import PLAIN, REGIONS, drawn, ranked, said

from autoseg.evaluation.label_doubts import SLACK, spread, with_whole


def test_an_error_in_a_small_label_counts_as_one_in_a_large_label() -> None:
    clean = [said(drawn(), drawn())] * 6
    without_small, without_big = drawn(), drawn()
    without_small[without_small == 2] = 0
    without_big[without_big == 1] = 0
    small, big = ranked([*clean, said(without_small, drawn()), said(without_big, drawn())])[-2:]
    assert small["small"] == pytest.approx(big["big"])
    assert small["small"] > 10
    assert small["big"] == big["small"] == 0.0


def test_what_is_usual_for_a_label_is_not_suspicious() -> None:
    """Networks that always draw the small label larger find nothing; the case in which they draw it smaller is odd."""
    larger, other = drawn(), drawn()
    larger[9:11, 10:12, 13] = 2
    other[other == 2] = 0
    cases = [said(drawn(), larger)] * 7 + [said(drawn(), other)]
    *usual, odd = ranked(cases)
    assert all(abs(case["small"]) < 1 for case in usual)
    assert odd["small"] > 5


def test_differences_below_the_slack_are_nothing_however_alike_the_others_are() -> None:
    found = drawn()
    found[2, 2, 2:8] = 0  # 6 of 216 voxels
    *_, case = ranked([*[said(drawn(), drawn())] * 9, said(drawn(), found)])
    assert 0 < case["big"] < 2 * 6 / 216 / SLACK < 1.2


def test_a_core_taken_for_the_rest_is_an_error_of_the_core_alone() -> None:
    truth = drawn()
    truth[4:6, 4:6, 4:6] = 2
    found = drawn()
    *_, case = ranked([*[said(truth, truth)] * 5, said(truth, found)], REGIONS)
    assert case["core"] > 3
    assert case["whole"] == 0.0


def test_a_border_that_is_nowhere_surely_wrong_but_always_inside_is_unusual() -> None:
    """Networks err to both sides of a border; a reference that is drawn too small is missed to one side only."""
    rng = np.random.default_rng(0)
    cases = []
    for number in range(9):
        truth, found = drawn(), drawn()
        found[2:8, 2:8, 8][rng.random((6, 6)) < 0.5] = 1
        found[2:8, 2:8, 2][rng.random((6, 6)) < 0.5] = 0
        if number == 8:
            found, truth[2, 2:8, 2:8], truth[7, 2:8, 2:8] = drawn(), 0, 0
        cases.append(said(truth, found, 0.55))
    *usual, odd = ranked(cases)
    assert odd["big"] > 3 > 2 > max(case["big"] for case in usual)
    assert odd["all"] > 3


def test_the_foreground_as_a_whole_is_a_column_unless_a_region_is_that() -> None:
    assert with_whole(PLAIN.value_membership).tolist() == [
        [False, False, False],
        [True, False, True],
        [False, True, True],
    ]
    assert np.array_equal(with_whole(REGIONS.value_membership), REGIONS.value_membership)


def test_a_spread_is_not_moved_by_a_few_odd_ones() -> None:
    found = spread([0.1] * 5 + [0.2] * 5 + [9.0])
    assert found.middle == 0.2
    assert found.scale == pytest.approx(SLACK, abs=0.15)
    assert found.deviation(9.0) > 30
