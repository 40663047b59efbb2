"""Our fingerprints of real datasets agree with those that nnU-Net measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_image, read_labels
from autoseg.fingerprint.case import measure_case
from autoseg.fingerprint.merge import merge


@pytest.mark.parametrize(
    ("folder", "recorded"),
    [
        ("Task04_Hippocampus", "Dataset004_Hippocampus"),
        ("Dataset503_OpenKBP_HN_CT", "Dataset503_OpenKBP_HN_CT"),
    ],
)
def test_fingerprint_agrees_with_nnunets(shared: Path, folder: str, recorded: str) -> None:
    dataset = open_dataset(shared / "data" / folder)
    expected = json.loads((shared / "golden" / "fingerprints" / f"{recorded}.json").read_text(encoding="utf-8"))
    fingerprint = merge(
        dataset,
        [
            measure_case(case.id, read_image(case.images), read_labels(case.labels), dataset.labels)
            for case in dataset.cases
            if case.labels is not None
        ],
    )
    assert [list(case.shape_after_crop) for case in fingerprint.cases] == expected["shapes_after_crop"]
    for case, spacing in zip(fingerprint.cases, expected["spacings"], strict=True):
        assert case.spacing == pytest.approx(spacing, rel=1e-6)
    assert fingerprint.median_relative_size_after_cropping == expected["median_relative_size_after_cropping"]
    theirs = expected["foreground_intensity_properties_per_channel"]["0"]
    ours = fingerprint.intensities[0].model_dump()
    # theirs are random samples, 1e8 in all
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-3 * theirs["std"]), name
