from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from autoseg.evaluation.instances import (
    IOU_THRESHOLDS,
    Scene,
    means,
    overlaps,
    panoptic_score,
    pooled,
    score_instances,
    score_scene,
)
from autoseg.records import InstanceScore, MatchCount


def line(*ids: int, dtype: type = np.uint16) -> NDArray[np.integer]:
    """A row of voxels (1, 1, X)."""
    return np.array([[ids]], dtype=dtype)


def at(score: InstanceScore, iou: float) -> MatchCount:
    return next(count for count in score.counts if count.iou == iou)


def random_ids(generator: np.random.Generator, objects: int, size: int = 14) -> NDArray[np.int64]:
    """Boxes over one another: later ones cover earlier ones, which may come apart or vanish."""
    ids = np.zeros((1, size, size), dtype=np.int64)
    for number in range(1, objects + 1):
        y, x = generator.integers(0, size - 2, 2)
        height, width = generator.integers(1, 7, 2)
        ids[0, y : y + height, x : x + width] = number
    return ids


def two_maps(seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of a reference, and of a prediction that is much like it."""
    generator = np.random.default_rng(seed)
    reference = random_ids(generator, int(generator.integers(0, 9)))
    prediction = np.roll(reference, tuple(generator.integers(-1, 2, 2)), (1, 2))
    other = random_ids(generator, int(generator.integers(0, 3)))
    return reference, np.where(other > 0, other + 50, prediction)


# ----------------------------------------------------------------------------------------------------- small cases


def test_by_hand() -> None:
    reference = line(1, 1, 1, 1, 0, 2, 2, 0, 0, 0)
    prediction = line(1, 1, 1, 0, 0, 3, 3, 3, 3, 9)  # IoU 3/4 and 2/4, and one that is nowhere
    score = score_instances(reference, prediction)
    assert (score.reference, score.prediction, score.matched) == (2, 3, 1)
    assert score.iou_sum == 0.75
    assert score.panoptic_quality == pytest.approx(0.75 / 2.5)
    assert score.segmentation_quality == 0.75
    assert score.recognition_quality == pytest.approx(1 / 2.5)
    half, three_quarters, four_fifths = (at(score, iou) for iou in (0.5, 0.75, 0.8))
    assert (half.true_positives, half.false_positives, half.false_negatives) == (2, 1, 0)
    assert half.average_precision == pytest.approx(2 / 3)
    assert half.f1 == pytest.approx(4 / 5)
    assert (three_quarters.true_positives, three_quarters.false_positives) == (1, 2)
    assert three_quarters.average_precision == pytest.approx(1 / 4)
    assert four_fifths.average_precision == 0
    assert four_fifths.f1 == 0


@pytest.mark.parametrize("swapped", [False, True])
def test_halves_compete_for_a_whole(swapped: bool) -> None:
    whole, halves = line(1, 1, 1, 1), line(5, 5, 6, 6)
    score = score_instances(halves, whole) if swapped else score_instances(whole, halves)
    count = at(score, 0.5)
    assert (count.true_positives, count.false_positives + count.false_negatives) == (1, 1)
    assert score.matched == 0  # not above a half
    assert score.panoptic_quality == 0
    assert score.segmentation_quality is None


def test_nothing_in_either_has_no_score() -> None:
    nothing = line(0, 0, 0)
    score = score_instances(nothing, nothing)
    assert (score.panoptic_quality, score.segmentation_quality, score.recognition_quality) == (None, None, None)
    assert all(count.average_precision is None and count.f1 is None for count in score.counts)
    alarm = score_instances(nothing, line(0, 1, 0))
    assert (alarm.panoptic_quality, at(alarm, 0.5).average_precision, alarm.prediction) == (0, 0, 1)


def test_thresholds_are_reached_at_equality() -> None:
    """Each threshold is n of 20 voxels."""
    for least in IOU_THRESHOLDS:
        shared = round(20 * least)
        score = score_instances(line(*[1] * 20), line(*[1] * shared, *[0] * (20 - shared)))
        reached = [count.iou for count in score.counts if count.true_positives]
        assert reached == [iou for iou in IOU_THRESHOLDS if iou <= least]


@pytest.mark.parametrize("dtype", [np.uint32, np.int64])
def test_there_is_no_limit_of_65535_objects(dtype: type) -> None:
    ids = (np.arange(70_000) + 2**31).astype(dtype).reshape(1, 1, -1)
    score = score_instances(ids, ids[..., ::-1] - 7)
    assert (score.reference, score.prediction, score.matched, score.panoptic_quality) == (70_000, 70_000, 70_000, 1.0)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        score_instances(line(1, 0), line(1))


# ---------------------------------------------------------------------------------------------------------- ignored


def test_ignored_voxels_count_for_nothing() -> None:
    reference = line(1, 1, 1, 0, 0, 0, 0, 2, 0)
    prediction = line(1, 1, 1, 1, 1, 8, 8, 9, 9)
    ignored = np.array([[[False, False, False, True, True, True, False, True, True]]])
    score = score_instances(reference, prediction, ignored)
    # 1 is found exactly; 2 and 9 lie in ignored voxels; 8 does so by half only and is a false alarm
    assert (score.reference, score.prediction, score.matched, score.iou_sum) == (1, 2, 1, 1.0)
    without = score_instances(reference, prediction)
    assert (without.reference, without.prediction, without.matched) == (2, 3, 1)
    assert without.iou_sum == 3 / 5


# -------------------------------------------------------------------------------------------------- several labels


LABELS = {"cell": (1,), "vessel": (2,), "tissue": (3, 4)}


def test_things_and_stuff_of_one_scene() -> None:
    ids = line(1, 1, 2, 2, 3, 3, 0, 0, 0, 0)
    values = line(1, 1, 1, 1, 2, 2, 3, 3, 4, 0)
    found_ids = line(7, 7, 7, 7, 5, 5, 0, 0, 0, 0)  # two cells as one
    found_values = line(1, 1, 1, 1, 2, 2, 4, 4, 4, 3)
    scores = score_scene(Scene(ids, values), Scene(found_ids, found_values), LABELS, ("cell", "vessel"))
    assert scores["cell"].panoptic_quality == 0
    assert scores["vessel"].panoptic_quality == 1
    assert scores["tissue"].panoptic_quality == pytest.approx(3 / 4)  # one object: its IoU
    told = panoptic_score(scores, ("cell", "vessel"))
    assert told.things == pytest.approx(0.5)
    assert told.stuff == pytest.approx(0.75)
    assert told.all == pytest.approx(1.75 / 3)


def test_an_object_of_another_label_is_no_match() -> None:
    ids = line(1, 1, 0)
    scores = score_scene(Scene(ids, line(1, 1, 0)), Scene(ids, line(2, 2, 0)), LABELS, ("cell", "vessel"))
    assert (scores["cell"].panoptic_quality, scores["vessel"].panoptic_quality) == (0, 0)
    told = panoptic_score(scores, ("cell", "vessel"))
    assert (told.things, told.stuff, told.all) == (0, None, 0)


# --------------------------------------------------------------------------------------------------- several cases


def test_cases_are_pooled_and_averaged() -> None:
    perfect = score_instances(line(1, 1, 0), line(1, 1, 0))
    poor = score_instances(line(1, 1, 2, 2, 3, 3), line(1, 1, 0, 0, 0, 0))
    empty = score_instances(line(0), line(0))
    together = pooled([perfect, poor, empty])
    assert (together.reference, together.prediction, together.matched) == (4, 2, 2)
    assert together.panoptic_quality == pytest.approx(2 / 3)
    assert at(together, 0.5).average_precision == pytest.approx(2 / 4)
    mean = means([perfect, poor, empty])
    assert mean.cases == 2
    assert mean.panoptic_quality == pytest.approx((1 + 1 / 2) / 2)
    assert mean.average_precision[0] == pytest.approx((1 + 1 / 3) / 2)
    assert mean.f1[0] == pytest.approx((1 + 1 / 2) / 2)
    assert mean.segmentation_quality == 1
    assert means([empty]).panoptic_quality is None


# ------------------------------------------------------------------------------------------------------ properties


def brute_force(reference: NDArray[np.int64], prediction: NDArray[np.int64], least: float, above: bool) -> list[float]:
    """IoUs of as many pairs as possible, by an optimal assignment over all masks."""
    truths = [reference == number for number in np.unique(reference[reference > 0])]
    founds = [prediction == number for number in np.unique(prediction[prediction > 0])]
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in founds] for a in truths]).reshape(len(truths), len(founds))
    good = iou > least if above else iou >= least
    rows, columns = linear_sum_assignment(-(good + iou / 1000))
    return [float(iou[row, column]) for row, column in zip(rows, columns, strict=True) if good[row, column]]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_pairs_are_those_of_an_optimal_assignment(seed: int) -> None:
    reference, prediction = two_maps(seed)
    score = score_instances(reference, prediction)
    pairs = brute_force(reference, prediction, 0.5, above=True)
    assert score.matched == len(pairs)
    assert score.iou_sum == pytest.approx(sum(pairs))
    for count in score.counts:
        assert count.true_positives == len(brute_force(reference, prediction, count.iou, above=False))
        assert count.true_positives + count.false_negatives == score.reference
        assert count.true_positives + count.false_positives == score.prediction


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_swapping_swaps_and_names_do_not_matter(seed: int) -> None:
    reference, prediction = two_maps(seed)
    score, swapped = score_instances(reference, prediction), score_instances(prediction, reference)
    assert score.panoptic_quality == swapped.panoptic_quality
    assert (score.reference, score.prediction) == (swapped.prediction, swapped.reference)
    named = np.where(prediction > 0, 1000 - prediction, 0).astype(np.uint32)
    assert score_instances(reference, named) == score
    same = score_instances(reference, reference)
    assert same.panoptic_quality in (1.0, None)
    assert all(count.average_precision in (1.0, None) for count in same.counts)


def test_overlaps_are_counted_over_voxels() -> None:
    found = overlaps(line(4, 4, 9, 9, 0), line(0, 2, 2, 2, 2))
    assert found.reference_sizes.tolist() == [2, 2]
    assert found.prediction_sizes.tolist() == [4]
    assert found.pairs.tolist() == [[0, 0], [1, 0]]
    assert found.iou.tolist() == [1 / 5, 2 / 4]
