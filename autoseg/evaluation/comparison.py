"""Which of several models is best, from scores of cases that none of them had seen: paired, with intervals."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoseg.errors import UsageError
from autoseg.evaluation.paired import Interval, ScoreTable, dice_table, interval, paired_gain, quality_table
from autoseg.records import CaseScore, Compared

#: A gain below this would vanish in the third decimal: no reason to run more networks.
SMALLEST_GAIN = 0.001

#: With fewer cases not even a gain in every one of them is told from chance at 5 %: (1/2)^5 > 0.05 / 2.
FEWEST_CASES = 6


@dataclass(frozen=True, eq=False)
class Entrant:
    """A model with the scores of the cases that it predicted unseen, by case id."""

    name: str
    networks: int  # that run one after the other for one fold: what it costs
    scores: Mapping[str, CaseScore]


@dataclass(frozen=True)
class Yardstick:
    """What models are compared by: Dice, and of `things`, whose objects are counted one by one, panoptic quality."""

    names: Sequence[str]  # labels
    things: Collection[str] = ()

    def table(self, scores: Iterable[CaseScore]) -> ScoreTable:
        """Values (cases, labels)."""
        return quality_table(list(scores), self.names, self.things)

    def facts(self, entrant: Entrant) -> dict[str, object]:
        """What the row of a model tells of it alone."""
        scores = list(entrant.scores.values())
        return {
            "name": entrant.name,
            "networks": entrant.networks,
            "mean_dice": interval(dice_table(scores, self.names)).value,
            "mean_quality": interval(self.table(scores)).value if self.things else None,
            "cases": len(scores),
        }


@dataclass(frozen=True, eq=False)
class Choice:
    """The chosen model, how each of the others compares, and those that could not be compared with a reason."""

    chosen: Entrant
    compared: tuple[Compared, ...]  # the chosen one first, the others by falling gain
    left_out: Mapping[str, str]  # name -> why


def choose(entrants: Sequence[Entrant], yardstick: Yardstick) -> Choice:
    """The best of the simplest models, or one that runs more networks where it is surely better.

    Of models that run equally many networks the one with the highest mean over the cases that all of these share. One
    with more networks replaces it only where the paired interval of its gain lies above 0, on FEWEST_CASES or more, and
    the gain reaches SMALLEST_GAIN. Raises UsageError where nothing can be compared.
    """
    usable = [entrant for entrant in entrants if entrant.scores]
    if not usable:
        raise UsageError("no model has scores of held-out cases", remedy="Train a fold first: autoseg train --fold 0.")
    chosen: Entrant | None = None
    left_out: dict[str, str] = {}
    for count in sorted({entrant.networks for entrant in usable}):
        level = [entrant for entrant in usable if entrant.networks == count]
        if chosen is None:
            chosen, apart = _highest(level, yardstick)
            left_out |= apart
        else:
            chosen = _surely_better(level, chosen, yardstick) or chosen
    if chosen is None:  # there was at least one level
        raise UsageError("nothing to choose from")
    rows = [_compared(entrant, chosen, yardstick) for entrant in usable if entrant is not chosen]
    rows.sort(key=lambda row: -float("inf") if row.gain is None else row.gain, reverse=True)
    first = {"verdict": "chosen: there is no other" if len(usable) == 1 else "chosen", **yardstick.facts(chosen)}
    return Choice(chosen, (Compared.model_validate(first), *rows), left_out)


def _highest(level: Sequence[Entrant], yardstick: Yardstick) -> tuple[Entrant, dict[str, str]]:
    """The highest mean over shared cases; a model that shares none with the one of most cases is left out."""
    first = max(level, key=lambda entrant: len(entrant.scores))
    sharing = [entrant for entrant in level if entrant.scores.keys() & first.scores.keys()]
    shared = set(first.scores).intersection(*(entrant.scores for entrant in sharing))
    if not shared:  # each shares some with the first, but not all the same
        sharing, shared = [first], set(first.scores)
    apart = {
        entrant.name: f"no held-out case in common with {first.name}" for entrant in level if entrant not in sharing
    }
    return max(sharing, key=lambda entrant: _mean(entrant, shared, yardstick)), apart


def _surely_better(level: Sequence[Entrant], chosen: Entrant, yardstick: Yardstick) -> Entrant | None:
    gains = [(entrant, *_gain(entrant, chosen, yardstick)) for entrant in level]
    better = [(gain.value or 0.0, entrant) for entrant, gain, shared in gains if is_sure(gain, shared)]
    return max(better, key=lambda pair: pair[0])[1] if better else None


def is_sure(gain: Interval, shared: int, smallest: float = SMALLEST_GAIN) -> bool:
    """Whether a gain is large enough to count, and told from chance."""
    if gain.value is None or gain.low is None:
        return False
    return shared >= FEWEST_CASES and gain.low > 0 and gain.value >= smallest


def _mean(entrant: Entrant, cases: Iterable[str], yardstick: Yardstick) -> float:
    mean = interval(yardstick.table(entrant.scores[case] for case in sorted(cases))).value
    return -1.0 if mean is None else mean


def _gain(entrant: Entrant, chosen: Entrant, yardstick: Yardstick) -> tuple[Interval, int]:
    shared = sorted(entrant.scores.keys() & chosen.scores.keys())
    ours, theirs = (yardstick.table(one.scores[case] for case in shared) for one in (entrant, chosen))
    return paired_gain(ours, theirs), len(shared)


def _compared(entrant: Entrant, chosen: Entrant, yardstick: Yardstick) -> Compared:
    gain, shared = _gain(entrant, chosen, yardstick)
    beside = {
        "gain": gain.value,
        "low": gain.low,
        "high": gain.high,
        "shared_cases": shared,
        "verdict": verdict(gain, shared, entrant.networks, chosen.networks),
    }
    return Compared.model_validate({**yardstick.facts(entrant), **beside})


def verdict(gain: Interval, shared: int, networks: int, chosen_networks: int) -> str:
    """Why a model was not chosen, in words; gain and interval are those over the chosen one."""
    if gain.value is None:
        return "not comparable: no held-out case in common"
    if gain.high is not None and gain.high < 0:
        return "worse"
    if networks > chosen_networks and shared < FEWEST_CASES:
        return f"too few cases to tell ({shared} of {FEWEST_CASES}): the simpler one is chosen"
    if networks > chosen_networks and gain.low is not None and gain.low > 0:
        if gain.value < SMALLEST_GAIN:
            return f"better by less than {SMALLEST_GAIN:g}: the simpler one is chosen"
        return "better, but another gains more"
    if networks > chosen_networks:
        return "a tie: the simpler one is chosen"
    return "a tie: the higher mean is chosen" if networks == chosen_networks else "not told apart; see the others"
