"""Which labels are better off with their largest component alone, decided on cross-validated masks (nnU-Net's rule).

First all foreground is taken together: kept where the mean Dice rises and no label's falls. Then each label by itself,
in order, on top of what was kept: kept where its Dice rises (and, where regions overlap, no other's falls).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.records import KeepLargest, Labels, TriedStep

#: Dice by label of one case; only of labels that its reference has.
CaseDice = dict[str, float]


@dataclass(frozen=True)
class Trial:
    """Dice of one case after the steps that are kept so far, and after each option on top of them."""

    before: CaseDice
    after: tuple[CaseDice, ...]  # as many as options


#: For steps and options a trial per case.
Measure = Callable[[Sequence[str | None], Sequence[str | None]], Sequence[Trial]]


def decide(labels: Labels, measure: Measure) -> tuple[TriedStep, ...]:
    """Every step that was tried, in order; `measure` makes the trials of all cases.

    Plain labels do not touch one another, so that one look at the cases is enough for all of them.
    """
    if labels.things:  # what is counted has more than one component by right
        return ()
    names = list(labels.foreground)
    tried = [_together(measure([], [None]))]
    if len(names) < 2:  # then it is the same as all foreground
        return tuple(tried)
    rounds = [[name] for name in names] if labels.has_regions else [names]
    for options in rounds:
        kept = [entry.step.label for entry in tried if entry.kept]
        trials = measure(kept, options)
        tried += [_alone(name, trials, place) for place, name in enumerate(options)]
    return tuple(tried)


def _together(trials: Sequence[Trial]) -> TriedStep:
    before, after = ([_means(part) for part in parts] for parts in _parts(trials, 0))
    means = _by_label([trial.before for trial in trials]), _by_label([trial.after[0] for trial in trials])
    step = _step(None, _mean(means[0].values()), _mean(means[1].values()), before, after)
    kept = step.dice_after > step.dice_before and all(means[1][name] >= dice for name, dice in means[0].items())
    return TriedStep(step=step, kept=kept)


def _alone(name: str, trials: Sequence[Trial], place: int) -> TriedStep:
    having = [trial for trial in trials if name in trial.before]
    before, after = ([part[name] for part in parts] for parts in _parts(having, place))
    means = _by_label([trial.before for trial in trials]), _by_label([trial.after[place] for trial in trials])
    step = _step(name, _mean(before), _mean(after), before, after)
    others_stay = all(means[1][other] >= dice for other, dice in means[0].items() if other != name)
    return TriedStep(step=step, kept=step.dice_after > step.dice_before and others_stay)


def _parts(trials: Sequence[Trial], place: int) -> tuple[list[CaseDice], list[CaseDice]]:
    return [trial.before for trial in trials], [trial.after[place] for trial in trials]


def _step(
    label: str | None, mean_before: float, mean_after: float, before: Sequence[float], after: Sequence[float]
) -> KeepLargest:
    changes = [now - then for then, now in zip(before, after, strict=True)]
    return KeepLargest(
        label=label,
        dice_before=mean_before,
        dice_after=mean_after,
        cases=len(changes),
        better=sum(change > 0 for change in changes),
        worse=sum(change < 0 for change in changes),
    )


def _by_label(cases: Sequence[CaseDice]) -> dict[str, float]:
    names = dict.fromkeys(name for case in cases for name in case)
    return {name: _mean([case[name] for case in cases if name in case]) for name in names}


def _means(case: CaseDice) -> float:
    return _mean(case.values())


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return float(np.mean(known)) if known else 0.0
