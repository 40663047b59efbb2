"""All metrics are those that MONAI's give."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label

from autoseg.evaluation.instances import score_instances
from autoseg.evaluation.lesions import match_lesions
from autoseg.evaluation.metrics import score_case
from autoseg.evaluation.surfaces import hd95, mean_distance, normalized_surface_dice, surface_distances
from autoseg.records import Labels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that it imports
    metrics = pytest.importorskip("monai.metrics", reason="MONAI is not installed")


def two_masks(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    first = gaussian_filter(generator.normal(size=shape), 4)
    second = first + 0.4 * gaussian_filter(generator.normal(size=shape), 3)
    return first > 0.01, second > 0.01


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((30, 40, 50), (1.0, 1.0, 1.0)), ((16, 50, 40), (3.0, 0.8, 0.8)), ((30, 30, 30), (1.0, 2.0, 0.5))],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_surface_metrics_agree(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    reference, mask = two_masks(shape, seed=len(shape))
    distances = surface_distances(reference, mask, spacing)
    assert distances is not None
    pair = [torch.from_numpy(array)[None, None] for array in (mask, reference)]
    options = {"include_background": True, "spacing": list(spacing)}
    theirs = metrics.compute_hausdorff_distance(*pair, percentile=95, **options)
    assert hd95(distances) == pytest.approx(float(theirs), rel=1e-5)
    theirs = metrics.compute_surface_dice(*pair, class_thresholds=[1.0], **options)
    assert normalized_surface_dice(distances, 1.0) == pytest.approx(float(theirs), abs=1e-6)
    theirs = metrics.compute_average_surface_distance(*pair, symmetric=True, **options)
    assert mean_distance(distances) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_every_score_of_a_case_agrees() -> None:
    names = {"background": 0, "a": 1, "b": 2, "c": 3, "nowhere": 9}
    generator, spacing, shape = np.random.default_rng(7), (2.5, 0.7, 0.9), (24, 45, 40)
    field = gaussian_filter(generator.normal(size=shape), 3)
    other = field + 0.3 * gaussian_filter(generator.normal(size=shape), 2)
    reference, mask = (np.digitize(values, [0.0, 0.03, 0.06]).astype(np.uint8) for values in (field, other))
    mask[:3] = 0
    scores = score_case("case", reference, mask, spacing, Labels(names=names), 2.0).labels
    found, truth = (
        torch.from_numpy(np.stack([array == value for value in (1, 2, 3)]))[None] for array in (mask, reference)
    )
    options = {"include_background": True, "spacing": list(spacing)}
    theirs = {
        "dice": metrics.compute_dice(found, truth, include_background=True),
        "iou": metrics.compute_iou(found, truth, include_background=True),
        "nsd": metrics.compute_surface_dice(found, truth, class_thresholds=[2.0] * 3, **options),
        "hd95_mm": metrics.compute_hausdorff_distance(found, truth, percentile=95, **options),
        "assd_mm": metrics.compute_average_surface_distance(found, truth, symmetric=True, **options),
    }
    for name, figures in theirs.items():
        own = [getattr(scores[label_name], name) for label_name in "abc"]
        assert own == pytest.approx(figures.flatten().tolist(), rel=1e-5), name
    volumes = found.sum(dim=(0, 2, 3, 4)) - truth.sum(dim=(0, 2, 3, 4))
    own = [scores[label_name].volume_error_ml for label_name in "abc"]
    assert own == pytest.approx((volumes * np.prod(spacing) / 1000).tolist())
    assert scores["nowhere"].dice is None


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(4))
def test_lesions_are_matched_as_in_panoptic_quality(seed: int) -> None:
    """From an IoU above a half on, matching is the same whatever the method, and F1 is the recognition quality."""
    generator = np.random.default_rng(seed)
    field = gaussian_filter(generator.normal(size=(30, 30, 30)), 1.5)
    reference, mask = field > 0.15, field + 0.2 * gaussian_filter(generator.normal(size=field.shape), 1) > 0.16
    score = match_lesions(reference, mask, voxel_ml=1.0, threshold=0.51)
    pair = [torch.from_numpy(numbered(array)) for array in (mask, reference)]
    quality = metrics.compute_panoptic_quality(*pair, metric_name="rq", match_iou_threshold=0.51)
    assert score.true_positives > 0
    assert score.false_positives + score.false_negatives > 0
    assert score.f1 == pytest.approx(float(quality), abs=1e-5)


def numbered(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    components: NDArray[np.int32] = label(mask, structure=np.ones((3, 3, 3)))[0]
    return components


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(4))
def test_panoptic_quality_agrees(seed: int) -> None:
    generator = np.random.default_rng(seed)
    field = gaussian_filter(generator.normal(size=(30, 30, 30)), 1.5)
    other = field + 0.2 * gaussian_filter(generator.normal(size=field.shape), 1)
    reference, prediction = numbered(field > 0.15), numbered(other > 0.16)
    score = score_instances(reference, prediction)
    pair = [torch.from_numpy(array) for array in (prediction, reference)]
    assert score.matched > 0
    own = {"pq": score.panoptic_quality, "sq": score.segmentation_quality, "rq": score.recognition_quality}
    for name, quality in own.items():
        assert quality == pytest.approx(float(metrics.compute_panoptic_quality(*pair, metric_name=name)), abs=1e-5)
