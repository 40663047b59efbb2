from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.dataset.balanced_folds import CaseTraits, labels_lacking, make_balanced_folds
from autoseg.dataset.folds import make_folds
from autoseg.errors import DatasetError
from autoseg.records import Fold


def singles(count: int) -> list[tuple[str, ...]]:
    return [(f"c{number:03d}",) for number in range(count)]


@given(st.lists(st.integers(1, 4), min_size=2, max_size=30), st.integers(2, 6), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_units_stay_whole_and_folds_are_balanced(sizes: list[int], folds: int, seed: int) -> None:
    units = [tuple(f"p{unit}_{scan}" for scan in range(size)) for unit, size in enumerate(sizes)]
    made = make_balanced_folds(units, folds, seed=seed)
    ids = sorted(case_id for unit in units for case_id in unit)
    assert len(made) == min(folds, len(units))
    assert sorted(case_id for fold in made for case_id in fold.val) == ids
    for fold in made:
        assert sorted(fold.train + fold.val) == ids
        assert fold.train
        assert fold.val
        assert all(set(unit) <= set(fold.train) or set(unit) <= set(fold.val) for unit in units)
    held_out = [len(fold.val) for fold in made]
    assert max(held_out) - min(held_out) <= max(sizes)
    assert make_balanced_folds([unit[::-1] for unit in units[::-1]], folds, seed=seed) == made


@given(st.integers(0, 500), st.integers(10, 60))
@settings(deadline=None, max_examples=60)
def test_every_training_part_has_every_label(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    units = singles(count)
    shares = {"common": 0.9, "half": 0.5, "rare": 3 / count, "rarer": 2 / count}
    traits = {
        unit[0]: CaseTraits(
            frozenset(label for label, share in shares.items() if random.random() < share), random.lognormal()
        )
        for unit in units
    }
    made = make_balanced_folds(units, 5, traits)
    assert labels_lacking(made, units, traits) == {}
    assert max(len(fold.val) for fold in made) - min(len(fold.val) for fold in made) <= 1


def test_labels_of_five_cases_are_in_every_validation_part() -> None:
    units = singles(40)
    traits = {unit[0]: CaseTraits(frozenset({"rare"} if number < 5 else ()), 1.0) for number, unit in enumerate(units)}
    for fold in make_balanced_folds(units, 5, traits):
        assert sum("rare" in traits[case_id].labels for case_id in fold.val) == 1


def test_volumes_are_spread() -> None:
    units = singles(50)
    traits = {unit[0]: CaseTraits(frozenset(), float(np.exp(number / 5))) for number, unit in enumerate(units)}

    def spread(folds: tuple[Fold, ...]) -> float:
        means = [np.mean([np.log(traits[case_id].volume) for case_id in fold.val]) for fold in folds]
        return float(np.ptp(means))

    assert spread(make_balanced_folds(units, 5, traits)) < 0.25 * spread(make_folds([unit[0] for unit in units]))


def test_a_label_in_one_fold_only_is_lacking() -> None:
    folds = (Fold(train=("c", "d"), val=("a", "b")), Fold(train=("a", "b"), val=("c", "d")))
    traits = {
        name: CaseTraits(frozenset({"x"} if name in "ab" else {"once"} if name == "c" else ()), 1) for name in "abcd"
    }
    units = [(name,) for name in "abcd"]
    assert labels_lacking(folds, units, traits) == {0: ("x",)}
    # both are of one patient: no fold could have it in both parts
    assert labels_lacking(folds, [("a", "b"), ("c",), ("d",)], traits) == {}


def test_too_few_units() -> None:
    with pytest.raises(DatasetError, match="belong together"):
        make_balanced_folds([("a", "b", "c")])
    with pytest.raises(DatasetError, match="at least two"):
        make_balanced_folds([("a",)])
    with pytest.raises(DatasetError, match="twice: a"):
        make_balanced_folds([("a", "b"), ("a",)])
