from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import ndimage

from autoseg.evaluation.calibration import (
    BINS,
    MOST_NUMBERS,
    NEAR_VOXELS,
    Sample,
    best_temperature,
    calibrate,
    near_foreground,
    reliability,
    sampled_places,
    voxels_per_case,
)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


def softmax_sample(seed: int, factor: float, count: int = 4000) -> Sample:
    """Labels drawn from a softmax, and what a network says whose scores are that many times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 3))
    drawn = (softmax(logits).cumsum(axis=1) < rng.random((count, 1))).sum(axis=1).clip(max=2)
    return Sample(softmax(factor * logits), drawn[:, None] == np.arange(3))


def region_sample(seed: int, factors: tuple[float, ...], count: int = 4000) -> Sample:
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 2, (count, len(factors)))
    inside = rng.random(odds.shape) < 1 / (1 + np.exp(-odds))
    return Sample((1 / (1 + np.exp(-odds * np.array(factors)))).astype(np.float32), inside)


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_of_a_softmax_is_found(factor: float) -> None:
    found = calibrate([softmax_sample(seed, factor) for seed in range(6)], None)
    assert found is not None
    assert (found.fitted_on, found.reported_on, found.voxels) == (3, 3, 12000)
    (entry,) = found.temperatures
    assert entry.value == pytest.approx(factor, rel=0.1)
    assert entry.after.ece < 0.02
    if factor != 1.0:
        assert entry.before.ece > 3 * entry.after.ece
        assert entry.after.nll < entry.before.nll


def test_each_region_has_a_temperature_of_its_own() -> None:
    found = calibrate([region_sample(seed, (2.0, 0.5)) for seed in range(6)], ["whole", "core"])
    assert found is not None
    assert [entry.name for entry in found.temperatures] == ["whole", "core"]
    assert [entry.value for entry in found.temperatures] == pytest.approx([2.0, 0.5], rel=0.1)


def test_what_does_not_help_other_cases_is_left_at_one() -> None:
    samples = [softmax_sample(seed, 3.0 if seed % 2 == 0 else 0.5) for seed in range(6)]
    found = calibrate(samples, None)
    assert found is not None
    assert found.temperatures[0].value == 1.0
    assert found.temperatures[0].before == found.temperatures[0].after


def test_few_cases_tell_nothing() -> None:
    empty = Sample(np.zeros((0, 3), np.float32), np.zeros((0, 3), bool))
    assert calibrate([softmax_sample(0, 2.0), softmax_sample(1, 2.0), softmax_sample(2, 2.0), empty], None) is None
    assert calibrate([], None) is None


def test_certain_voxels_have_a_likelihood() -> None:
    """Probabilities of exactly 0 and 1, as float32 gives them, and some of them wrong."""
    truth = np.eye(2, dtype=bool)[np.arange(400) % 2]
    wrong = np.arange(400) % 40 == 0
    sure = np.where(wrong[:, None], ~truth, truth).astype(np.float32)
    found = calibrate([Sample(sure, truth)] * 4, None)
    assert found is not None
    assert np.isfinite(found.temperatures[0].after.nll)
    assert found.temperatures[0].after.bins[0].confidence == pytest.approx(0.975, abs=0.02)


def test_the_error_is_the_mean_distance_of_confidence_and_accuracy() -> None:
    confidence = np.repeat([0.55, 0.95], 30)
    right = np.concatenate([np.arange(30) % 2 == 0, np.ones(30, bool)])
    found = reliability(confidence, right, 0.0)
    assert len(found.bins) == BINS
    assert sum(entry.voxels for entry in found.bins) == 60
    assert max(entry.voxels for entry in found.bins) - min(entry.voxels for entry in found.bins) <= 1
    assert [entry.confidence for entry in found.bins] == sorted(entry.confidence for entry in found.bins)
    assert found.ece == pytest.approx((30 * 0.05 + 30 * 0.05) / 60, abs=0.01)


def test_golden_section_finds_the_minimum() -> None:
    assert best_temperature(lambda value: (np.log(value) - np.log(3.3)) ** 2) == pytest.approx(3.3, rel=1e-3)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_near_is_within_three_voxels_of_either(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    rare = st.sampled_from([False] * 20 + [True])
    reference, mask = (data.draw(arrays.arrays(np.bool_, shape, elements=rare)) for _ in range(2))
    either = reference | mask
    expected = ndimage.distance_transform_edt(~either) <= NEAR_VOXELS if either.any() else either
    np.testing.assert_array_equal(near_foreground(reference, mask), expected)


def test_places_are_drawn_within() -> None:
    where = np.zeros((4, 5, 6), bool)
    where[1:3, 2:5, 1:4] = True
    every = sampled_places(where, 100, seed=0)
    np.testing.assert_array_equal(every, np.argwhere(where))
    some = sampled_places(where, 7, seed=0)
    assert len({tuple(place) for place in some}) == 7
    assert where[tuple(some.T)].all()
    assert len(sampled_places(np.zeros((2, 2, 2), bool), 5, seed=0)) == 0


def test_samples_fit_into_memory() -> None:
    for cases, outputs in ((5, 2), (60, 3), (60, 117), (10, 500)):
        assert voxels_per_case(cases, outputs) * cases * outputs <= MOST_NUMBERS
