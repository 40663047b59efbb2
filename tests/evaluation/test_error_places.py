"""Places of sure disagreement: connected, and they say where and what."""

from __future__ import annotations

import numpy as np
from contradiction_builders import PLAIN, SHAPE, drawn, places, said
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.evaluation.error_places import FEWEST_VOXELS


def test_places_are_connected_and_say_where_and_what() -> None:
    truth, found = drawn(), drawn()
    found[2:8, 2:8, 8:10] = 1  # missing in the reference
    found[9:11, 10:12, 11:13] = 1  # another label
    found[0, 0, 0] = 1  # a speck
    cases = [*[said(drawn(), drawn())] * 5, said(truth, found)]
    first, second = sorted(places(cases, 5), key=lambda place: -place.voxels)
    assert (first.voxels, first.low, first.high) == (72, (2, 2, 8), (7, 7, 9))
    assert (first.truth, first.found, list(PLAIN.foreground)[first.label]) == (0, 1, "big")
    assert (second.truth, second.found, list(PLAIN.foreground)[second.label]) == (2, 1, "small")
    assert second.voxels == 8
    assert second.suspicion > first.suspicion  # all of the small label against a third of the big one
    assert [place.voxels for place in places(cases, 5)] == [8, 72]
    assert FEWEST_VOXELS > 1


def test_the_middle_of_a_hollow_place_is_a_voxel_of_it() -> None:
    truth = np.zeros((13, 13, 13), np.int16)
    found = np.zeros_like(truth)
    found[2:11, 2:11, 2:11] = 1
    truth[3:10, 3:10, 3:10] = 1
    (place,) = places([*[said(found, found)] * 3, said(truth, found)], 3)
    k, j, i = place.middle
    assert place.voxels == 9**3 - 7**3
    assert found[k, j, i] == 1
    assert truth[k, j, i] == 0


@settings(deadline=None)
@given(
    low=st.tuples(*(st.integers(0, size - 3) for size in SHAPE)),
    size=st.tuples(*(st.integers(1, 3) for _ in SHAPE)),
)
def test_a_box_that_the_reference_lacks_is_found_where_it_is(
    low: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    box = tuple(slice(start, start + extent) for start, extent in zip(low, size, strict=True))
    found = np.zeros(SHAPE, np.int16)
    found[box] = 1
    whole = said(drawn(), drawn())
    made = places([whole, whole, said(np.zeros(SHAPE, np.int16), found)], 2)
    if np.prod(size) < FEWEST_VOXELS:
        assert made == []
        return
    (place,) = made
    assert place.low == low
    assert place.high == tuple(start + extent - 1 for start, extent in zip(low, size, strict=True))
    assert found[place.middle] == 1
