from __future__ import annotations

from typing import Any

import pytest

from autoseg.errors import RecordError
from autoseg.interop.nnunet_fingerprint import fingerprint_from_nnunet


def record() -> dict[str, Any]:
    statistics = {"mean": 1.0, "median": 1, "std": 2, "min": 0, "max": 9, "percentile_00_5": 0, "percentile_99_5": 8}
    return {
        "name": "Dataset001_Small",
        "dataset_json": {
            "channel_names": {"0": "CT", "1": "PET"},
            "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
            "regions_class_order": [1, 2],
            "numTraining": 7,
            "file_ending": ".nii.gz",
        },
        "fingerprint": {
            "spacings": [[3, 1.0, 1.0], [2.5, 0.9, 0.9]],
            "shapes_after_crop": [[20, 100, 90], [22, 110, 95]],
            "foreground_intensity_properties_per_channel": {"0": statistics, "1": {**statistics, "mean": 5.0}},
            "median_relative_size_after_cropping": 0.8,
        },
    }


def test_everything_arrives() -> None:
    fingerprint = fingerprint_from_nnunet(record())
    assert fingerprint.dataset == "Dataset001_Small"
    assert fingerprint.channels == ("CT", "PET")
    assert fingerprint.labels.names == {"background": 0, "whole": (1, 2), "core": (2,)}
    assert fingerprint.labels.ignore == 3
    assert fingerprint.labels.regions_class_order == (1, 2)
    assert fingerprint.labels_with_entries == 4
    assert fingerprint.cases_declared == 7
    assert fingerprint.cases[1].spacing == (2.5, 0.9, 0.9)
    assert fingerprint.cases[1].shape_after_crop == (22, 110, 95)
    assert [statistics.mean for statistics in fingerprint.intensities] == [1.0, 5.0]
    assert fingerprint.median_relative_size_after_cropping == 0.8


def test_channels_are_in_numerical_order() -> None:
    wide = record()
    statistics = wide["fingerprint"]["foreground_intensity_properties_per_channel"]["0"]
    wide["dataset_json"]["channel_names"] = {str(number): f"band {number}" for number in reversed(range(11))}
    wide["fingerprint"]["foreground_intensity_properties_per_channel"] = {
        str(number): statistics for number in range(11)
    }
    assert fingerprint_from_nnunet(wide).channels == tuple(f"band {number}" for number in range(11))


@pytest.mark.parametrize("part", ["dataset_json", "fingerprint"])
def test_a_missing_entry_is_named(part: str) -> None:
    whole = record()
    for key in set(whole[part]) - {"file_ending", "regions_class_order"}:
        broken = record()
        del broken[part][key]
        with pytest.raises(RecordError, match=key):
            fingerprint_from_nnunet(broken)
    del whole[part]
    with pytest.raises(RecordError, match=part):
        fingerprint_from_nnunet(whole)


def test_impossible_entries_are_refused() -> None:
    uneven = record()
    uneven["fingerprint"]["spacings"].pop()
    with pytest.raises(RecordError, match="1 spacings but 2 shapes"):
        fingerprint_from_nnunet(uneven)
    words = record()
    words["fingerprint"]["shapes_after_crop"][0] = ["a", 1, 2]
    with pytest.raises(RecordError, match="shape"):
        fingerprint_from_nnunet(words)
    no_background = record()
    del no_background["dataset_json"]["labels"]["background"]
    with pytest.raises(RecordError, match="background"):
        fingerprint_from_nnunet(no_background)
    named = record()
    named["dataset_json"]["channel_names"] = {"first": "CT"}
    with pytest.raises(RecordError, match="channel_names"):
        fingerprint_from_nnunet(named)
    with pytest.raises(RecordError, match="dataset_json"):
        fingerprint_from_nnunet([])  # type: ignore[arg-type]


def test_missing_channel_statistics_are_named() -> None:
    broken = record()
    del broken["fingerprint"]["foreground_intensity_properties_per_channel"]["1"]
    with pytest.raises(RecordError, match="channel 1"):
        fingerprint_from_nnunet(broken)
