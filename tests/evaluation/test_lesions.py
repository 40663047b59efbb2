from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoseg.evaluation.lesions import bin_names, match_lesions, pooled
from autoseg.evaluation.metrics import score_case
from autoseg.evaluation.summary import summarize
from autoseg.records import Labels

LABELS = Labels(names={"background": 0, "lesion": 1})


def boxes(*places: tuple[int, int], size: int = 40) -> NDArray[np.bool_]:
    """A row of cubes: (start, edge) along the last axis."""
    mask = np.zeros((12, 12, size), np.bool_)
    for start, edge in places:
        mask[:edge, :edge, start : start + edge] = True
    return mask


def test_any_overlap_finds_a_lesion_and_each_counts_once() -> None:
    reference = boxes((0, 3), (10, 3), (20, 3))
    mask = boxes((2, 3), (20, 2), (30, 2))
    score = match_lesions(reference, mask, voxel_ml=0.001)
    assert (score.true_positives, score.false_negatives, score.false_positives) == (2, 1, 1)
    assert score.f1 == pytest.approx(4 / 6)
    assert score.sensitivity == pytest.approx(2 / 3)
    assert score.precision == pytest.approx(2 / 3)


def test_a_component_that_covers_two_lesions_finds_one_of_them() -> None:
    reference, mask = boxes((0, 3), (5, 4)), boxes((0, 9))
    score = match_lesions(reference, mask, voxel_ml=1.0)
    assert (score.true_positives, score.false_negatives, score.false_positives) == (1, 1, 0)


def test_with_a_threshold_a_poor_overlap_is_a_miss_and_a_false_alarm() -> None:
    reference, mask = boxes((0, 4)), boxes((3, 4))  # IoU 16 of 112
    assert match_lesions(reference, mask, 1.0, threshold=0.1).true_positives == 1
    missed = match_lesions(reference, mask, 1.0, threshold=0.2)
    assert (missed.true_positives, missed.false_negatives, missed.false_positives) == (0, 1, 1)


def test_sizes_are_counted_apart() -> None:
    reference = boxes((0, 2), (10, 6), (20, 11))  # 8, 216 and 1331 voxels
    mask = boxes((10, 6), (35, 3))
    score = match_lesions(reference, mask, voxel_ml=0.01)
    assert [(b.found, b.missed, b.false_alarms) for b in score.by_size] == [
        (0, 1, 0),
        (0, 0, 1),
        (1, 0, 0),
        (0, 1, 0),
    ]
    assert bin_names() == ("below 0.1 ml", "0.1 to 1 ml", "1 to 10 ml", "10 ml and more")


def test_nothing_in_either_has_no_score() -> None:
    empty = boxes()
    score = match_lesions(empty, empty, 1.0)
    assert (score.f1, score.sensitivity, score.precision) == (None, None, None)


@given(seed=st.integers(0, 10_000), share=st.floats(0.02, 0.3), threshold=st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=30, deadline=None)
def test_counts_add_up_and_swapping_swaps_them(seed: int, share: float, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.random((6, 8, 8)) < share, rng.random((6, 8, 8)) < share
    score, swapped = match_lesions(one, other, 1.0, threshold), match_lesions(other, one, 1.0, threshold)
    assert score.true_positives == swapped.true_positives
    assert score.false_positives == swapped.false_negatives
    same = match_lesions(one, one, 1.0, 1.0)
    assert same.f1 in (1.0, None)
    assert same.true_positives == score.true_positives + score.false_negatives


def test_the_summary_pools_lesions_over_cases() -> None:
    pairs = [(boxes((0, 3), (10, 3)), boxes((0, 3))), (boxes((0, 3)), boxes((0, 3), (20, 2)))]
    scores = [
        score_case(
            str(number), reference.astype(np.uint8), mask.astype(np.uint8), (1.0, 1.0, 1.0), LABELS, 1.0, None, 0.0
        )
        for number, (reference, mask) in enumerate(pairs)
    ]
    summary = summarize(scores, 1.0, lesion_iou=0.0)
    lesions = summary.labels["lesion"].lesions
    assert lesions is not None
    assert (lesions.true_positives, lesions.false_negatives, lesions.false_positives) == (2, 1, 1)
    assert lesions == pooled([score.labels["lesion"].lesions for score in scores])  # type: ignore[misc]
    plain = score_case("0", np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3, 3), np.uint8), (1, 1, 1), LABELS, 1.0)
    assert plain.labels["lesion"].lesions is None


def test_two_voxels_with_one_between_are_two_lesions() -> None:
    """cc3d 4.1.1 itself gives up on such a box."""
    mask = np.array([[[True, False, True]]])
    assert match_lesions(mask, mask, 0.001).true_positives == 2
