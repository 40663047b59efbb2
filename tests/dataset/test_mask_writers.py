"""Masks with the names and colours of their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from autoseg.dataset.colours import colour_of, colour_table, named_labels, write_colour_table
from autoseg.dataset.mask_writers import LIKE_IMAGE, NIFTI, NRRD, mask_path
from autoseg.dataset.readers import read_labels
from autoseg.records import Case, Geometry, Labels

LABELS = Labels(names={"background": 0, "liver": 1, "left kidney": 5, "Größe": 300})
GRID = Geometry(shape=(3, 4, 5), affine=((-0.7, 0, 0, 3), (0, 0.8, 0, -4), (0, 0, 2.5, 5), (0, 0, 0, 1)))
MASK = np.random.default_rng(0).choice([0, 1, 5, 300], GRID.shape)


@pytest.mark.parametrize(("image", "ending"), [("a.nrrd", ".nrrd"), ("a.nii.gz", ".seg.nrrd")])
def test_nrrd_masks_hold_what_slicer_shows(image: str, ending: str, tmp_path: Path) -> None:
    case = Case(id="a", images=(tmp_path / image,))
    writer = LIKE_IMAGE if image == "a.nrrd" else NRRD
    path = mask_path(case, tmp_path, writer)
    assert path.name == f"a{ending}"
    writer.write(path, MASK, GRID, case, LABELS)
    np.testing.assert_array_equal(read_labels(path).labels, MASK)
    header = sitk.ReadImage(str(path))
    told = {key: header.GetMetaData(key) for key in header.GetMetaDataKeys() if key.startswith("Segment")}
    for number, (name, value) in enumerate([("liver", 1), ("left kidney", 5), ("Größe", 300)]):
        assert told[f"Segment{number}_Name"] == name
        assert told[f"Segment{number}_LabelValue"] == str(value)
        assert told[f"Segment{number}_Extent"] == "0 4 0 3 0 2"
        red, green, blue = (float(part) for part in told[f"Segment{number}_Color"].split())
        assert np.allclose((red, green, blue), np.array(colour_of(name, value)) / 255, atol=1e-3)


def test_nifti_whatever_the_image_is(tmp_path: Path) -> None:
    case = Case(id="a", images=(tmp_path / "a.png",))
    assert mask_path(case, tmp_path, NIFTI).name == "a.nii.gz"
    NIFTI.write(tmp_path / "a.nii.gz", MASK, GRID, case, LABELS)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.nii.gz").labels, MASK)


def test_colour_tables_have_the_form_of_slicer() -> None:
    lines = [line for line in colour_table(LABELS).splitlines() if not line.startswith("#")]
    rows = [line.split() for line in lines]
    assert [(int(row[0]), row[1]) for row in rows] == [
        (0, "Background"),
        (1, "liver"),
        (5, "left_kidney"),
        (300, "Größe"),
    ]
    assert all(len(row) == 6 and all(0 <= int(part) <= 255 for part in row[2:]) for row in rows)


def test_colours_are_stable_and_tell_labels_apart() -> None:
    many = [colour_of(f"label_{value}", value) for value in range(1, 118)]
    assert len(set(many)) == len(many)
    assert colour_of("Liver", 1) == colour_of("liver", 9) == colour_of("the_liver", 2)
    assert colour_of("left kidney", 1) != colour_of("right kidney", 2)


def test_values_of_several_regions_are_called_after_all_of_them() -> None:
    labels = Labels(names={"background": 0, "tumour": (1, 2), "core": 2})
    assert [(one.value, one.name) for one in named_labels(labels)] == [(1, "tumour"), (2, "tumour+core")]


def test_tables_of_others_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "labels.ctbl"
    write_colour_table(path, LABELS)
    write_colour_table(path, Labels(names={"background": 0, "spleen": 1}))
    assert "spleen" in path.read_text(encoding="utf-8")
    path.write_text("# mine\n")
    write_colour_table(path, LABELS)
    assert path.read_text() == "# mine\n"
