"""Splits of whole patients into training and validation, with labels and sizes spread over the folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.dataset.folds import SEED, held_out_fold, require_usable
from autoseg.errors import DatasetError
from autoseg.records import Fold

#: Cases that stay in one part, such as all of a patient.
Unit = tuple[str, ...]


@dataclass(frozen=True)
class CaseTraits:
    """What every fold should have its share of."""

    labels: frozenset[str]  # foreground labels that the case has
    volume: float  # of its foreground, in a unit that all cases share


def make_balanced_folds(
    units: Sequence[Unit], folds: int = 5, traits: Mapping[str, CaseTraits] | None = None, seed: int = SEED
) -> tuple[Fold, ...]:
    """Folds that keep units whole and hold out about equally many cases; the same for the same input in any order.

    One unit after the other is given to a fold. Without `traits` the largest come first. With them those with the
    rarest labels do, and each goes to the fold that has least of what it brings: its labels, the rare ones weighing
    most, and its step of foreground volume, of which there is one for each fold (after Sechidis et al. 2011, "On the
    stratification of multi-label data"). Labels of at least two units are then in every training part, wherever the
    combinations of labels allow it.

    Fewer units than folds give one fold per unit. Raises DatasetError for fewer than two units, or for an id that
    occurs twice.
    """
    ids = sorted(case_id for unit in units for case_id in unit)
    require_usable(ids)
    if len(units) < 2:
        raise DatasetError("all cases belong together: they make no training and validation part")
    count = min(max(folds, 2), len(units))
    order = np.arange(len(units))
    np.random.RandomState(seed).shuffle(order)
    ascending = sorted(tuple(sorted(unit)) for unit in units)
    shuffled = [ascending[place] for place in order]
    features = [frozenset[str]()] * len(shuffled) if traits is None else _features(shuffled, traits, count)
    return tuple(held_out_fold(ids, chosen) for chosen in _dealt(shuffled, features, count))


def labels_lacking(
    folds: Sequence[Fold], units: Sequence[Unit], traits: Mapping[str, CaseTraits]
) -> dict[int, tuple[str, ...]]:
    """Numbers of the folds whose training part lacks labels that at least two units have, and these labels, sorted."""
    having = Counter(label for unit in units for label in _labels_of(unit, traits))
    wanted = {label for label, count in having.items() if count > 1}
    lacking = {number: wanted - _labels_of(fold.train, traits) for number, fold in enumerate(folds)}
    return {number: tuple(sorted(labels)) for number, labels in lacking.items() if labels}


def _labels_of(case_ids: Sequence[str], traits: Mapping[str, CaseTraits]) -> set[str]:
    return {label for case_id in case_ids if case_id in traits for label in traits[case_id].labels}


def _features(units: Sequence[Unit], traits: Mapping[str, CaseTraits], folds: int) -> list[frozenset[str]]:
    """Per unit its labels and its step of volume: as many units as there are folds, neighbours in size, share one."""
    volumes = [
        float(np.mean([traits[case_id].volume if case_id in traits else 0.0 for case_id in unit])) for unit in units
    ]
    ranks = np.empty(len(units), dtype=np.int64)
    ranks[np.argsort(volumes, kind="stable")] = np.arange(len(units))
    return [
        frozenset({*(f"label {label}" for label in _labels_of(unit, traits)), f"step {rank // folds}"})
        for unit, rank in zip(units, ranks, strict=True)
    ]


def _dealt(units: Sequence[Unit], features: Sequence[frozenset[str]], folds: int) -> list[set[str]]:
    """The cases that each fold holds out."""
    totals = Counter(feature for found in features for feature in found)
    held_out: list[set[str]] = [set() for _ in range(folds)]
    counts: list[Counter[str]] = [Counter() for _ in range(folds)]
    smallest, larger = divmod(sum(map(len, units)), folds)

    def rarity(place: int) -> tuple[int, int]:
        rarest = min(
            (totals[feature] for feature in features[place] if feature.startswith("label ")), default=len(units)
        )
        return rarest, -len(units[place])

    for place in sorted(range(len(units)), key=rarity):
        unit = units[place]
        room = smallest + (sum(len(chosen) > smallest for chosen in held_out) < larger)
        open_folds = [fold for fold in range(folds) if len(held_out[fold]) + len(unit) <= room]
        if not open_folds:  # a large unit, or what is left of many: wherever least is
            fewest = min(map(len, held_out))
            open_folds = [fold for fold in range(folds) if len(held_out[fold]) == fewest]
        # a sum in a fixed order: the last digits decide between folds
        crowding = {
            fold: sum(counts[fold][feature] / totals[feature] ** 2 for feature in sorted(features[place]))
            for fold in open_folds
        }
        chosen = min(open_folds, key=lambda fold: (crowding[fold], len(held_out[fold]), fold))
        held_out[chosen].update(unit)
        counts[chosen].update(features[place])
    return held_out
