"""Sure disagreement with references, from made-up probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.evaluation.label_errors import (
    FEWEST_VOXELS,
    SLACK,
    Contradiction,
    Place,
    contradiction,
    label_doubts,
    label_thresholds,
    places_of,
    sure_margins,
    sure_pairs,
    usual_shares,
    usual_sizes,
)
from autoseg.records import Labels

PLAIN = Labels(names={"background": 0, "big": 1, "small": 2})
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2})
SHAPE = (12, 14, 16)


def drawn() -> np.ndarray:
    """A big box, and apart from it a small one."""
    labels = np.zeros(SHAPE, np.int16)
    labels[2:8, 2:8, 2:8] = 1
    labels[9:11, 10:12, 11:13] = 2
    return labels


def said(
    truth: np.ndarray, found: np.ndarray, best: float | np.ndarray = 0.9, known: Sequence[bool] = (True, True, True)
) -> Contradiction:
    """A case whose networks are so sure of what they find; the rest goes to what the reference says."""
    sure = np.broadcast_to(np.asarray(best, np.float32), truth.shape)
    own = np.where(truth == found, sure, 1 - sure)
    return contradiction(truth, found, own, sure, np.array(known))


def ranked(cases: Sequence[Contradiction], labels: Labels = PLAIN) -> list[dict[str, float]]:
    """Suspicion by label, of each case."""
    thresholds, membership = label_thresholds(cases), labels.value_membership
    sizes = usual_sizes(cases, membership)
    doubts = [label_doubts(case, sure_margins(case, thresholds), membership, sizes) for case in cases]
    usual = usual_shares(doubts)
    names = list(labels.foreground)
    return [{names[key]: usual[key].suspicion(one.share) for key, one in case.items()} for case in doubts]


def places(cases: Sequence[Contradiction], number: int, labels: Labels = PLAIN) -> list[Place]:
    thresholds, membership = label_thresholds(cases), labels.value_membership
    sizes = usual_sizes(cases, membership)
    margins = [sure_margins(case, thresholds) for case in cases]
    doubts = [label_doubts(*pair, membership, sizes) for pair in zip(cases, margins, strict=True)]
    return places_of(cases[number], margins[number], membership, doubts[number], usual_shares(doubts))


def test_where_reference_and_mask_agree_there_is_nothing_to_say() -> None:
    case = said(drawn(), drawn())
    assert len(case.index) == 0
    assert case.voxels.tolist() == [int((drawn() == value).sum()) for value in range(3)]
    assert places([case], 0) == []
    assert ranked([case]) == [{"big": 0.0, "small": 0.0}]


def test_thresholds_are_the_mean_probability_near_the_foreground() -> None:
    truth = drawn()
    best = np.full(SHAPE, 0.999, np.float32)
    best[truth == 1], best[truth == 2] = 0.8, 0.6
    best[:, :, :2] = 0.5  # background close to the big box
    background, big, small = label_thresholds([said(truth, truth, best)])
    assert (big, small) == (pytest.approx(0.8), pytest.approx(0.6))
    assert 0.5 < background < 0.999
    nowhere = Labels(names={"background": 0, "big": 1, "small": 2, "never": 3})
    four = contradiction(truth, truth, best, best, np.ones(len(nowhere.values), np.bool_))
    assert label_thresholds([four])[3] == 1.0


def test_background_far_from_everything_does_not_raise_its_threshold() -> None:
    truth = np.zeros((30, 30, 30), np.int16)
    truth[4:8, 4:8, 4:8] = 1
    best = np.full(truth.shape, 1.0, np.float32)
    best[:12, :12, :12] = 0.7
    assert label_thresholds([said(truth, truth, best)])[0] == pytest.approx(0.7)


def test_only_what_networks_are_as_sure_of_as_usual_counts() -> None:
    truth, found = drawn(), drawn()
    found[2:8, 2:8, 8] = 1  # a layer that the reference lacks
    usual = said(truth, truth, 0.9)
    unsure = np.full(SHAPE, 0.9, np.float32)
    unsure[2:8, 2:8, 8] = 0.7
    assert not sure_margins(said(truth, found, unsure), label_thresholds([usual])).any()
    assert (sure_margins(said(truth, found, 0.9), label_thresholds([usual])) > 0.75).all()


def test_a_label_of_which_networks_are_never_sure_has_a_threshold_of_its_own() -> None:
    truth, found = drawn(), drawn()
    found[9:11, 10:12, 13] = 2
    best = np.full(SHAPE, 0.95, np.float32)
    best[found == 2] = 0.6
    case = said(truth, found, best)
    others = [said(truth, truth, np.where(truth == 2, 0.6, 0.95))] * 3
    assert (sure_margins(case, label_thresholds([case, *others])) > 0).all()


def test_labels_that_were_not_drawn_and_ignored_voxels_are_not_counted() -> None:
    truth, found = drawn(), drawn()
    truth[truth == 2] = 0
    assert len(said(truth, found).index) == 8
    assert len(said(truth, found, known=(True, True, False)).index) == 0
    ignored = drawn()
    ignored[2:8, 2:8, 2:5] = 3  # one above all labels
    case = said(ignored, np.zeros(SHAPE, np.int16))
    assert set(case.truth.tolist()) == {1, 2}
    assert case.voxels[1] == 6 * 6 * 3


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
    assert 0 < case["big"] < 6 / 216 / SLACK < 1


def test_places_are_connected_and_say_where_and_what() -> None:
    truth, found = drawn(), drawn()
    found[2:8, 2:8, 8:10] = 1  # missing in the reference
    found[9:11, 10:12, 11:13] = 1  # another label
    found[0, 0, 0] = 1  # a speck
    cases = [*[said(drawn(), drawn())] * 5, said(truth, found)]
    first, second = sorted(places(cases, 5), key=lambda place: -place.voxels)
    assert (first.voxels, first.low, first.high) == (72, (2, 2, 8), (7, 7, 9))
    assert (first.truth, first.found, list(PLAIN.foreground)[first.label]) == (0, 1, "big")
    assert (second.truth, second.found, list(PLAIN.foreground)[second.label]) == (2, 1, "small")
    assert second.voxels == 8
    assert second.suspicion > first.suspicion  # all of the small label against a third of the big one
    assert [place.voxels for place in places(cases, 5)] == [8, 72]
    assert FEWEST_VOXELS > 1


def test_the_middle_of_a_hollow_place_is_a_voxel_of_it() -> None:
    truth = np.zeros((13, 13, 13), np.int16)
    found = np.zeros_like(truth)
    found[2:11, 2:11, 2:11] = 1
    truth[3:10, 3:10, 3:10] = 1
    (place,) = places([*[said(found, found)] * 3, said(truth, found)], 3)
    k, j, i = place.middle
    assert place.voxels == 9**3 - 7**3
    assert found[k, j, i] == 1
    assert truth[k, j, i] == 0


def test_a_core_taken_for_the_rest_is_an_error_of_the_core_alone() -> None:
    truth = drawn()
    truth[4:6, 4:6, 4:6] = 2
    found = drawn()
    *_, case = ranked([*[said(truth, truth)] * 5, said(truth, found)], REGIONS)
    assert case["core"] > 3
    assert case["whole"] == 0.0


def test_pairs_count_voxels_and_cases() -> None:
    truth, found = drawn(), drawn()
    truth[truth == 2] = 0
    cases = [said(drawn(), drawn()), said(truth, found), said(truth, found)]
    thresholds = label_thresholds(cases)
    assert sure_pairs(cases, [sure_margins(case, thresholds) for case in cases]) == {(0, 2): (16, 2)}


@settings(deadline=None)
@given(
    low=st.tuples(*(st.integers(0, size - 3) for size in SHAPE)),
    size=st.tuples(*(st.integers(1, 3) for _ in SHAPE)),
)
def test_a_box_that_the_reference_lacks_is_found_where_it_is(
    low: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    box = tuple(slice(start, start + extent) for start, extent in zip(low, size, strict=True))
    found = np.zeros(SHAPE, np.int16)
    found[box] = 1
    whole = said(drawn(), drawn())
    made = places([whole, whole, said(np.zeros(SHAPE, np.int16), found)], 2)
    if np.prod(size) < FEWEST_VOXELS:
        assert made == []
        return
    (place,) = made
    assert place.low == low
    assert place.high == tuple(start + extent - 1 for start, extent in zip(low, size, strict=True))
    assert found[place.middle] == 1
