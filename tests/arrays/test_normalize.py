from __future__ import annotations

import numpy as np
import pytest

from autoseg.arrays.normalize import NORMALIZATIONS, scheme_for_channel
from autoseg.errors import DatasetError
from autoseg.records import IntensityStatistics

STATISTICS = IntensityStatistics(
    mean=40.0, median=35.0, std=20.0, min=-900.0, max=900.0, percentile_00_5=-60.0, percentile_99_5=160.0
)


@pytest.fixture
def channel() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 250, size=(4, 5, 6)).astype(np.float32)


@pytest.mark.parametrize("scheme", NORMALIZATIONS)
@pytest.mark.parametrize("masked", [False, True])
def test_every_scheme_gives_a_new_finite_float32_array(scheme, masked, channel):
    before = channel.copy()
    inside = channel > 100 if masked else None
    normalized = NORMALIZATIONS[scheme](channel, STATISTICS, inside)
    assert normalized.dtype == np.float32
    assert normalized.shape == channel.shape
    assert np.isfinite(normalized).all()
    assert not np.shares_memory(normalized, channel)
    np.testing.assert_array_equal(channel, before)


@pytest.mark.parametrize("scheme", ["ZScoreNormalization", "RescaleTo01Normalization", "NoNormalization"])
def test_a_constant_channel_stays_finite(scheme):
    normalized = NORMALIZATIONS[scheme](np.full((2, 3, 4), 7, dtype=np.float32), STATISTICS, None)
    assert np.isfinite(normalized).all()
    assert np.ptp(normalized) == 0


def test_ct_clips_to_percentiles_and_standardizes():
    channel = np.array([[[-1000, -60, 40, 160, 3000]]], dtype=np.float32)
    normalized = NORMALIZATIONS["CTNormalization"](channel, STATISTICS, None)
    np.testing.assert_allclose(normalized, [[[-5, -5, 0, 6, 6]]])


def test_z_score_has_mean_zero_and_deviation_one(channel):
    normalized = NORMALIZATIONS["ZScoreNormalization"](channel + 1e5, STATISTICS, None)
    assert abs(normalized.mean(dtype=np.float64)) < 1e-3
    assert normalized.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)


def test_z_score_with_a_mask_leaves_the_rest(channel):
    inside = channel > 100
    normalized = NORMALIZATIONS["ZScoreNormalization"](channel, STATISTICS, inside)
    assert normalized[inside].std(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(normalized[~inside], channel[~inside])
    nothing = np.zeros_like(inside)
    np.testing.assert_array_equal(NORMALIZATIONS["ZScoreNormalization"](channel, STATISTICS, nothing), channel)


def test_rescale_and_rgb():
    channel = np.array([[[0, 51, 255]]], dtype=np.float32)
    np.testing.assert_allclose(NORMALIZATIONS["RGBTo01Normalization"](channel, STATISTICS, None), [[[0, 0.2, 1]]])
    np.testing.assert_allclose(
        NORMALIZATIONS["RescaleTo01Normalization"](channel + 10, STATISTICS, None), [[[0, 0.2, 1]]], rtol=1e-6
    )


@pytest.mark.parametrize("wrong", [-1, 256])
def test_rgb_refuses_other_ranges(wrong):
    with pytest.raises(DatasetError, match=r"0\.\.255"):
        NORMALIZATIONS["RGBTo01Normalization"](np.array([[[0, wrong]]], dtype=np.float32), STATISTICS, None)


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("CT", "CTNormalization"),
        ("ct", "CTNormalization"),
        ("noNorm", "NoNormalization"),
        ("rescale_to_0_1", "RescaleTo01Normalization"),
        ("RGB_to_0_1", "RGBTo01Normalization"),
        ("zscore", "ZScoreNormalization"),
        ("T2w", "ZScoreNormalization"),
        ("CTA", "ZScoreNormalization"),
    ],
)
def test_scheme_of_a_channel_name(name, scheme):
    assert scheme_for_channel(name) == scheme
