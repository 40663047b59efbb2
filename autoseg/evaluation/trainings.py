"""Trainings of several kinds with the same seeds, scored with the same cases: their means, and what chance may do.

Two things might have come out otherwise, and both are drawn anew (Efron & Tibshirani 1993): the held-out cases, the
same for all trainings of a draw, and what chance does in training. The latter is estimated from all kinds together, as
in an experiment in blocks (Fisher 1935): what is left of a score when the mean of its kind and that of its seed are
taken out. Three trainings of a kind alone would not tell how much they vary. The kinds of a block should vary alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from autoseg.evaluation.paired import DRAWS, SEED, Interval, ScoreTable, weighted_means

FloatArray = NDArray[np.float64]

#: Where 95 % intervals end.
_ENDS = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class Tried:
    """The trainings of one kind that have scores: by seed, a metric (cases, labels) of the held-out cases."""

    cases: int  # it was trained with
    tables: Mapping[int, ScoreTable]


@dataclass(frozen=True, eq=False)
class Block:
    """Kinds of trainings of which all have the same seeds; arrays (draws, kinds, seeds)."""

    kinds: tuple[str, ...]
    seeds: int
    held_out: int  # cases
    estimate: FloatArray  # one draw: mean scores, without what a seed does to all kinds alike
    draws: FloatArray | None  # None with one kind or one seed, which do not show what chance does

    def places(self, kinds: Sequence[str]) -> list[int]:
        """Where the kinds stand in the arrays."""
        return [self.kinds.index(kind) for kind in kinds]

    def gain(self, kind: str, other: str) -> Interval:
        """By how much the mean score of a kind lies above that of another."""
        first, second = self.places((kind, other))
        value, drawn = (
            None if scores is None else (scores[:, first] - scores[:, second]).mean(axis=1)
            for scores in (self.estimate, self.draws)
        )
        return spread(value, drawn)


def block_of(tried: Mapping[str, Tried], needed: Sequence[str]) -> Block | None:
    """The seeds that all of the needed kinds have, and every kind that has these; None where there is no such seed."""
    seeds = sorted(set(tried[needed[0]].tables).intersection(*(tried[kind].tables for kind in needed)))
    if not seeds:
        return None
    kinds = tuple(kind for kind, one in tried.items() if one.tables.keys() >= set(seeds))
    tables = np.stack([np.stack([tried[kind].tables[seed] for seed in seeds]) for kind in kinds])
    held_out = tables.shape[2]
    once = np.ones((1, held_out), dtype=np.int64)
    means = np.array([[weighted_means(once, table)[0] for table in of_kind] for of_kind in tables])
    estimate = means - means.mean(axis=0, keepdims=True) + means.mean()
    return Block(kinds, len(seeds), held_out, estimate[np.newaxis], _drawn(tables, means))


def _drawn(tables: FloatArray, means: FloatArray) -> FloatArray | None:
    """Scores (draws, kinds, seeds) as they might have come out, from tables (kinds, seeds, cases, labels)."""
    kinds, seeds = means.shape
    if kinds < 2 or seeds < 2:
        return None
    rng = np.random.default_rng(SEED)
    cases = tables.shape[2]
    weights = rng.multinomial(cases, np.full(cases, 1 / cases), size=DRAWS)
    # of every kind the mean over its seeds: the same references, so the same values are missing in all of its tables
    of_kinds = np.stack([weighted_means(weights, table) for table in tables.mean(axis=1)], axis=1)
    chance = _chance(means).ravel()
    drawn: FloatArray = of_kinds[..., np.newaxis] + chance[rng.integers(0, len(chance), size=(DRAWS, kinds, seeds))]
    return drawn


def _chance(means: FloatArray) -> FloatArray:
    """What is left of the scores (kinds, seeds) by chance, made as large as it is before means are taken out of it.

    Widened by what Student's distribution is wider than the normal one, for it is estimated from few.
    """
    left = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0, keepdims=True) + means.mean()
    kinds, seeds = means.shape
    freedom = (kinds - 1) * (seeds - 1)
    wider = stdtrit(freedom, _ENDS[1] / 100) / ndtri(_ENDS[1] / 100)
    scaled: FloatArray = left * math.sqrt(left.size / freedom) * float(wider)
    return scaled


def spread(value: FloatArray | None, draws: FloatArray | None) -> Interval:
    """The estimate (one draw) with the ends of the interval that the draws leave; without these it has none."""
    if value is None or not np.isfinite(value[0]):
        return Interval(None)
    if draws is None or not np.isfinite(draws).any():
        return Interval(float(value[0]))
    low, high = np.nanpercentile(draws, _ENDS)
    return Interval(float(value[0]), float(low), float(high))
