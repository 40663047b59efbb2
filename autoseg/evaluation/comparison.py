"""Which of several models is best, from scores of cases that none of them had seen: paired, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoseg.errors import UsageError
from autoseg.evaluation.paired import Interval, dice_table, interval, paired_gain
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


@dataclass(frozen=True, eq=False)
class Choice:
    """The chosen model, how each of the others compares, and those that could not be compared with a reason."""

    chosen: Entrant
    compared: tuple[Compared, ...]  # the chosen one first, the others by falling gain
    left_out: Mapping[str, str]  # name -> why


def choose(entrants: Sequence[Entrant], names: Sequence[str]) -> Choice:
    """The best of the simplest models, or one that runs more networks where it is surely better.

    Of models that run equally many networks the one with the highest mean over the cases that all of these share. One
    with more networks replaces it only where the paired interval of its gain lies above 0, on FEWEST_CASES or more, and
    the gain reaches SMALLEST_GAIN. `names` are the labels. Raises UsageError where nothing can be compared.
    """
    usable = [entrant for entrant in entrants if entrant.scores]
    if not usable:
        raise UsageError("no model has scores of held-out cases", remedy="Train a fold first: autoseg train --fold 0.")
    chosen: Entrant | None = None
    left_out: dict[str, str] = {}
    for count in sorted({entrant.networks for entrant in usable}):
        level = [entrant for entrant in usable if entrant.networks == count]
        if chosen is None:
            chosen, apart = _highest(level, names)
            left_out |= apart
        else:
            chosen = _surely_better(level, chosen, names) or chosen
    if chosen is None:  # there was at least one level
        raise UsageError("nothing to choose from")
    rows = [_compared(entrant, chosen, names) for entrant in usable if entrant is not chosen]
    rows.sort(key=lambda row: -float("inf") if row.gain is None else row.gain, reverse=True)
    return Choice(chosen, (_chosen_row(chosen, names, alone=len(usable) == 1), *rows), left_out)


def _highest(level: Sequence[Entrant], names: Sequence[str]) -> tuple[Entrant, dict[str, str]]:
    """The highest mean over shared cases; a model that shares none with the one of most cases is left out."""
    first = max(level, key=lambda entrant: len(entrant.scores))
    sharing = [entrant for entrant in level if entrant.scores.keys() & first.scores.keys()]
    shared = set(first.scores).intersection(*(entrant.scores for entrant in sharing))
    if not shared:  # each shares some with the first, but not all the same
        sharing, shared = [first], set(first.scores)
    apart = {
        entrant.name: f"no held-out case in common with {first.name}" for entrant in level if entrant not in sharing
    }
    return max(sharing, key=lambda entrant: _mean(entrant, shared, names)), apart


def _surely_better(level: Sequence[Entrant], chosen: Entrant, names: Sequence[str]) -> Entrant | None:
    gains = [(entrant, *_gain(entrant, chosen, names)) for entrant in level]
    better = [(gain.value or 0.0, entrant) for entrant, gain, shared in gains if is_sure(gain, shared)]
    return max(better, key=lambda pair: pair[0])[1] if better else None


def is_sure(gain: Interval, shared: int, smallest: float = SMALLEST_GAIN) -> bool:
    """Whether a gain is large enough to count, and told from chance."""
    if gain.value is None or gain.low is None:
        return False
    return shared >= FEWEST_CASES and gain.low > 0 and gain.value >= smallest


def _mean(entrant: Entrant, cases: Iterable[str], names: Sequence[str]) -> float:
    mean = interval(dice_table([entrant.scores[case] for case in sorted(cases)], names)).value
    return -1.0 if mean is None else mean


def _gain(entrant: Entrant, chosen: Entrant, names: Sequence[str]) -> tuple[Interval, int]:
    shared = sorted(entrant.scores.keys() & chosen.scores.keys())
    ours, theirs = (dice_table([one.scores[case] for case in shared], names) for one in (entrant, chosen))
    return paired_gain(ours, theirs), len(shared)


def _chosen_row(chosen: Entrant, names: Sequence[str], alone: bool) -> Compared:
    mean = interval(dice_table(list(chosen.scores.values()), names)).value
    verdict = "chosen: there is no other" if alone else "chosen"
    return Compared(
        name=chosen.name, networks=chosen.networks, mean_dice=mean, cases=len(chosen.scores), verdict=verdict
    )


def _compared(entrant: Entrant, chosen: Entrant, names: Sequence[str]) -> Compared:
    gain, shared = _gain(entrant, chosen, names)
    return Compared(
        name=entrant.name,
        networks=entrant.networks,
        mean_dice=interval(dice_table(list(entrant.scores.values()), names)).value,
        cases=len(entrant.scores),
        gain=gain.value,
        low=gain.low,
        high=gain.high,
        shared_cases=shared,
        verdict=verdict(gain, shared, entrant.networks, chosen.networks),
    )


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
