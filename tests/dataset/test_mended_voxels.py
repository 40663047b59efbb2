"""Images without the voxels that are no numbers, written again in their own format with all else the same."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from autoseg.dataset.readers import READERS, read_image, replace_not_finite
from autoseg.errors import ReadError

SHAPE = (3, 4, 5)  # (Z, Y, X)


def an_image(channels: int = 1) -> np.ndarray:
    """(C, Z, Y, X) with some voxels that are no numbers."""
    image = np.random.default_rng(0).normal(size=(channels, *SHAPE)).astype(np.float32)
    for number, channel in enumerate(image):
        channel[0, 0, number] = np.nan
        channel[1, 2, 3], channel[2, 0, number] = np.inf, -np.inf
    return image


def wanted(image: np.ndarray) -> np.ndarray:
    lowest = [channel[np.isfinite(channel)].min() for channel in image]
    return np.where(np.isfinite(image), image, np.reshape(lowest, (-1, 1, 1, 1)))


def an_itk_file(path: Path, image: np.ndarray) -> None:
    several = len(image) > 1
    made = sitk.GetImageFromArray(np.moveaxis(image, 0, -1) if several else image[0], isVector=several)
    made.SetSpacing((0.7, 0.8, 2.5))
    made.SetOrigin((-3.0, 4.25, 100.0))
    made.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    made.SetMetaData("StudyNote", "kept as it is")
    sitk.WriteImage(made, str(path))


@pytest.mark.parametrize(("ending", "channels"), [(".mha", 1), (".mha", 3), (".nrrd", 1), (".nrrd", 3), (".gipl", 1)])
def test_itk_images_keep_their_header(ending: str, channels: int, tmp_path: Path) -> None:
    path, out, image = tmp_path / f"x{ending}", tmp_path / f"y{ending}", an_image(channels)
    an_itk_file(path, image)
    before = path.read_bytes()
    replace_not_finite(path, out)
    np.testing.assert_array_equal(read_image([out]).image, wanted(image))
    assert path.read_bytes() == before
    old, new = sitk.ReadImage(str(path)), sitk.ReadImage(str(out))
    for field in ("Spacing", "Origin", "Direction", "Size", "PixelID"):
        assert getattr(new, f"Get{field}")() == getattr(old, f"Get{field}")()
    kept = {name: old.GetMetaData(name) for name in old.GetMetaDataKeys()}
    assert {name: new.GetMetaData(name) for name in new.GetMetaDataKeys()} == kept


def test_channels_in_the_fourth_dimension_are_each_their_own(tmp_path: Path) -> None:
    path, out, image = tmp_path / "x.nrrd", tmp_path / "y.nrrd", an_image(2)
    sitk.WriteImage(sitk.GetImageFromArray(image, isVector=False), str(path))
    replace_not_finite(path, out)
    np.testing.assert_array_equal(read_image([out]).image, wanted(image))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("slope", [2.0, -2.0])
def test_nifti_images_change_in_those_voxels_alone(ending: str, slope: float, tmp_path: Path) -> None:
    path, out, image = tmp_path / f"x{ending}", tmp_path / f"y{ending}", an_image()
    made = nibabel.Nifti1Image(image[0].T, np.diag([2.0, 3.0, 4.0, 1.0]))
    head = made.to_bytes()
    plain = head[:112] + struct.pack("<ff", slope, 1.0) + head[120:]
    path.write_bytes(gzip.compress(plain) if ending.endswith("gz") else plain)
    found = read_image([path]).image
    np.testing.assert_allclose(found, image * slope + 1.0, rtol=1e-5, atol=1e-5)
    expected = wanted(found)
    replace_not_finite(path, out)
    np.testing.assert_array_equal(read_image([out]).image, expected)
    written = gzip.decompress(out.read_bytes()) if ending.endswith("gz") else out.read_bytes()
    assert written[:352] == plain[:352]


@pytest.mark.parametrize(("axes", "order"), [("ZYX", (1, 2, 3)), ("ZCYX", (1, 0, 2, 3)), ("ZYXS", (1, 2, 3, 0))])
def test_a_tiff_changes_in_those_voxels_alone(axes: str, order: tuple[int, ...], tmp_path: Path) -> None:
    path, out = tmp_path / "x.tif", tmp_path / "y.tif"
    image = an_image(1 if len(order) == 3 else 3)
    stored = np.transpose(image, (*(axis for axis in range(4) if axis not in order), *order))
    stored = stored.reshape(stored.shape[-len(order) :])
    tifffile.imwrite(
        path,
        stored,
        metadata={"axes": axes},
        photometric="rgb" if axes.endswith("S") else "minisblack",
        description=None,
        resolution=(100, 50),
    )
    replace_not_finite(path, out)
    np.testing.assert_array_equal(read_image([out]).image, wanted(image))
    old, new = path.read_bytes(), out.read_bytes()
    changed = sum(a != b for a, b in zip(old, new, strict=True))
    assert 0 < changed <= 4 * int((~np.isfinite(image)).sum())


def test_a_compressed_tiff_is_not_written_again(tmp_path: Path) -> None:
    path, out = tmp_path / "x.tif", tmp_path / "y.tif"
    tifffile.imwrite(path, an_image()[0], compression="zlib", photometric="minisblack")
    with pytest.raises(ReadError, match="compressed"):
        replace_not_finite(path, out)
    assert not list(tmp_path.glob("*y.tif*"))


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".tif", ".nii.gz"])
def test_a_channel_without_numbers_is_refused(ending: str, tmp_path: Path) -> None:
    path, nothing = tmp_path / f"x{ending}", np.full(SHAPE, np.nan, np.float32)
    if ending == ".tif":
        tifffile.imwrite(path, nothing, photometric="minisblack")
    else:
        sitk.WriteImage(sitk.GetImageFromArray(nothing), str(path))
    with pytest.raises(ReadError, match="no number at all"):
        replace_not_finite(path, tmp_path / f"y{ending}")


@pytest.mark.parametrize("ending", [ending for ending, reader in READERS.items() if reader.replace_not_finite is None])
def test_the_others_say_that_they_are_not_written_again(ending: str, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="not written again"):
        replace_not_finite(tmp_path / f"x{ending}", tmp_path / f"y{ending}")
