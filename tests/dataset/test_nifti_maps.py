from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from autoseg.dataset.image_sides import side_names
from autoseg.dataset.nifti_maps import FULL, is_map, write_map
from autoseg.dataset.readers import read_geometry, write_labels
from autoseg.records import Geometry

AFFINE = np.array([[0, -2, 0.1, 5], [0.1, 0, 1, -3], [1.5, 0.1, 0, 2], [0, 0, 0, 1]], dtype=float)


def an_image(path: Path, shape: tuple[int, ...] = (4, 5, 6), kind: type = nibabel.Nifti1Image) -> Path:
    image = kind(np.zeros(shape, dtype=np.int16), AFFINE)
    image.set_qform(np.diag([2.0, 3.0, 4.0, 1.0]), code=2)
    image.set_sform(AFFINE, code=3)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"of a person"
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_maps_are_placed_as_masks_are(tmp_path: Path, kind: type) -> None:
    image = an_image(tmp_path / "image.nii", kind=kind)
    geometry, _ = read_geometry(image)
    write_labels(tmp_path / "mask.nii.gz", np.zeros((6, 5, 4), np.uint8), geometry, image)
    values = np.random.default_rng(0).integers(0, FULL, (3, 6, 5, 4)).astype(np.uint16)
    write_map(tmp_path / "map.nii.gz", values, 1 / FULL, geometry, image)
    mask, stored = nibabel.load(tmp_path / "mask.nii.gz"), nibabel.load(tmp_path / "map.nii.gz")
    for field in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d"):
        assert mask.header[field].tobytes() == stored.header[field].tobytes()
    assert stored.shape == (4, 5, 6, 3)
    assert stored.header["descrip"].item() == b""
    np.testing.assert_allclose(np.transpose(stored.get_fdata()), values / FULL, atol=1e-7)


def test_other_programs_read_fractions(tmp_path: Path) -> None:
    values = np.full((6, 5, 4), FULL, dtype=np.uint16)
    geometry, _ = read_geometry(an_image(tmp_path / "image.nii"))
    write_map(tmp_path / "map.nii.gz", values, 1 / FULL, geometry)
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "map.nii.gz")))
    np.testing.assert_allclose(read, 1.0, atol=1e-6)


def test_floats_are_rounded_and_held_in_range(tmp_path: Path) -> None:
    values = np.array([[[0.0, 0.0124, 1.5, 90.0, -0.001]]], dtype=np.float32)
    geometry = Geometry(shape=(1, 1, 5), affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))
    write_map(tmp_path / "map.nii.gz", values, 0.001, geometry)
    found = nibabel.load(tmp_path / "map.nii.gz").get_fdata().ravel()
    np.testing.assert_allclose(found, [0, 0.012, 1.5, 65.535, 0], atol=1e-5)


def test_equal_maps_are_equal_bytes_and_known_for_ours(tmp_path: Path) -> None:
    image = an_image(tmp_path / "image.nii.gz")
    geometry, _ = read_geometry(image)
    files = [tmp_path / f"{number}.nii.gz" for number in range(2)]
    for file in files:
        write_map(file, np.ones((6, 5, 4), dtype=np.uint16), 1.0, geometry, image)
        assert is_map(file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(gzip.decompress(files[0].read_bytes())) == 352 + 6 * 5 * 4 * 2
    assert not is_map(image)
    assert not is_map(tmp_path / "gone.nii.gz")


def test_sides_are_the_patients() -> None:
    grid = ((0, -1, 0, 0), (0, 0, -1, 0), (1, 0, 0, 0), (0, 0, 0, 1))  # i runs up, j to the left, k to the back
    geometry = Geometry(shape=(3, 4, 5), affine=tuple(tuple(map(float, row)) for row in grid))  # type: ignore[arg-type]
    assert side_names(geometry) == (("anterior", "posterior"), ("right", "left"), ("inferior", "superior"))
    assert side_names(geometry.model_copy(update={"flat": True}))[2] == ("left edge", "right edge")
