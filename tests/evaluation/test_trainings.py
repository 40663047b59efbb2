"""What chance may do: as much as it did, never less, and the same for what all trainings share."""

from __future__ import annotations

import numpy as np
import pytest

from autoseg.evaluation.paired import ScoreTable
from autoseg.evaluation.trainings import Tried, block_of

KINDS = ("a", "b", "c", "d", "e")


def table(mean: float, hard: np.ndarray | float = 0.0, labels: int = 2, cases: int = 12) -> ScoreTable:
    """Scores (cases, labels) around a mean."""
    return np.full((cases, labels), mean) + hard


def tried(means: np.ndarray, hard: np.ndarray | float = 0.0) -> dict[str, Tried]:
    """Trainings with mean scores (kinds, seeds)."""
    return {
        kind: Tried(40, {seed: table(mean, hard) for seed, mean in enumerate(row)})
        for kind, row in zip(KINDS, means, strict=False)
    }


def test_the_estimate_is_the_difference_of_means() -> None:
    found = block_of(tried(np.array([[0.5, 0.7], [0.6, 0.9]])), ("a", "b"))
    assert found is not None
    assert found.gain("b", "a").value == pytest.approx(0.15)
    assert found.gain("a", "b").value == pytest.approx(-0.15)
    assert (found.kinds, found.seeds, found.held_out) == (("a", "b"), 2, 12)


def test_what_a_seed_does_to_all_kinds_is_no_chance() -> None:
    luck = np.array([0.2, -0.3, 0.1])
    found = block_of(tried(np.array([0.60 + luck, 0.61 + luck, 0.62 + luck])), ("a", "b"))
    assert found is not None
    gain = found.gain("b", "a")
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.01, 0.01, 0.01))


def test_what_cases_share_does_not_widen_a_gain() -> None:
    hard = np.random.default_rng(1).normal(0, 0.2, size=(12, 1))
    found = block_of(tried(np.array([[0.6] * 3, [0.61] * 3]), hard), ("a", "b"))
    assert found is not None
    assert found.draws is not None
    gain = found.gain("b", "a")
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.01, 0.01, 0.01))
    assert np.ptp(found.draws[:, 0]) > 0.1  # the scores themselves vary


def test_chance_is_as_large_as_it_was() -> None:
    """Over many experiments the draws vary as the difference of two means of three does, widened for being few."""
    rng = np.random.default_rng(2)
    variances = []
    for _ in range(60):
        found = block_of(tried(0.6 + 0.01 * rng.normal(size=(5, 3))), ("a", "b"))
        assert found is not None
        assert found.draws is not None
        variances.append((found.draws[:, 0] - found.draws[:, 1]).mean(axis=1).var())
    wider = (2.306 / 1.96) ** 2  # Student's distribution with (5 - 1) (3 - 1) degrees of freedom
    assert np.mean(variances) == pytest.approx(wider * 0.01**2 * 2 / 3, rel=0.15)


def test_intervals_hold_what_is_true_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    held, count = 0, 150
    for _ in range(count):
        found = block_of(tried(0.6 + 0.02 * rng.normal(size=(5, 3))), ("a", "b"))
        assert found is not None
        gain = found.gain("b", "a")
        held += (gain.low or 0.0) <= 0.0 <= (gain.high or 0.0)
    assert held >= 0.9 * count  # of 95 % within what chance does in 150


def test_one_seed_or_one_kind_has_no_interval() -> None:
    one = block_of(tried(np.array([[0.5], [0.6]])), ("a", "b"))
    assert one is not None
    gain = one.gain("b", "a")
    assert (gain.value, gain.low, gain.high) == (pytest.approx(0.1), None, None)


def test_a_block_holds_the_kinds_that_have_all_of_its_seeds() -> None:
    all_of_it = tried(np.full((3, 3), 0.6))
    fewer = {**all_of_it, "c": Tried(40, {0: table(0.6), 2: table(0.6)})}
    first, second = block_of(fewer, ("a", "b")), block_of(fewer, ("a", "c"))
    assert first is not None
    assert second is not None
    assert (first.kinds, first.seeds) == (("a", "b"), 3)
    assert (second.kinds, second.seeds) == (("a", "b", "c"), 2)
    assert block_of({**all_of_it, "c": Tried(40, {9: table(0.6)})}, ("a", "c")) is None


def test_values_that_no_reference_has_enter_nothing() -> None:
    absent = np.zeros((12, 2))
    absent[3:, 1] = np.nan  # the second label is in three cases only
    found = block_of(tried(np.array([[0.5, 0.5], [0.6, 0.6]]), absent), ("a", "b"))
    assert found is not None
    assert found.gain("b", "a").value == pytest.approx(0.1)
    nothing = block_of(tried(np.array([[0.5, 0.5], [0.6, 0.6]]), np.nan), ("a", "b"))
    assert nothing is not None
    assert nothing.gain("b", "a").value is None


def test_draws_are_the_same_every_time() -> None:
    means = np.random.default_rng(0).uniform(size=(3, 3))
    first, again = (block_of(tried(means), ("a", "b")) for _ in range(2))
    assert first is not None
    assert again is not None
    assert first.gain("a", "b") == again.gain("a", "b")
