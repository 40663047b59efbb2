"""Verdicts of short trainings: a gain is claimed only where it can be defended, and `cannot tell` is an answer."""

from __future__ import annotations

import numpy as np
import pytest

from autoseg.evaluation.answers import MORE_CASES, NETWORKS, answer, compared, more_cases, points, verdict_of
from autoseg.evaluation.paired import Interval
from autoseg.evaluation.trainings import Tried

HARD = np.random.default_rng(3).normal(0, 0.05, size=(20, 1))  # what cases share
KINDS = ("quarter", "half", "all")


def tried(cases: int, *means: float) -> Tried:
    """Trainings with these mean scores."""
    return Tried(cases, {seed: mean + HARD for seed, mean in enumerate(means)})


def sizes(*means: tuple[float, ...]) -> dict[str, Tried]:
    """Trainings with 20, 40 and 80 cases."""
    return {kind: tried(cases, *row) for kind, cases, row in zip(KINDS, (20, 40, 80), means, strict=True)}


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (Interval(0.02, 0.01, 0.03), "gain"),
        (Interval(-0.02, -0.03, -0.01), "loss"),
        (Interval(0.004, -0.001, 0.009), "unclear"),
        (Interval(0.001, -0.002, 0.004), "none"),  # there is no room for half a point
        (Interval(-0.01, -0.05, 0.004), "none"),
        (Interval(-0.01, -0.05, 0.006), "unclear"),
        (Interval(0.0005, 0.0001, 0.001), "none"),  # sure, and nothing that anybody would report
        (Interval(0.02), "unclear"),
        (Interval(None), "unclear"),
    ],
)
def test_verdicts(gain: Interval, verdict: str) -> None:
    assert verdict_of(gain, cases=20, seeds=3) == verdict
    assert verdict_of(gain, cases=5, seeds=3) == "unclear"
    assert verdict_of(gain, cases=20, seeds=1) == "unclear"


def test_sentences_give_the_figures() -> None:
    told = answer("20 more cases (80 to 100)", Interval(0.0042, -0.0011, 0.0091), MORE_CASES, 20, 3)
    assert told.words == "20 more cases (80 to 100): +0.4 points (95 % interval -0.1 to +0.9): cannot tell"
    assert answer("larger network", Interval(-0.001, -0.004, 0.002), NETWORKS, 20, 3).words.endswith("no gain seen")
    few = answer("larger network", Interval(0.1, 0.05, 0.2), NETWORKS, 4, 3)
    assert few.words.endswith("cannot tell from 4 of at least 6 held-out cases")
    narrow = answer("20 more cases (208 to 228)", Interval(0.00015, -0.00005, 0.00035), MORE_CASES, 20, 3)
    assert narrow.words.startswith("20 more cases (208 to 228): +0.01 points (95 % interval -0.01 to +0.03): ")
    one = answer("larger network", Interval(0.1), NETWORKS, 20, 1)
    assert one.words == "larger network: +10.0 points: cannot tell from 1 of at least 2 trainings of each kind"


def test_points_have_no_negative_zero() -> None:
    assert [points(value) for value in (0.0042, -0.0004, -0.0006, 0.0)] == ["+0.4", "+0.0", "-0.1", "+0.0"]


def against(larger: Tried, planned: Tried) -> dict[str, Tried]:
    return {"all": planned, "larger": larger}


def test_a_network_that_is_better_with_every_seed_is_better() -> None:
    better, worse = tried(80, 0.75, 0.76, 0.745), tried(80, 0.70, 0.71, 0.69)
    told = compared("larger network", against(better, worse), "larger", "all", NETWORKS)
    assert (told.verdict, told.gain) == ("gain", pytest.approx(0.155 / 3))
    assert told.words.startswith("larger network: +5.2 points (95 % interval +")
    assert told.words.endswith(": better")
    back = compared("larger network", against(worse, better), "larger", "all", NETWORKS)
    assert (back.verdict, back.gain) == ("loss", pytest.approx(-0.155 / 3))


def test_a_network_that_is_better_by_luck_of_the_seed_is_not() -> None:
    lucky, planned = tried(80, 0.75, 0.68, 0.74), tried(80, 0.70, 0.72, 0.69)
    told = compared("larger network", against(lucky, planned), "larger", "all", NETWORKS)
    assert told.gain is not None
    assert told.gain > 0.01
    assert (told.verdict, told.words.rpartition(": ")[2]) == ("unclear", "cannot tell")


def test_only_seeds_that_both_have_are_compared() -> None:
    told = compared("larger network", against(tried(80, 0.75), tried(80, 0.70, 0.3)), "larger", "all", NETWORKS)
    assert told.gain == pytest.approx(0.05)
    nothing = compared("larger network", against(Tried(80, {7: HARD}), tried(80, 0.7)), "larger", "all", NETWORKS)
    assert (nothing.gain, nothing.verdict) == (None, "unclear")
    assert nothing.words == "larger network: cannot tell from 0 of at least 2 trainings of each kind"


def test_a_rising_curve_says_that_more_cases_help() -> None:
    rows = [tuple(0.9 - 0.9 * n**-0.5 + luck for luck in (-0.002, 0.0, 0.002)) for n in (20, 40, 80)]
    found = more_cases(sizes(*rows), KINDS, 20)
    assert found.answer.question == "20 more cases (80 to 100)"
    assert found.answer.gain == pytest.approx(0.9 * (80**-0.5 - 100**-0.5), rel=0.01)
    assert found.answer.verdict == "gain"
    assert found.answer.words.endswith("more cases help")
    assert found.exponent == 0.5
    assert (found.curve[0].cases, found.curve[-1].cases) == (pytest.approx(20), pytest.approx(160))
    for point in found.curve:
        assert point.low is not None
        assert point.high is not None
        assert point.low <= point.dice <= point.high


@pytest.mark.parametrize(
    "rows",
    [
        ((0.60, 0.71, 0.65), (0.72, 0.63, 0.70), (0.66, 0.73, 0.68)),  # the means rise, every training alone does not
        ((0.66, 0.71, 0.69), (0.72, 0.67, 0.70), (0.60, 0.75, 0.72)),
    ],
)
def test_noise_says_that_it_cannot_tell(rows: tuple[tuple[float, ...], ...]) -> None:
    told = more_cases(sizes(*rows), KINDS, 20).answer
    assert told.verdict == "unclear"
    assert told.low is not None
    assert told.low < 0 < (told.high or 0)


def test_a_level_curve_says_that_no_gain_is_seen() -> None:
    rows = ((0.8, 0.801, 0.799), (0.801, 0.8, 0.799), (0.799, 0.8, 0.801))
    assert more_cases(sizes(*rows), KINDS, 20).answer.verdict == "none"


def test_two_sizes_make_no_curve() -> None:
    two = {kind: one for kind, one in sizes((0.6, 0.6), (0.7, 0.7), (0.8, 0.8)).items() if kind != "half"}
    found = more_cases(two, ("quarter", "all"), 20)
    assert (found.answer.gain, found.answer.verdict, found.curve, found.exponent) == (None, "unclear", (), None)
    assert found.answer.words == "20 more cases (80 to 100): cannot tell"
