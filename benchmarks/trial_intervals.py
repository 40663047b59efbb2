"""How often the intervals of `autoseg diagnose` hold what is true, in simulated trainings.

    python benchmarks/trial_intervals.py

Scores are a curve, what a case is, what a training happens to be, and what both together are. A row for each number of
seeds and each course of the curve: of the forecast for a quarter more cases, and of all cases against half of them, how
often the interval of 95 % holds the truth, and how often a gain or a loss is claimed. Where the curve is level every
claim is wrong. For comparison the same where whole seeds are drawn, k of k with replacement.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from autoseg.evaluation.answers import verdict_of
from autoseg.evaluation.learning_curve import fitted
from autoseg.evaluation.paired import Interval, weighted_means
from autoseg.evaluation.trainings import Block, Tried, block_of, spread

SIZES = {"quarter": 20, "half": 40, "all": 80}
HELD_OUT = 20


def truth(slope: float, cases: float) -> float:
    return 0.8 - slope * cases**-0.5


def trainings(rng: np.random.Generator, slope: float, seeds: int, chance: float) -> dict[str, Tried]:
    hard = rng.normal(0, 0.1, (HELD_OUT, 1))

    def tables(mean: float) -> dict[int, np.ndarray]:
        return {
            seed: mean + hard + rng.normal(0, chance) + rng.normal(0, 2 * chance, (HELD_OUT, 1))
            for seed in range(seeds)
        }

    made = {kind: Tried(cases, tables(truth(slope, cases))) for kind, cases in SIZES.items()}
    return made | {"set aside": Tried(72, tables(truth(slope, 80)))}


def seeds_drawn(tried: dict[str, Tried], block: Block) -> Block:
    """The block with draws of whole seeds."""
    rng = np.random.default_rng(1)
    weights = rng.multinomial(HELD_OUT, np.full(HELD_OUT, 1 / HELD_OUT), size=2000)
    means = np.stack(
        [np.stack([weighted_means(weights, one) for one in tried[kind].tables.values()], 1) for kind in block.kinds], 1
    )
    picks = rng.integers(0, block.seeds, size=(len(weights), 1, block.seeds))
    return Block(block.kinds, block.seeds, HELD_OUT, block.estimate, np.take_along_axis(means, picks, axis=2))


def forecast(block: Block) -> Interval:
    places = block.places(list(SIZES))
    curves = [fitted(list(SIZES.values()), scores[:, places]) for scores in (block.estimate, block.draws)]
    value, drawn = (curve.gain(80, 20) for curve in curves)
    return spread(value, drawn)


def row(name: str, slope: float, seeds: int, chance: float, count: int) -> None:
    rng = np.random.default_rng(7)
    right = {"forecast": truth(slope, 100) - truth(slope, 80), "measured": truth(slope, 80) - truth(slope, 40)}
    held: Counter[tuple[str, str]] = Counter()
    claimed: Counter[tuple[str, str]] = Counter()
    for _ in range(count):
        tried = trainings(rng, slope, seeds, chance)
        block = block_of(tried, list(SIZES))
        if block is None:
            raise SystemExit("nothing was trained")
        for way, one in (("pooled", block), ("seeds drawn", seeds_drawn(tried, block))):
            for what, gain in (("forecast", forecast(one)), ("measured", one.gain("all", "half"))):
                held[way, what] += (gain.low or 0.0) <= right[what] <= (gain.high or 0.0)
                claimed[way, what] += verdict_of(gain, HELD_OUT, seeds) in ("gain", "loss")
    for way in ("pooled", "seeds drawn"):
        told = "  ".join(
            f"{what}: holds {held[way, what] / count:6.1%}, claims {claimed[way, what] / count:6.1%}" for what in right
        )
        print(f"{name:8s} {seeds} seeds  {way:12s} {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="experiments per row")
    parser.add_argument("--chance", type=float, default=0.01, help="deviation of a training's score by chance")
    options = parser.parse_args()
    for name, slope in (("level", 0.0), ("rising", 1.0)):
        for seeds in (2, 3, 5):
            row(name, slope, seeds, options.chance, options.count)


if __name__ == "__main__":
    main()
