"""Voxel sizes of TIFF stacks: nnU-Net's JSON files, OME-XML, ImageJ's lines, and what becomes of them in masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from autoseg.dataset.label_files import on_one_grid, read_case_labels
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import files_of, read_geometry, read_image, read_labels, write_labels
from autoseg.errors import ReadError
from autoseg.records import Case, Geometry, Labels

LABELS = Labels(names={"background": 0, "cell": 1})
MICRON = 1e-3


def stack(dtype: str = "uint16") -> np.ndarray:
    return (np.arange(3 * 4 * 5) % 2).reshape(3, 4, 5).astype(dtype)


def plain(path: Path, array: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, stack() if array is None else array, photometric="minisblack", metadata=None)
    return path


def spacing_of(path: Path) -> tuple[float, float, float]:
    """As read with the voxels, which has to be as read from the header."""
    volume = read_image([path])
    assert read_geometry(path)[0] == volume.geometry
    return volume.geometry.spacing


def tell(path: Path, spacing: object) -> Path:
    path.write_text(json.dumps({"spacing": spacing}), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------------ nnU-Net's JSON


def test_the_file_beside_an_image_has_no_channel_number_and_the_order_of_the_array(tmp_path: Path) -> None:
    first, second = plain(tmp_path / "cell_0000.tif"), plain(tmp_path / "cell_0001.tif")
    told = tell(tmp_path / "cell.json", [3, 2.0, 0.5])
    volume = read_image([first, second])
    assert volume.geometry.spacing == spacing_of(second) == (3.0, 2.0, 0.5)
    assert np.diag(volume.geometry.matrix).tolist() == [0.5, 2.0, 3.0, 1.0]
    assert volume.notes == ()
    assert files_of(first) == (first, told)  # what is prepared of it is stale when the file changes


def test_a_name_of_its_own_comes_first(tmp_path: Path) -> None:
    """Label files of cases that end in a number."""
    tell(tmp_path / "cell.json", [1, 1, 1])
    tell(tmp_path / "cell_0003.json", [4, 2, 2])
    assert read_labels(plain(tmp_path / "cell_0003.tiff")).geometry.spacing == (4.0, 2.0, 2.0)


def test_it_is_taken_before_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    imagej(path, spacing=0.5, unit="um")
    tell(tmp_path / "a.json", [7, 8, 9])
    assert spacing_of(path) == (7.0, 8.0, 9.0)


@pytest.mark.parametrize("content", ["", "{", '{"spacing": [1, 1', "\x00", "[" * 100_000])
def test_a_broken_file_is_named(content: str, tmp_path: Path) -> None:
    path = plain(tmp_path / "cell_0000.tif")
    (tmp_path / "cell.json").write_text(content, encoding="utf-8")
    for read in (lambda: read_image([path]), lambda: read_labels(path), lambda: read_geometry(path)):
        with pytest.raises(ReadError, match=r"cell\.json: is no JSON"):
            read()


@pytest.mark.parametrize(
    "spacing", [None, 1, [1, 1], [1, 1, 1, 1], [1, 0, 1], [1, -1, 1], [1, "1", 1], [True, 1, 1], [1, 1e300, 1]]
)
def test_sizes_that_no_voxel_has_are_named(spacing: object, tmp_path: Path) -> None:
    path = plain(tmp_path / "cell.tif")
    tell(tmp_path / "cell.json", spacing)
    with pytest.raises(ReadError, match=r"cell\.json: field spacing: .* is not three voxel sizes"):
        read_image([path])


def test_numbers_that_are_none_are_named(tmp_path: Path) -> None:
    path = plain(tmp_path / "cell.tif")
    for entry in ("NaN", "Infinity", "1" + "0" * 400):
        (tmp_path / "cell.json").write_text(f'{{"spacing": [1, {entry}, 1]}}', encoding="utf-8")
        with pytest.raises(ReadError, match="is not three voxel sizes"):
            read_image([path])


@pytest.mark.parametrize("content", ['{"Manufacturer": "x"}', "[1, 2, 3]", "7"])
def test_a_file_that_tells_of_something_else_tells_nothing(content: str, tmp_path: Path) -> None:
    path = plain(tmp_path / "cell.tif")
    (tmp_path / "cell.json").write_text(content, encoding="utf-8")
    volume = read_image([path])
    assert volume.geometry.spacing == (1.0, 1.0, 1.0)
    assert "1 mm is assumed" in volume.notes[0]


def test_pictures_stay_pictures(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.tif", stack()[0])
    (tmp_path / "a.json").write_text("{", encoding="utf-8")
    assert spacing_of(path) == (999.0, 1.0, 1.0)


# ------------------------------------------------------------------------------------------------ OME and ImageJ


def ome(path: Path, **metadata: Any) -> Path:
    tifffile.imwrite(path, stack(), ome=True, photometric="minisblack", metadata={"axes": "ZYX", **metadata})
    return path


def imagej(path: Path, pixels: tuple[float, float] = (4.0, 2.0), **metadata: Any) -> Path:
    """`pixels` are those per unit along X and Y."""
    tifffile.imwrite(path, stack(), imagej=True, resolution=pixels, metadata={"axes": "ZYX", **metadata})
    return path


def test_ome_tells_sizes_in_micrometres_unless_it_names_a_unit(tmp_path: Path) -> None:
    path = ome(tmp_path / "a.tif", PhysicalSizeX=0.25, PhysicalSizeY=0.5, PhysicalSizeZ=2)
    assert spacing_of(path) == pytest.approx((2 * MICRON, 0.5 * MICRON, 0.25 * MICRON))
    assert read_image([path]).notes == ()


@pytest.mark.parametrize(
    ("unit", "factor"), [("mm", 1), ("cm", 10), ("nm", 1e-6), ("µm", MICRON), ("μm", MICRON), ("m", 1000), ("Å", 1e-7)]
)
def test_units_of_ome(unit: str, factor: float, tmp_path: Path) -> None:
    units = {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
    path = ome(tmp_path / "a.tif", PhysicalSizeX=3, PhysicalSizeY=4, PhysicalSizeZ=5, **units)
    assert spacing_of(path) == pytest.approx((5 * factor, 4 * factor, 3 * factor))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("um", MICRON),
        ("microns", MICRON),
        ("\\u00B5m", MICRON),
        ("mm", 1),
        ("inch", 25.4),
        ("millimeter", 1),
        ("Nanometres", 1e-6),
        ("cm", 10),
    ],
)
def test_imagej_tells_pixels_per_unit_and_the_distance_of_slices(unit: str, factor: float, tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif", spacing=1.5, unit=unit)
    assert spacing_of(path) == pytest.approx((1.5 * factor, 0.5 * factor, 0.25 * factor))
    assert read_image([path]).notes == ()


@pytest.mark.parametrize("unit", ["pixel", "", "furlong"])
def test_a_unit_that_is_no_length_tells_nothing(unit: str, tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif", spacing=1.5, unit=unit)
    assert spacing_of(path) == (1.0, 1.0, 1.0)
    assert "1 mm is assumed" in read_image([path]).notes[0]


def test_dots_per_inch_tell_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(), photometric="minisblack", resolution=(72, 72), resolutionunit="INCH", metadata=None)
    assert spacing_of(path) == (1.0, 1.0, 1.0)


def test_an_untold_distance_of_slices_is_that_of_the_rows_and_said(tmp_path: Path) -> None:
    for path in (
        imagej(tmp_path / "a.tif", unit="mm"),
        ome(tmp_path / "b.tif", PhysicalSizeX=250, PhysicalSizeY=500),
    ):
        assert spacing_of(path) == pytest.approx((0.5, 0.5, 0.25))
        assert "not how far apart its slices" in read_image([path]).notes[0]


# ---------------------------------------------------------------------------------------------------------- masks


def test_a_mask_tells_the_voxel_size_and_equal_masks_are_equal_files(tmp_path: Path) -> None:
    plain(tmp_path / "a_0000.tif")
    tell(tmp_path / "a.json", [1 / 3, 2e-4, 0.7])
    geometry = read_geometry(tmp_path / "a_0000.tif")[0]
    for dtype, name in (("uint8", "masks/a.tif"), ("uint32", "masks/b.tif"), ("uint32", "masks/c.tif")):
        mask = stack(dtype) * (1 if dtype == "uint8" else 70_000)
        (tmp_path / "masks").mkdir(exist_ok=True)
        write_labels(tmp_path / name, mask, geometry, tmp_path / "a_0000.tif")
        found = read_labels(tmp_path / name)
        assert found.geometry == geometry
        assert found.notes == ()
        np.testing.assert_array_equal(found.labels, mask)
    assert (tmp_path / "masks/b.tif").read_bytes() == (tmp_path / "masks/c.tif").read_bytes()
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a.tif", "b.tif", "c.tif"]


def test_labels_that_tell_nothing_lie_on_their_image(tmp_path: Path) -> None:
    """nnU-Net asks for a JSON file beside each; drawn labels mostly have none."""
    case = Case(
        id="a", images=(plain(tmp_path / "images/a_0000.tif"),), labels=plain(tmp_path / "labels/a.tif", stack("uint8"))
    )
    tell(tmp_path / "images/a.json", [3, 2, 1])
    found = read_case_labels(case, LABELS)
    assert found.geometry == read_geometry(case.images[0])[0]
    assert found.notes == ()
    tell(tmp_path / "labels/a.json", [3, 2, 2])  # what is told is believed
    assert read_case_labels(case, LABELS).geometry.spacing == (3.0, 2.0, 2.0)
    files = case.model_copy(update={"labels": None, "label_files": (("cell", plain(tmp_path / "cell/b.tif")),)})
    assert read_case_labels(files, LABELS).geometry.spacing == (3.0, 2.0, 1.0)
    ids = case.model_copy(update={"labels": None, "instances": plain(tmp_path / "ids/a.tif")})
    counted = Labels(
        names={"background": 0, "cell": (1, 2), "cell core": 2}, things={"cell": "cell core"}, core_margin_mm=0.5
    )
    assert read_case_labels(ids, counted).geometry.spacing == (3.0, 2.0, 1.0)


def test_masks_and_references_lend_one_another_what_is_told(tmp_path: Path) -> None:
    told = Geometry(shape=(3, 4, 5), affine=((2, 0, 0, 0), (0, 2, 0, 0), (0, 0, 4, 0), (0, 0, 0, 1)), placed=False)
    write_labels(tmp_path / "told.tif", stack("uint8"), told)
    untold = plain(tmp_path / "untold.tif", stack("uint8"))
    for mask_file, reference_file in ((tmp_path / "told.tif", untold), (untold, tmp_path / "told.tif")):
        reference = Case(id="a", images=(), labels=reference_file)
        mask, found = on_one_grid(read_labels(mask_file), mask_file, read_labels(reference_file), reference)
        assert mask.geometry == found.geometry == told


def test_a_dataset_of_nnunet_with_spacing_files_is_whole(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plain(tmp_path / f"imagesTr/{name}_0000.tif")
        plain(tmp_path / f"labelsTr/{name}.tif", stack("uint8"))
        tell(tmp_path / f"imagesTr/{name}.json", [3, 2, 1])
        tell(tmp_path / f"labelsTr/{name}.json", [3, 2, 1])
    record = {"channel_names": {"0": "microscope"}, "labels": LABELS.names, "numTraining": 2, "file_ending": ".tif"}
    (tmp_path / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert {read_case_labels(case, LABELS).geometry.spacing for case in dataset.cases} == {(3.0, 2.0, 1.0)}
