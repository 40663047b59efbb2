"""Sure disagreement with references, from made-up probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from contradiction_builders import SHAPE, drawn, places, ranked, said

from autoseg.evaluation.label_errors import contradiction, joint_counts, label_thresholds, sure_margins, sure_pairs
from autoseg.records import Labels


def test_where_reference_and_mask_agree_there_is_nothing_to_say() -> None:
    case = said(drawn(), drawn())
    assert len(case.index) == 0
    assert case.voxels.tolist() == [int((drawn() == value).sum()) for value in range(3)]
    assert places([case], 0) == []
    assert ranked([case]) == [{"big": 0.0, "small": 0.0, "all": 0.0}]


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


def test_pairs_count_voxels_and_cases() -> None:
    truth, found = drawn(), drawn()
    truth[truth == 2] = 0
    cases = [said(drawn(), drawn()), said(truth, found), said(truth, found)]
    thresholds = label_thresholds(cases)
    assert sure_pairs(cases, [sure_margins(case, thresholds) for case in cases]) == {(0, 2): (16, 2)}


def test_joint_counts_are_those_of_all_voxels() -> None:
    truth, found = drawn(), drawn()
    found[2:4], truth[9:11, 10:12, 12] = 0, 1
    counts = joint_counts(said(truth, found))
    for one in range(3):
        for other in range(3):
            assert counts[one, other] == int(((truth == one) & (found == other)).sum())
