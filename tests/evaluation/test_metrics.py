from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.errors import DatasetError
from autoseg.evaluation.metrics import overlap, score_case, voxel_volume_ml
from autoseg.records import Labels

PLAIN = Labels(names={"background": 0, "liver": 1, "lesion": 5})
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2))
SPACING = (2.0, 1.0, 0.5)


def random_labels(seed: int, values: list[int], shape: tuple[int, ...] = (6, 9, 8)) -> np.ndarray:
    return np.random.default_rng(seed).choice(values, size=shape).astype(np.uint8)


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_overlap_counts_voxels(seed: int) -> None:
    reference, prediction = random_labels(seed, [0, 1, 5]), random_labels(seed + 1, [0, 1, 5])
    score = score_case("a", reference, prediction, SPACING, PLAIN, 1.0)
    for name, value in (("liver", 1), ("lesion", 5)):
        truth, found = reference == value, prediction == value
        entry = score.labels[name]
        assert entry.true_positives == (truth & found).sum()
        assert entry.false_positives == (~truth & found).sum()
        assert entry.false_negatives == (truth & ~found).sum()
        assert entry.dice == pytest.approx(2 * (truth & found).sum() / (truth.sum() + found.sum()))
        assert entry.iou == pytest.approx((truth & found).sum() / (truth | found).sum())
        assert entry.volume_reference_ml == pytest.approx(truth.sum() * 1e-3)
        assert entry.volume_prediction_ml == pytest.approx(found.sum() * 1e-3)
        error = int(found.sum()) - int(truth.sum())
        assert entry.volume_error_ml == pytest.approx(error * 1e-3)
        assert entry.relative_volume_error == pytest.approx(error / truth.sum())


def test_a_perfect_mask() -> None:
    labels = random_labels(0, [0, 1, 5])
    for entry in score_case("a", labels, labels.astype(np.int64), SPACING, PLAIN, 1.0).labels.values():
        assert (entry.dice, entry.iou, entry.nsd, entry.hd95_mm, entry.assd_mm) == (1.0, 1.0, 1.0, 0.0, 0.0)
        assert (entry.volume_error_ml, entry.relative_volume_error) == (0.0, 0.0)


def test_what_is_empty_has_no_score_or_zero() -> None:
    reference, prediction = np.zeros((4, 5, 6), np.uint8), np.zeros((4, 5, 6), np.uint8)
    reference[1, 1, 1] = 1
    prediction[2, 2, 2] = 5
    labels = score_case("a", reference, prediction, SPACING, PLAIN, 1.0).labels
    for entry in labels.values():  # one missed, one invented
        assert (entry.dice, entry.iou, entry.nsd, entry.hd95_mm, entry.assd_mm) == (0.0, 0.0, 0.0, None, None)
    missed, invented = labels["liver"], labels["lesion"]
    assert (missed.volume_error_ml, missed.relative_volume_error) == (-0.001, -1.0)
    assert (invented.volume_error_ml, invented.relative_volume_error) == (0.001, None)
    nothing = np.zeros_like(reference)
    for entry in score_case("a", nothing, nothing, SPACING, PLAIN, 1.0).labels.values():
        assert (entry.dice, entry.iou, entry.nsd, entry.hd95_mm, entry.assd_mm) == (None,) * 5
        assert (entry.volume_error_ml, entry.relative_volume_error) == (0.0, None)


def test_labels_side_by_side_have_the_same_scores() -> None:
    reference, prediction = random_labels(3, [0, 1, 5]), random_labels(4, [0, 1, 5])
    alone = score_case("a", reference, prediction, SPACING, PLAIN, 1.0, lesion_iou=0.1)
    assert score_case("a", reference, prediction, SPACING, PLAIN, 1.0, lesion_iou=0.1, threads=3) == alone
    strange = np.full_like(reference, 9)
    with pytest.raises(DatasetError, match="case7, mask"):
        score_case("case7", reference, strange, SPACING, PLAIN, 1.0, threads=3)


def test_regions_are_unions_of_values() -> None:
    reference, prediction = random_labels(3, [0, 1, 2]), random_labels(4, [0, 1, 2])
    score = score_case("a", reference, prediction, SPACING, REGIONS, 1.0)
    expected = overlap(reference > 0, prediction > 0)
    assert score.labels["whole"].dice == expected.dice
    assert score.labels["core"].dice == overlap(reference == 2, prediction == 2).dice


def test_ignored_voxels_count_for_nothing() -> None:
    labels = Labels(names={"background": 0, "liver": 1}, ignore=9)
    reference, prediction = np.zeros((3, 6, 6), np.uint8), np.zeros((3, 6, 6), np.uint8)
    reference[:, :3], reference[:, 3:5] = 1, 9
    prediction[:, :5] = 1
    entry = score_case("a", reference, prediction, SPACING, labels, 1.0).labels["liver"]
    assert (entry.dice, entry.nsd, entry.hd95_mm) == (1.0, 1.0, 0.0)


def test_large_values_and_a_negative_ignore_label_are_found() -> None:
    labels = Labels(names={"background": 0, "a": 7, "b": 70_000}, ignore=-3)
    reference = np.array([[[0, 7, 70_000, 7, -3]]])
    prediction = np.array([[[0, 7, 70_000, 0, 7]]])
    scores = score_case("a", reference, prediction, SPACING, labels, 1.0).labels
    assert scores["b"].dice == 1.0
    assert (scores["a"].true_positives, scores["a"].false_positives, scores["a"].false_negatives) == (1, 0, 1)


def test_mistakes_are_named() -> None:
    good = random_labels(0, [0, 1, 5])
    with pytest.raises(DatasetError, match="one grid"):
        score_case("case7", good, good[:-1], SPACING, PLAIN, 1.0)
    strange = good.copy()
    strange[0, 0, :2] = 7
    with pytest.raises(DatasetError, match=r"case7, mask: .*7 \(2 voxels\)"):
        score_case("case7", good, strange, SPACING, PLAIN, 1.0)
    with pytest.raises(DatasetError, match="whole numbers"):
        score_case("case7", good + np.float32(0.5), good, SPACING, PLAIN, 1.0)


def test_a_2d_image_is_judged_in_its_plane() -> None:
    reference, prediction = np.zeros((1, 30, 30), np.uint8), np.zeros((1, 30, 30), np.uint8)
    reference[0, 5:15, 5:15] = 1
    prediction[0, 5:15, 9:15] = 1
    spacing = (999.0, 1.0, 1.0)
    entry = score_case("a", reference, prediction, spacing, PLAIN, 1.0).labels["liver"]
    assert entry.hd95_mm == 4.0
    assert entry.nsd is not None
    assert entry.nsd < 0.9
    assert entry.volume_reference_ml == pytest.approx(0.1)
    assert voxel_volume_ml((3.0, 1.0, 1.0)) == pytest.approx(0.003)


def test_evaluation_needs_no_torch() -> None:
    code = "import sys, autoseg.evaluation.metrics, autoseg.evaluation.summary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_labels_that_were_not_drawn_have_no_score() -> None:
    reference, prediction = random_labels(3, [0, 1]), random_labels(4, [0, 1, 5])
    score = score_case("a", reference, prediction, SPACING, PLAIN, 1.0, ("liver",))
    whole = score_case("a", reference, prediction, SPACING, PLAIN, 1.0)
    assert score.labels == {"liver": whole.labels["liver"]}
    regions = score_case("a", random_labels(3, [0, 1]), random_labels(4, [0, 1, 2]), SPACING, REGIONS, 1.0, ("whole",))
    assert list(regions.labels) == ["whole"]
