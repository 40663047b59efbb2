from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from autoseg.evaluation.significance import COUNTED_OUT, holm, signed_rank

p_values = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], 2 / 2**5),  # five of one sign: 6 %, whatever their sizes
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 2 / 2**6),
        ([-0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 4 / 2**6),  # the least of them turned: rank sums of 0 and 1, at both ends
        ([0.1, 0.1, 0.1, 0.1], 2 / 2**4),  # of one size
        ([0.8 - 0.7, 0.7 - 0.6, 0.6 - 0.5, -(0.5 - 0.4)], 1 - 6 / 2**4),  # the same with rounding errors
        ([0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 2 / 2**6),  # no difference tells for neither
        ([0.1, 0.2, -0.3], 1.0),
        ([0.0, 0.0], 1.0),
        ([1e-15, -1e-15], 1.0),
        ([float("nan"), 0.1], 1.0),
    ],
)
def test_small_examples_by_hand(differences: list[float], p: float) -> None:
    assert signed_rank(differences) == pytest.approx(p)


def test_nothing_to_test() -> None:
    assert signed_rank([]) is None
    assert signed_rank([float("nan")]) is None


def test_ranks_of_one_size_are_counted_out() -> None:
    differences = [0.1, 0.1, -0.1, 0.2, 0.2, 0.3, 0.4]
    ranks = rankdata(np.abs(differences))
    sums = [float(np.dot(signs, ranks)) for signs in product((-1, 1), repeat=len(ranks))]
    observed = float(np.dot(np.sign(differences), ranks))
    expected = sum(abs(value) >= abs(observed) for value in sums) / len(sums)
    assert signed_rank(differences) == pytest.approx(expected)


@pytest.mark.parametrize("count", [COUNTED_OUT, COUNTED_OUT + 1, 50, 60])
def test_it_is_the_test_of_scipy(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.3, 1, count)
    assert signed_rank(list(differences)) == pytest.approx(wilcoxon(differences, correction=True).pvalue)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=40))
def test_the_other_way_round_it_is_as_likely(differences: list[int]) -> None:
    values = [0.01 * value for value in differences]
    p, other = signed_rank(values), signed_rank([-value for value in values])
    assert p == pytest.approx(other)
    assert p is not None
    assert 0 < p <= 1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([None, 0.02, None]) == [None, 0.02, None]
    assert holm([]) == []


@given(p_values)
def test_corrected_values_are_no_smaller_and_keep_their_order(values: list[float | None]) -> None:
    corrected = holm(values)
    assert [value is None for value in corrected] == [value is None for value in values]
    pairs = sorted((p, q) for p, q in zip(values, corrected, strict=True) if p is not None and q is not None)
    assert all(p <= q <= 1 for p, q in pairs)
    assert [q for _, q in pairs] == sorted(q for _, q in pairs)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
def test_the_order_of_tests_does_not_matter(values: list[float], random: object) -> None:
    places = list(range(len(values)))
    random.shuffle(places)  # type: ignore[attr-defined]
    shuffled = holm([values[place] for place in places])
    assert shuffled == pytest.approx([holm(list(values))[place] for place in places])
