from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.arrays.labels import decode, encode, region_round_trip
from autoseg.errors import DatasetError
from autoseg.records import Labels

PLAIN = Labels(names={"background": 0, "a": 1, "b": 2})
GAPS = Labels(names={"background": 0, "a": 200, "b": 2, "c": 5}, ignore=255)
REGIONS = Labels(names={"background": 0, "whole": (1, 2, 3), "core": (2, 3)}, regions_class_order=(1, 2))
LARGE = Labels(names={"background": 0, "a": 70_000, "b": 1_000_000})
NEGATIVE = Labels(names={"background": 0, "a": 5, "b": 300}, ignore=-5)
HUGE = Labels(names={"background": 0, "a": 2**31 - 1, "b": 3})
ALL = [PLAIN, GAPS, REGIONS, LARGE, NEGATIVE, HUGE]


@settings(deadline=None, max_examples=100)
@given(names=st.sampled_from(ALL), seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["int32", "int64", "float64"]))
def test_decode_undoes_encode(names, seed, kind):
    values = [*names.values] + ([] if names.ignore is None else [names.ignore])
    stored = np.random.default_rng(seed).choice(np.array(values), size=(3, 4, 5)).astype(kind)
    encoded = encode(stored, names)
    assert encoded.dtype == np.int16
    assert encoded.min() >= 0
    assert encoded.max() < len(values)
    np.testing.assert_array_equal(decode(encoded, names), stored)


def test_positions_and_ignore():
    stored = np.array([[[0, 2, 5, 200, 255]]], dtype=np.uint8)
    np.testing.assert_array_equal(encode(stored, GAPS), [[[0, 1, 2, 3, 4]]])
    assert GAPS.ignore_index == 4
    assert decode(encode(stored, GAPS), GAPS).dtype == np.uint8


@pytest.mark.parametrize(
    ("names", "kind"), [(PLAIN, np.uint8), (LARGE, np.uint32), (NEGATIVE, np.int16)], ids=["small", "large", "negative"]
)
def test_decoded_type_is_the_smallest(names, kind):
    assert decode(np.zeros((1, 1, 2), dtype=np.int16), names).dtype == kind


def test_outside_becomes_background():
    np.testing.assert_array_equal(decode(np.array([[[-1, 1, 3]]], dtype=np.int16), GAPS), [[[0, 2, 200]]])


@pytest.mark.parametrize("names", ALL, ids=["plain", "gaps", "regions", "large", "negative", "huge"])
@pytest.mark.parametrize("wrong", [7, -1, 65_000, 2_000_000])
def test_undeclared_value_is_named_with_its_count(names, wrong):
    stored = np.zeros((2, 2, 2), dtype=np.int32)
    stored[0, 0] = wrong
    with pytest.raises(DatasetError, match=rf"{wrong} \(2 voxels\)"):
        encode(stored, names)


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf])
def test_fractions_are_refused(wrong):
    stored = np.zeros((2, 2, 2))
    stored[0, 0, 0] = wrong
    with pytest.raises(DatasetError, match="1 voxels of the label map are not whole numbers"):
        encode(stored, PLAIN)


def test_booleans_and_empty_arrays():
    np.testing.assert_array_equal(encode(np.array([[[True, False]]]), PLAIN), [[[1, 0]]])
    assert encode(np.zeros((0, 2, 2), dtype=np.uint8), PLAIN).shape == (0, 2, 2)


ORDERED = Labels(names={"background": 0, "whole": (1, 2, 3), "core": (2, 3), "tip": 3}, regions_class_order=(1, 2, 3))
UNORDERED = Labels(names={"background": 0, "whole": (5, 2, 70_000), "core": (2, 70_000), "tip": 70_000})
TWINS = Labels(names={"background": 0, "whole": (1, 2), "core": (3, 4)})


@pytest.mark.parametrize("names", [PLAIN, GAPS, ORDERED, UNORDERED], ids=["plain", "gaps", "ordered", "unordered"])
def test_labels_that_come_back(names):
    assert region_round_trip(names) == ()


@pytest.mark.parametrize(
    ("names", "faults"),
    [
        (REGIONS, ["value 3 (in whole, core) would become 2"]),
        (TWINS, ["value 2 (in whole) would become 1", "value 4 (in core) would become 3"]),
        (ORDERED.model_copy(update={"regions_class_order": (3, 2, 1)}), ["1 (in whole) would become 3", "3 (in whole"]),
        (ORDERED.model_copy(update={"regions_class_order": (1, 2, 7)}), ["3 (in whole, core, tip) would become 7"]),
        (
            Labels(names={"background": 0, "all": (0, 1), "a": 1}, regions_class_order=(1, 1)),
            ["0 (in all) would become 1"],
        ),
    ],
)
def test_what_would_be_lost_is_told(names, faults):
    found = region_round_trip(names)
    for fault, told in zip(faults, found, strict=True):
        assert fault in told
