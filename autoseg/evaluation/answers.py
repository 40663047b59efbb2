"""What short trainings say: would more cases help, another network, or better references?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from autoseg.evaluation.comparison import FEWEST_CASES, SMALLEST_GAIN
from autoseg.evaluation.learning_curve import Curves, FloatArray, fitted
from autoseg.evaluation.paired import Interval
from autoseg.evaluation.trainings import Tried, block_of, spread
from autoseg.records import Answer, CurvePoint

Verdict = Literal["gain", "none", "loss", "unclear"]

#: A gain below half a point of Dice is none to collect cases for.
NEGLIGIBLE = 0.005

#: An interval narrower than so many points is told to a hundredth of a point: to a tenth both ends would be the same.
NARROW_POINTS = 0.2

#: One training at each size shows nothing of what chance does in training.
FEWEST_SEEDS = 2

#: Sizes that a curve needs: two fit every exponent.
FEWEST_SIZES = 3

#: Points of the drawn curve, from the fewest cases that were tried to twice the most.
_POINTS = 40


@dataclass(frozen=True)
class Conclusions:
    """What to say of a question, by its verdict."""

    gain: str
    loss: str
    none: str = "no gain seen"
    unclear: str = "cannot tell"


NETWORKS = Conclusions(gain="better", loss="worse")
MORE_CASES = Conclusions(gain="more cases help", loss="the score falls with more cases")
SET_ASIDE = Conclusions(gain="their references hold the network back", loss="they are needed")


def verdict_of(gain: Interval, cases: int, seeds: int) -> Verdict:
    """Whether something helps, from its gain in Dice, the number of held-out cases, and that of seeds.

    Where the interval holds 0 nothing can be told, unless it excludes what would be worth the trouble.
    """
    if cases < FEWEST_CASES or seeds < FEWEST_SEEDS or gain.value is None or gain.low is None or gain.high is None:
        return "unclear"
    if gain.high < 0:
        return "loss"
    if gain.low > 0 and gain.value >= SMALLEST_GAIN:
        return "gain"
    return "none" if gain.high < NEGLIGIBLE else "unclear"


def answer(question: str, gain: Interval, conclusions: Conclusions, cases: int, seeds: int) -> Answer:
    """The answer with its sentence, which always gives the figures."""
    verdict = verdict_of(gain, cases, seeds)
    said = str(getattr(conclusions, verdict))
    if cases < FEWEST_CASES:
        said += f" from {cases} of at least {FEWEST_CASES} held-out cases"
    elif seeds < FEWEST_SEEDS:
        said += f" from {seeds} of at least {FEWEST_SEEDS} trainings of each kind"
    return Answer(
        question=question,
        gain=gain.value,
        low=gain.low,
        high=gain.high,
        verdict=verdict,
        words=f"{question}: {_figures(gain)}{said}",
    )


def _figures(gain: Interval) -> str:
    if gain.value is None:
        return ""
    if gain.low is None or gain.high is None:
        return f"{points(gain.value)} points: "
    digits = 1 if 100 * (gain.high - gain.low) >= NARROW_POINTS else 2
    low, high = points(gain.low, digits), points(gain.high, digits)
    return f"{points(gain.value, digits)} points (95 % interval {low} to {high}): "


def points(dice: float, digits: int = 1) -> str:
    """A difference of Dice in points, which are hundredths, with its sign."""
    return f"{round(100 * dice, digits) + 0.0:+.{digits}f}"


# --------------------------------------------------------------------------------------------------- the questions


def compared(question: str, tried: Mapping[str, Tried], kind: str, against: str, conclusions: Conclusions) -> Answer:
    """One kind of training against another, by the seeds that both have."""
    block = block_of(tried, (kind, against))
    if block is None:
        return answer(question, Interval(None), conclusions, FEWEST_CASES, 0)
    return answer(question, block.gain(kind, against), conclusions, block.held_out, block.seeds)


@dataclass(frozen=True)
class Forecast:
    """What more cases would bring, with the curve that it is taken from; without one where a size has no training."""

    answer: Answer
    curve: tuple[CurvePoint, ...] = ()
    exponent: float | None = None


def more_cases(tried: Mapping[str, Tried], kinds: Sequence[str], more: int) -> Forecast:
    """What so many cases on top of the largest number tried would bring.

    `kinds` are the trainings with more and more cases, those of which `tried` has any.
    """
    now = tried[kinds[-1]].cases
    question = f"{more} more cases ({now} to {now + more})"
    block = block_of(tried, kinds)
    if len(kinds) < FEWEST_SIZES or block is None:
        return Forecast(answer(question, Interval(None), MORE_CASES, FEWEST_CASES, 0 if block is None else block.seeds))
    sizes, places = [tried[kind].cases for kind in kinds], block.places(kinds)
    middle = fitted(sizes, block.estimate[:, places])
    around = None if block.draws is None else fitted(sizes, block.draws[:, places])

    def expected(of: Callable[[Curves], FloatArray]) -> Interval:
        return spread(of(middle), None if around is None else of(around))

    gain = expected(lambda curves: curves.gain(now, more))
    curve = []
    for at in map(float, np.geomspace(sizes[0], max(2 * now, now + more), _POINTS)):
        score = expected(partial(Curves.at, cases=at))
        if score.value is not None:
            curve.append(CurvePoint(cases=at, dice=score.value, low=score.low, high=score.high))
    exponent = float(middle.exponent[0]) if curve else None
    return Forecast(answer(question, gain, MORE_CASES, block.held_out, block.seeds), tuple(curve), exponent)
