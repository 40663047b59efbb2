from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autoseg.fingerprint.intensities import LARGEST_SIZE, pooled_statistics, weighted_values


@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e4, 1e4, width=32)))
@settings(max_examples=100, deadline=None)
def test_one_case_has_its_own_statistics(samples: np.ndarray) -> None:
    statistics = pooled_statistics([weighted_values(samples)])
    wide = samples.astype(np.float64)
    assert statistics.mean == pytest.approx(wide.mean(), abs=1e-6)
    assert statistics.std == pytest.approx(wide.std(), abs=1e-4)
    assert (statistics.min, statistics.max) == (wide.min(), wide.max())
    assert statistics.median == pytest.approx(np.median(wide), abs=1e-3)
    # a border between two samples: nothing between them is wrong
    for share, found in ((0.5, statistics.percentile_00_5), (99.5, statistics.percentile_99_5)):
        low, high = (np.percentile(wide, share, method=method) for method in ("lower", "higher"))
        ordered = np.sort(wide)
        assert ordered[max(np.searchsorted(ordered, low) - 1, 0)] <= found
        assert found <= ordered[min(np.searchsorted(ordered, high, side="right"), len(ordered) - 1)]


@given(st.integers(0, 10))
@settings(max_examples=10, deadline=None)
def test_counting_equals_sorting(seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = np.rint(random.normal(-200, 300, 5000)).astype(np.float32)
    counted = weighted_values(samples)
    values, counts = np.unique(samples, return_counts=True)
    assert np.array_equal(counted.values, values)
    assert np.array_equal(counted.counts, counts)


def test_large_distributions_are_compacted_with_exact_moments() -> None:
    samples = np.random.default_rng(0).lognormal(3, 1, 300_000).astype(np.float32)
    kept = weighted_values(samples)
    assert len(kept.values) <= LARGEST_SIZE
    assert kept.counts.sum() == samples.size
    assert np.all(np.diff(kept.values) >= 0)
    statistics = pooled_statistics([kept])
    wide = samples.astype(np.float64)
    scale = wide.std()
    assert statistics.mean == pytest.approx(wide.mean(), abs=1e-9 * scale)
    assert statistics.std == pytest.approx(scale, rel=1e-9)
    assert (statistics.min, statistics.max) == (wide.min(), wide.max())
    for share, found in (
        *((0.5, statistics.percentile_00_5), (50, statistics.median), (99.5, statistics.percentile_99_5)),
    ):
        assert found == pytest.approx(np.percentile(wide, share), abs=1e-2 * scale)


def test_a_frequent_value_survives_compaction() -> None:
    random = np.random.default_rng(1)
    samples = np.concatenate([np.full(200_000, -1024.5), random.normal(0, 100, 100_000)]).astype(np.float32)
    statistics = pooled_statistics([weighted_values(samples)])
    assert statistics.median == -1024.5


def test_every_case_counts_the_same() -> None:
    small = weighted_values(np.array([0, 10], dtype=np.float32))
    large = weighted_values(np.full(1000, 100, dtype=np.float32))
    statistics = pooled_statistics([small, large])
    assert statistics.mean == 52.5
    assert statistics.std == pytest.approx(np.std([0, 10, 100, 100]))
    assert statistics.median == 55.0
    assert statistics.percentile_00_5 == 0
    assert statistics.percentile_99_5 == 100


def test_no_cases_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="no cases"):
        pooled_statistics([])
