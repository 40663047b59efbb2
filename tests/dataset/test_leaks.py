from __future__ import annotations

from autoseg.dataset.leaks import (
    parted,
    patient_problems,
    same_image_problems,
    same_images,
    same_label_problems,
)
from autoseg.records import CaseFingerprint, Fold


def case(name: str, content: str) -> CaseFingerprint:
    return CaseFingerprint(
        case=name,
        shape=(2, 2, 2),
        spacing=(1, 1, 1),
        shape_after_crop=(2, 2, 2),
        orientation="RAS",
        voxels_per_label={},
        content=content,
    )


def test_equal_contents_are_found() -> None:
    cases = [case("d", "1"), case("b", "2"), case("a", "1"), case("c", "3"), case("e", "2"), case("f", "1")]
    assert same_images(cases) == (("a", "d", "f"), ("b", "e"))
    first, second = same_image_problems(cases)
    assert (first.severity, first.kind, first.case) == ("warning", "same-image", "a")
    assert "3 cases have the same image, voxel for voxel: a, d, f" in first.what
    assert second.case == "b"


def test_unknown_contents_are_not_equal() -> None:
    assert same_images([case("a", ""), case("b", "")]) == ()


def test_groups_in_both_parts_of_a_fold() -> None:
    folds = (Fold(train=("a", "b", "c"), val=("d",)), Fold(train=("b", "d"), val=("a", "c")))
    assert parted([("a", "c"), ("a", "b"), ("d", "x")], folds) == (("a", "b"),)


def test_the_same_labels_on_different_images_are_found() -> None:
    cases = [case("a", "1"), case("b", "2"), case("c", "3"), case("d", "3")]
    (problem,) = same_label_problems([("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")], cases)
    assert (problem.kind, problem.case) == ("same-labels", "a")
    assert "2 cases have the same labels, voxel for voxel, on different images: a, b" in problem.what
    assert same_label_problems([("a", ""), ("b", "")], cases) == ()


def test_patients_in_both_parts_of_a_fold_or_among_the_test_cases() -> None:
    shared = {"p": ("p_1", "p_2"), "q": ("q_1", "q_2")}
    parts = [Fold(train=("p_1", "q_1", "q_2"), val=("p_2",))]
    (problem,) = patient_problems(shared, parts, (), "ids")
    assert (problem.kind, problem.case) == ("patient-in-several-folds", "p_1")
    (problem,) = patient_problems(shared, (), ("q_2",), "ids")
    assert problem.kind == "patient-in-test"
    assert problem.what.startswith("q, told by ids, has test cases")
