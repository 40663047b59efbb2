from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from autoseg.errors import DatasetError
from autoseg.fingerprint.case import CaseMeasurement, measure_case
from autoseg.fingerprint.merge import merge
from autoseg.records import Dataset, LabelMap, Labels, Volume

Make = Callable[..., tuple[Volume, LabelMap]]
MakeDataset = Callable[..., Dataset]


def measured(make_case: Make, names: Labels, count: int, channels: int = 1) -> list[CaseMeasurement]:
    return [measure_case(f"case_{seed}", *make_case(seed, channels), names) for seed in range(count)]


def test_the_order_of_cases_does_not_show(make_case: Make, make_dataset: MakeDataset, names: Labels) -> None:
    measurements = measured(make_case, names, 7)
    expected = merge(make_dataset(7), measurements)
    for seed in range(3):
        random.Random(seed).shuffle(measurements)
        assert merge(make_dataset(7), measurements).model_dump_json() == expected.model_dump_json()
    assert [case.case for case in expected.cases] == [f"case_{number}" for number in range(7)]


def test_what_the_dataset_says_is_kept(make_case: Make, make_dataset: MakeDataset) -> None:
    labels = Labels(names={"background": 0, "organ": 1, "tumor": 2}, ignore=3)
    dataset = make_dataset(3, channels=("CT", "PET"), labels=labels)
    fingerprint = merge(dataset, measured(make_case, labels, 3, channels=2))
    assert fingerprint.dataset == "small"
    assert fingerprint.channels == ("CT", "PET")
    assert fingerprint.labels == labels
    assert fingerprint.labels_with_entries == 4
    assert fingerprint.cases_declared == 3
    assert len(fingerprint.intensities) == 2
    assert fingerprint.median_relative_size_after_cropping == 480 / 1680


def test_cases_without_foreground_count_in_all_but_intensities(
    make_case: Make, make_dataset: MakeDataset, names: Labels
) -> None:
    measurements = measured(make_case, names, 2)
    volume, label_map = make_case(9)
    empty = LabelMap(np.zeros_like(label_map.labels), label_map.geometry)
    with_empty = merge(make_dataset(3), [*measurements, measure_case("case_9", volume, empty, names)])
    assert len(with_empty.cases) == 3
    assert with_empty.intensities == merge(make_dataset(2), measurements).intensities
    with pytest.raises(DatasetError, match="background"):
        merge(make_dataset(1), [measure_case("case_9", volume, empty, names)])


def test_nothing_to_merge_and_uneven_channels(make_case: Make, make_dataset: MakeDataset, names: Labels) -> None:
    with pytest.raises(DatasetError, match="no case"):
        merge(make_dataset(0), [])
    with pytest.raises(DatasetError, match="2 channels, the dataset has 1"):
        merge(make_dataset(1), measured(make_case, names, 1, channels=2))
