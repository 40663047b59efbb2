"""Masks, references and images by their names, as a dataset pairs images and labels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autoseg.dataset.pairing import images_for, nothing_paired, pair_up
from autoseg.errors import UsageError


def files(folder: Path, *names: str) -> Path:
    """A folder of empty files: only names are looked at."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def told(masks: Path, references: Path) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Case -> names of mask and reference; and what has no partner."""
    pairs, failures = pair_up(masks, references)
    return {case.id: (mask.name, case.label_paths[0].name) for mask, case in pairs}, failures


@pytest.mark.parametrize(
    ("mask", "reference"),
    [
        ("scan_021.nii.gz", "scan_021.nii.gz"),
        ("scan_021.nii.gz", "scan_021_seg.nii.gz"),
        ("scan_021.nii.gz", "scan_021-Mask.nrrd"),
        ("scan_021_seg.nii.gz", "scan_021.nii.gz"),
        ("scan_021.nii.gz", "scan_021_0000.nii.gz"),
    ],
)
def test_a_last_word_of_either_side_does_not_matter(mask: str, reference: str, tmp_path: Path) -> None:
    masks, references = files(tmp_path / "a", mask), files(tmp_path / "b", reference)
    assert told(masks, references) == ({"scan_021": (mask, reference)}, {})
    assert told(masks / mask, references) == ({"scan_021": (mask, reference)}, {})


def test_what_has_no_partner_is_told(tmp_path: Path) -> None:
    masks = files(tmp_path / "a", "one.nii.gz", "two.nii.gz")
    references = files(tmp_path / "b", "two_seg.nii.gz", "three_seg.nii.gz")
    pairs, failures = told(masks, references)
    assert pairs == {"two": ("two.nii.gz", "two_seg.nii.gz")}
    assert failures == {"one": "has no reference", "three_seg": "has no mask"}


def test_folders_of_a_file_per_label_are_references(tmp_path: Path) -> None:
    masks = files(tmp_path / "a", "one.nii.gz", "two.nii.gz")
    references = files(tmp_path / "b", "one/liver.nii.gz", "one/spleen.nii.gz", "three/liver.nii.gz")
    pairs, failures = told(masks, references)
    assert pairs == {"one": ("one.nii.gz", "liver.nii.gz")}
    assert failures == {"two": "has no reference", "three": "has no mask"}


def test_several_partners_are_refused_by_name(tmp_path: Path) -> None:
    both = files(tmp_path / "a", "s_seg.nii.gz", "s.nii.gz")
    with pytest.raises(UsageError, match=re.escape("the mask s.nii.gz: s.nii.gz, s_seg.nii.gz")):
        pair_up(files(tmp_path / "b", "s.nii.gz"), both)
    two = files(tmp_path / "c", "x_seg.nii.gz", "x_mask.nii.gz")
    with pytest.raises(UsageError, match=re.escape("the reference x.nii.gz: x_mask.nii.gz, x_seg.nii.gz")):
        pair_up(two, files(tmp_path / "d", "x.nii.gz"))


def test_the_same_name_comes_before_a_last_word(tmp_path: Path) -> None:
    masks = files(tmp_path / "a", "scan.nii.gz", "scan_seg.nii.gz")
    pairs, failures = told(masks, files(tmp_path / "b", "scan.nii.gz"))
    assert pairs == {"scan": ("scan.nii.gz", "scan.nii.gz")}
    assert failures == {"scan_seg": "has no reference"}


def test_where_nothing_fits_both_sides_are_named_and_what_to_call_them(tmp_path: Path) -> None:
    masks, references = files(tmp_path / "a", "scan_021.nii.gz"), files(tmp_path / "b", "patient-21.nii.gz")
    assert pair_up(masks, references)[0] == []
    error = nothing_paired(masks, references)
    assert "a mask is called scan_021.nii.gz, a reference patient-21.nii.gz" in error.what
    assert "scan_021.nii.gz or scan_021_seg.nii.gz" in str(error.remedy)
    empty = files(tmp_path / "c", "notes.txt")
    assert "holds no mask" in nothing_paired(empty, references).what
    assert "holds no label map" in nothing_paired(masks, empty).what


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("one_0000.nii.gz", "one_0001.nii.gz", "two_0000.nii.gz", "two_0001.nii.gz"), "one_0000.nii.gz"),
        (("one.nii.gz", "two.nii.gz"), "one.nii.gz"),
        (("one_img.nii.gz", "three.nii.gz"), "one_img.nii.gz"),
        (("one/one-t1.nii.gz", "one/one-seg.nii.gz"), "one-t1.nii.gz"),
    ],
)
def test_images_are_found_by_the_names_of_masks(names: tuple[str, ...], shown: str, tmp_path: Path) -> None:
    masks, references = files(tmp_path / "a", "one.nii.gz"), files(tmp_path / "b", "one_seg.nii.gz")
    pairs, _ = pair_up(masks, references)
    images = images_for(files(tmp_path / "c", *names), pairs)
    assert set(images) == {"one"}
    assert images["one"][0].name == shown


def test_a_list_or_one_file_may_be_named_for_images(tmp_path: Path) -> None:
    pairs, _ = pair_up(files(tmp_path / "a", "one.nii.gz"), files(tmp_path / "b", "one.nii.gz"))
    images = files(tmp_path / "c", "x.nii.gz")
    assert images_for(images / "x.nii.gz", pairs)["one"] == (images / "x.nii.gz",)
    (tmp_path / "list.csv").write_text("case,channel,path\none,0,c/x.nii.gz\none,1,c/y.nii.gz\n")
    assert images_for(tmp_path / "list.csv", pairs)["one"] == (images / "x.nii.gz",)


def test_images_that_are_not_there_are_told(tmp_path: Path) -> None:
    pairs, _ = pair_up(files(tmp_path / "a", "one.nii.gz"), files(tmp_path / "b", "one.nii.gz"))
    with pytest.raises(UsageError, match="does not exist"):
        images_for(tmp_path / "nowhere", pairs)
    with pytest.raises(UsageError, match=re.escape("an image is called x.nii.gz, a mask one.nii.gz")):
        images_for(files(tmp_path / "c", "x.nii.gz"), pairs)
