from __future__ import annotations

from autoseg.dataset.leaks import parted, same_image_problems, same_images
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
