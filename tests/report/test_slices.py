"""Slices as pictures show them: the radiological convention, and the letters of the sides."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from autoseg.report.page import Picture
from autoseg.report.pictures import comparison, reading, thumbnail
from autoseg.report.slices import CONVENTION, LETTER, PLANES, SIDES, Look, marked, place_on_slice, slice_of

SHAPE = (4, 5, 6)


def look(sides: bool = True) -> Look:
    """One bright voxel, the most superior, anterior and right one of all."""
    image = np.zeros(SHAPE, np.float32)
    image[-1, -1, -1] = 1
    return Look("a", image, (image > 0).astype(np.int32), (1.0, 1.0, 1.0), sides=sides)


@pytest.mark.parametrize(("name", "axis"), PLANES)
def test_right_and_anterior_lie_left_and_superior_lies_on_top(name: str, axis: int) -> None:
    case = look()
    assert case.image is not None
    plane = slice_of(case, case.image, axis, SHAPE[axis] - 1)
    assert np.argwhere(plane).tolist() == [[0, 0]], name
    # what lies there: the letters on the left and on top of that slice are those of the bright voxel's sides
    assert SIDES[axis][0] in "RA"
    assert SIDES[axis][2] in "AS"


def test_what_has_no_sides_is_drawn_as_it_is_stored() -> None:
    case = look(sides=False)
    assert case.image is not None
    for _, axis in PLANES:
        plane = slice_of(case, case.image, axis, SHAPE[axis] - 1)
        assert np.argwhere(plane).tolist() == [[plane.shape[0] - 1, plane.shape[1] - 1]]


@given(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)), st.sampled_from([0, 1, 2]), st.booleans())
def test_a_place_lies_where_its_voxel_is_drawn(at: tuple[int, int, int], axis: int, sides: bool) -> None:
    image = np.zeros(SHAPE, np.float32)
    image[at] = 1
    case = replace(look(sides), image=image)
    plane = slice_of(case, image, axis, at[axis])
    down, across = place_on_slice(case, axis, at)
    tall, wide = plane.shape
    assert plane[int(down * tall), int(across * wide)] == 1


def letters(axis: int, tall: int = 120, wide: int = 120) -> dict[str, np.ndarray]:
    """The four places of letters on a grey slice."""
    drawn = marked(np.full((tall, wide, 3), 90, np.uint8), axis).astype(int)
    middle, band = slice(max(0, tall // 2 - LETTER), tall // 2 + LETTER), LETTER + 8
    across = slice(wide // 2 - LETTER, wide // 2 + LETTER)
    return {
        "left": drawn[middle, :band], "right": drawn[middle, -band:],
        "top": drawn[:band, across], "bottom": drawn[-band:, across],
    }  # fmt: skip


def test_letters_are_white_with_a_dark_rim_and_tell_planes_apart() -> None:
    axial, coronal, sagittal = (letters(axis) for _, axis in PLANES)
    for place in axial.values():
        assert place.max() > 240
        assert place.min() < 20
    np.testing.assert_array_equal(axial["left"], coronal["left"])  # R
    np.testing.assert_array_equal(axial["right"], coronal["right"])  # L
    np.testing.assert_array_equal(coronal["top"], sagittal["top"])  # S
    np.testing.assert_array_equal(coronal["bottom"], sagittal["bottom"])  # I
    for one, other in ((axial["left"], sagittal["left"]), (axial["top"], coronal["top"])):
        assert (one != other).any()
    assert (axial["left"] != axial["right"][:, ::-1]).any()


def test_edges_too_short_for_letters_have_none() -> None:
    flat = letters(1, tall=30)
    assert flat["left"].max() > 240
    thin = marked(np.full((LETTER, 200, 3), 90, np.uint8), 0)
    assert (thin == 90).all()
    low = marked(np.full((30, 200, 3), 90, np.uint8), 1)
    assert (low[:, 60:140] == 90).all()


def pixels(picture: Picture) -> np.ndarray:
    stored = base64.b64decode(picture.uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(stored)).convert("RGB")).astype(int)


def test_a_comparison_marks_its_first_column_and_a_picture_nothing() -> None:
    image = np.full((40, 40, 40), 0.5, np.float32)
    image[0, 0, :2] = 0.0, 1.0
    mask = np.zeros(image.shape, np.int32)
    with_sides = Look("a", image, mask, (1.0, 1.0, 1.0), mask)
    drawn, plain = (pixels(comparison(one, {"organ": (1,)})) for one in (with_sides, replace(with_sides, sides=False)))
    column = drawn.shape[1] // 4
    white = (drawn.min(axis=2) > 200) & (plain.min(axis=2) < 200)
    assert white[:, :column].sum() > 100
    assert not white[:, column:].any()
    assert comparison(with_sides, {}).sides
    assert not thumbnail(replace(with_sides, sides=False), {}).sides


def test_without_an_image_its_column_is_left_out() -> None:
    case = look()
    whole = replace(case, reference=case.mask)
    with_image, without = (comparison(one, {"organ": (1,)}) for one in (whole, replace(whole, image=None)))
    assert (with_image.image, without.image) == (True, False)
    assert pixels(without).shape[1] == pixels(with_image).shape[1] * 3 // 4
    columns = ("image", "reference", "prediction")
    assert reading([without], columns).startswith("Rows: axial, coronal, sagittal. Columns: reference, prediction. ")
    assert "Columns: image, reference, prediction." in reading([with_image, without], columns)


def test_captions_speak_of_sides_only_where_they_are_known() -> None:
    known, unknown = thumbnail(look(), {}), thumbnail(look(sides=False), {})
    assert reading([known, unknown]) == CONVENTION
    assert reading([unknown]) == ""
    assert reading([unknown], ("image", "mask")) == "Columns: image, mask."
