"""What is worth labelling: much loss, like many others, unlike what is labelled or chosen."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from autoseg.evaluation.worth_labelling import (
    comparable,
    distances,
    expected_losses,
    foremost,
    likeness,
    nearest_distances,
    picked_greedily,
    reach_of,
    usual_sizes,
)


def picked(losses: list[float], places: list[float], covered: list[float] | None = None, count: int = 3) -> list[int]:
    """Candidates on a line, whose likeness ends at a distance of 1."""
    rows = np.array(places, np.float32)[:, None]
    alike = likeness(distances(rows, rows), 1.0)
    near = np.zeros(len(losses), np.float32) if covered is None else np.array(covered, np.float32)
    return [pick.index for pick in picked_greedily(np.array(losses), alike, near, count)]


def test_of_cases_that_are_unlike_one_another_the_largest_loss_comes_first() -> None:
    assert picked([0.1, 0.3, 0.2], [0, 10, 20]) == [1, 2, 0]


def test_a_twin_of_one_that_is_chosen_is_worth_nothing() -> None:
    assert picked([0.3, 0.3, 0.1], [0, 0, 20]) == [0, 2, 1]
    alike = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], np.float32)
    gains = [pick.gain for pick in picked_greedily(np.array([0.3, 0.3, 0.4]), alike, np.zeros(3, np.float32), 3)]
    assert gains == pytest.approx([0.6, 0.4, 0.0])


def test_one_in_the_middle_of_many_is_worth_more_than_a_worse_one_alone() -> None:
    assert picked([0.1, 0.1, 0.1, 0.15], [-0.2, 0, 0.2, 20])[:2] == [1, 3]


def test_what_is_like_a_labelled_one_comes_later() -> None:
    assert picked([0.3, 0.2], [0, 10], covered=[0.9, 0.0]) == [1, 0]


def test_no_more_than_there_are_and_each_once() -> None:
    assert sorted(picked([0.0, 0.0, 0.0], [0, 0, 0], count=9)) == [0, 1, 2]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 3))
def test_greedy_gains_fall_and_come_near_the_best_choice(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    rows, losses = rng.normal(size=(7, 2)).astype(np.float32), rng.random(7)
    between = distances(rows, rows)
    alike = likeness(between, reach_of(between))
    picks = picked_greedily(losses, alike, np.zeros(7, np.float32), 7)
    gains = [pick.gain for pick in picks]
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(gains))
    assert sum(gains) == pytest.approx(1.0, abs=1e-5)
    best = max(float(losses @ alike[:, list(some)].max(axis=1)) for some in combinations(range(7), count))
    assert sum(gains[:count]) >= (1 - 1 / np.e) * best / losses.sum() - 1e-6


def test_distances_are_euclidean_however_many_rows() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(1100, 5)).astype(np.float32), rng.normal(size=(7, 5)).astype(np.float32)
    np.testing.assert_allclose(distances(one, other), cdist(one, other), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(nearest_distances(other, one), cdist(other, one).min(axis=1), rtol=1e-4)
    assert nearest_distances(other, one[:0]).tolist() == [np.inf] * 7


def test_features_are_compared_in_units_of_their_spread_and_constant_ones_not_at_all() -> None:
    features = np.array([[0, 100, 5], [1, 300, 5]], np.float32)
    own, others = comparable(features, np.array([[0.5, 200, 5]], np.float32))
    assert own.shape == (2, 2)
    np.testing.assert_allclose(own[:, 0], own[:, 1], rtol=1e-5)
    np.testing.assert_allclose(others, 0, atol=1e-5)


def test_likeness_ends_at_the_reach() -> None:
    assert likeness(np.array([[0.0, 1.0, 2.0, 9.0]], np.float32), 2.0).tolist() == [[1.0, 0.5, 0.0, 0.0]]
    assert likeness(np.array([[0.0, 1.0]], np.float32), 0.0).tolist() == [[1.0, 0.0]]
    assert reach_of(np.zeros((1, 1), np.float32)) == 0.0


def test_a_loss_is_one_less_the_dice_that_probabilities_lead_to_expect() -> None:
    voxels = np.array([[100.0, 0.0], [100.0, 0.0]])
    inside = np.array([[100.0, 0.0], [60.0, 0.0]])
    total = np.array([[100.0, 0.0], [80.0, 0.0]])
    sure, unsure = expected_losses(voxels, inside, total)
    assert sure == pytest.approx(0.0)
    assert unsure == pytest.approx(1 - (2 * 60 + 10) / (100 + 80 + 10))


def test_next_to_nothing_of_a_label_is_no_loss_but_half_of_it_is() -> None:
    voxels = np.array([[100.0], [100.0], [0.0], [0.0]])
    inside = np.array([[100.0], [100.0], [0.0], [0.0]])
    total = np.array([[100.0], [100.0], [0.2], [50.0]])
    assert usual_sizes(voxels).tolist() == [100.0]
    losses = expected_losses(voxels, inside, total)
    assert losses[2] < 0.05
    assert losses[3] > 0.8


def test_where_nothing_is_found_all_are_worth_the_same() -> None:
    nothing = np.zeros((3, 2))
    assert expected_losses(nothing, nothing, nothing + 0.1).tolist() == [1.0, 1.0, 1.0]


def test_the_foremost_stay_in_their_order() -> None:
    assert foremost(np.array([0.1, 0.5, 0.2, 0.4]), 3).tolist() == [1, 2, 3]
