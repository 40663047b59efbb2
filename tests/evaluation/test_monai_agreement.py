"""Distances between surfaces are those that MONAI's metrics give."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from autoseg.evaluation.surfaces import hd95, mean_distance, normalized_surface_dice, surface_distances

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
