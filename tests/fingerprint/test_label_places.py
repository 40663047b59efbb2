from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.arrays.orientation import STORED, Orientation
from autoseg.fingerprint.case import measure_case
from autoseg.fingerprint.label_places import LabelPlaces, label_places
from autoseg.records import LabelMap, Labels, Volume

LABELS = Labels(names={"background": 0, "whole": (1, 2), "core": 2, "other": 3}, regions_class_order=(1, 2, 3))


def places_of(crop: np.ndarray, labels: Labels, orientation: Orientation = STORED) -> LabelPlaces:
    places = np.flatnonzero(crop > 0)
    return label_places(crop.reshape(-1)[places], places, crop.shape, labels, orientation)


def test_two_boxes_by_hand() -> None:
    crop = np.zeros((4, 10, 20), np.int16)
    crop[1:3, 2:4, 0:5] = 1
    crop[1:3, 2:4, 5:10] = 2
    found = places_of(crop, LABELS)
    assert found.centres["whole"] == pytest.approx((0.5, 0.3, 0.25))
    assert found.centres["core"] == pytest.approx((0.5, 0.3, 0.375))
    assert found.extents == {"whole": (2, 2, 10), "core": (2, 2, 5)}
    turned = places_of(crop, LABELS, Orientation((2, 0, 1), (True, False, False)))
    assert turned.centres["core"] == pytest.approx((0.625, 0.5, 0.3))
    assert turned.extents["whole"] == (10, 2, 2)


@given(st.integers(0, 100), st.sampled_from([0.02, 0.5, 1.0]), st.tuples(*[st.integers(1, 6)] * 3))
@settings(deadline=None, max_examples=80)
def test_runs_count_like_voxels(seed: int, share: float, shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(seed)
    # repeated along the lines, so that runs are long and go on across them
    crop = np.repeat(random.integers(0, 4, shape), 3, axis=2).astype(np.int16) * (random.random() < share or share == 1)
    found = places_of(crop, LABELS)
    for name, members in LABELS.foreground.items():
        voxels = np.argwhere(np.isin(crop, members))
        assert (name in found.centres) == (len(voxels) > 0)
        if len(voxels):
            assert found.centres[name] == pytest.approx(tuple((voxels.mean(axis=0) + 0.5) / crop.shape))
            assert found.extents[name] == tuple(np.ptp(voxels, axis=0) + 1)


def test_the_fingerprint_of_a_case_has_them(make_case: Callable[..., tuple[Volume, LabelMap]], names: Labels) -> None:
    volume, label_map = make_case()
    found = measure_case("case", volume, label_map, names, annotated=("organ",)).fingerprint
    # the crop is 2..8, 3..11, 1..11; the organ 3..6, 4..8, 2..6
    assert found.label_centres["organ"] == pytest.approx((2.5 / 6, 3 / 8, 3 / 10))
    assert found.label_extents == {"organ": (3, 4, 4), "tumor": (3, 4, 2)}
    assert found.annotated == ("organ",)
    assert found.content == measure_case("other", volume, None, names).fingerprint.content != ""
    assert measure_case("case", volume, None, names).fingerprint.label_centres == {}


def test_ignored_voxels_and_what_lies_outside_the_crop_have_no_place(
    make_case: Callable[..., tuple[Volume, LabelMap]],
) -> None:
    labels = Labels(names={"background": 0, "organ": 1, "tumor": 2}, ignore=9)
    volume, label_map = make_case()
    values = label_map.labels.copy()
    values[values == 2] = 9
    values[0, 0, 0] = 2
    found = measure_case("case", volume, LabelMap(values, volume.geometry), labels).fingerprint
    assert found.label_centres.keys() == {"organ"}
