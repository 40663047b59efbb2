from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.checks import check_case
from autoseg.records import Case, Geometry, LabelMap, Labels, Problem, Volume

CASE = Case(id="a", images=(Path("a_0000.nii.gz"), Path("a_0001.nii.gz")), labels=Path("a.nii.gz"))
LABELS = Labels(names={"background": 0, "x": 1, "y": 5}, ignore=9)
SHAPE = (4, 5, 6)


def grid(shift: float = 0.0, spacing: float = 1.0, shape: tuple[int, int, int] = SHAPE) -> Geometry:
    return Geometry(shape=shape, affine=((spacing, 0, 0, shift), (0, 1, 0, 0), (0, 0, 2, 0), (0, 0, 0, 1)))


def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


def labelled() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, :3] = (1, 5, 9)
    return labels


def check(
    image_: np.ndarray | None = None, labels: np.ndarray | None = None, geometry: Geometry | None = None
) -> list[Problem]:
    volume = Volume(image() if image_ is None else image_, grid())
    label_map = LabelMap(labelled() if labels is None else labels, geometry or grid())
    return check_case(CASE, volume, label_map, LABELS, 2)


def only(problems: list[Problem]) -> Problem:
    (problem,) = problems
    return problem


def test_a_good_case_has_no_problem() -> None:
    assert check() == []
    assert check_case(CASE, Volume(image(), grid()), None, LABELS) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted(bad: float) -> None:
    broken = image()
    broken[1, 0, 0, :3] = bad
    problem = only(check(broken))
    assert (problem.severity, problem.kind) == ("error", "not-finite")
    assert "channel 1 has 3 voxels" in problem.what
    assert problem.file == CASE.images[1]


def test_a_constant_channel_is_a_warning() -> None:
    constant = image()
    constant[0] = 7
    assert only(check(constant)).model_dump(include={"severity", "kind"}) == {
        "severity": "warning",
        "kind": "constant-channel",
    }


def test_channels_are_counted() -> None:
    assert only(check(image()[:1])).kind == "channel-count"


def test_shapes_must_agree() -> None:
    problem = only(check(labels=np.ones((4, 5, 7), np.uint8), geometry=grid(shape=(4, 5, 7))))
    assert problem.kind == "shape-mismatch"
    assert "(4, 5, 7)" in problem.what


def test_grids_are_compared_in_millimetres() -> None:
    assert check(geometry=grid(1e-6)) == []
    assert only(check(geometry=grid(0.3))).severity == "warning"
    problem = only(check(geometry=grid(12.0)))
    assert (problem.severity, problem.kind) == ("error", "geometry-mismatch")
    assert "12 mm" in problem.what
    assert "voxels are 2 x 1 x 1 mm in the image and 2 x 1 x 3 mm" in only(check(geometry=grid(spacing=3.0))).what


def test_undeclared_values_are_counted() -> None:
    labels = labelled()
    labels[1, 0, :4] = 4
    problem = only(check(labels=labels))
    assert problem.kind == "undeclared-value"
    assert "4 (4 voxels)" in problem.what
    assert "0 to 1, 5, 9" in problem.what


def test_fractions_are_counted() -> None:
    labels = labelled().astype(np.float32)
    labels[1, 0, :2] = 0.5
    problem = only(check(labels=labels))
    assert problem.kind == "fractional-labels"
    assert problem.what.startswith("2 voxels")
    labels[0, 0, 0] = np.nan
    assert {problem.kind for problem in check(labels=labels)} == {"fractional-labels", "not-finite"}


def test_an_image_as_labels_is_recognized() -> None:
    labels = np.arange(120).reshape(SHAPE).astype(np.int16) * 8 - 1024
    assert only(check(labels=labels)).kind == "label-looks-like-image"


def test_an_image_of_fractions_as_labels_is_recognized() -> None:
    shape = (8, 8, 8)
    volume = Volume(np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32), grid(shape=shape))
    labels = LabelMap(np.linspace(-10.3, 900.7, 512).reshape(shape), grid(shape=shape))
    problem = only(check_case(CASE, volume, labels, LABELS, 2))
    assert problem.kind == "label-looks-like-image"
    assert "fractions between -10.3 and 900.7" in problem.what


def test_interpolated_labels_are_recognized() -> None:
    assert only(check(labels=(np.arange(120) * 2).reshape(SHAPE).astype(np.uint8))).kind == "interpolated-labels"


def test_empty_labels_are_a_note() -> None:
    assert only(check(labels=np.zeros(SHAPE, np.uint8))).severity == "note"


def test_notes_of_the_readers_are_told() -> None:
    volume = Volume(image(), grid(), ("its sform and qform differ",))
    problem = only(check_case(CASE, volume, LabelMap(labelled(), grid()), LABELS))
    assert (problem.severity, problem.kind) == ("note", "header")
