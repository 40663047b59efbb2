from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from autoseg.dataset import pictures
from autoseg.dataset.geometry import corner_distance_mm
from autoseg.dataset.readers import (
    READERS,
    ending_of,
    mask_ending,
    read_geometry,
    read_image,
    read_labels,
    stem_of,
    write_labels,
)
from autoseg.dataset.voxels import small_integers, smallest_type, whole_values
from autoseg.errors import DatasetError, ReadError
from autoseg.records import Geometry

SaveNifti = Callable[..., Path]

OBLIQUE = np.array([[-0.9, 0.1, 0.2, 12.5], [0.15, 1.2, 0.1, -7.0], [0.05, -0.1, 2.5, 30.0], [0, 0, 0, 1.0]])
FLAT = Geometry(shape=(1, 5, 7), affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)), flat=True)
SPACE = Geometry(shape=(4, 5, 7), affine=((-0.7, 0, 0, 3), (0, 0.8, 0, -4), (0, 0, 2.5, 5), (0, 0, 0, 1)))


def volume(shape: tuple[int, ...] = (4, 5, 6), dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


# ------------------------------------------------------------------------------------- every entry of the table


@pytest.mark.parametrize("ending", READERS)
def test_every_format_writes_and_reads_back_a_mask_and_its_grid(ending: str, tmp_path: Path) -> None:
    reader = READERS[ending]
    geometry = FLAT if ending in (".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff") else SPACE
    labels = np.random.default_rng(1).integers(0, 4, geometry.shape)
    path = tmp_path / f"mask{ending}"
    if reader.mask_ending is not None:
        with pytest.raises(ReadError, match="mask"):
            write_labels(path, labels, geometry)
        path = tmp_path / f"mask{reader.mask_ending}"
    write_labels(path, labels, geometry)
    found = read_labels(path)
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, labels)
    assert found.geometry.shape == geometry.shape
    assert found.geometry.flat == geometry.flat
    assert corner_distance_mm(found.geometry, geometry) < 1e-5
    assert read_geometry(path) == (found.geometry, 1)
    image = read_image([path])
    assert image.image.dtype == np.float32
    np.testing.assert_array_equal(image.image[0], labels)


@pytest.mark.parametrize("ending", READERS)
def test_every_format_refuses_what_it_cannot_read(ending: str, tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("text", b"this is no image " * 40), ("magic", b"\x1f\x8b" + b"x" * 50)):
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(content)
        for read in (lambda file: read_image([file]), read_labels, read_geometry):
            with pytest.raises(ReadError, match=name):
                read(path)
    with pytest.raises(ReadError, match="absent"):
        read_image([tmp_path / f"absent{ending}"])


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".tif"])
def test_a_truncated_file_is_found(ending: str, tmp_path: Path) -> None:
    geometry = FLAT if ending in (".png", ".tif") else SPACE
    path = tmp_path / f"mask{ending}"
    write_labels(path, np.random.default_rng(2).integers(0, 250, geometry.shape), geometry)
    path.write_bytes(path.read_bytes()[: -40 if ending == ".png" else -9])
    with pytest.raises(ReadError, match="mask"):
        read_labels(path)


# -------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "ending", "stem"),
    [
        ("a.nii.gz", ".nii.gz", "a"),
        ("A.B.NII.GZ", ".nii.gz", "A.B"),
        ("a.nii", ".nii", "a"),
        ("x.TIFF", ".tiff", "x"),
        ("notes.txt", None, "notes.txt"),
        ("a.gz", None, "a.gz"),
        (".png", None, ".png"),
    ],
)
def test_endings(name: str, ending: str | None, stem: str) -> None:
    assert ending_of(Path(name)) == ending
    assert stem_of(Path(name)) == stem


def test_mask_endings_are_lossless() -> None:
    assert mask_ending(Path("a.jpg")) == ".png"
    assert mask_ending(Path("a.nii.gz")) == ".nii.gz"
    with pytest.raises(ReadError, match="ending"):
        mask_ending(Path("a.doc"))


# -------------------------------------------------------------------------------------------------------- NIfTI


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "float32", "float64", "int64"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nifti_equals_nibabel(dtype: str, kind: type, tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(kind(volume(dtype=dtype).T, OBLIQUE, dtype=dtype), path)
    found = read_image([path])
    np.testing.assert_array_equal(found.image[0], volume(dtype=dtype))
    np.testing.assert_allclose(found.geometry.matrix, nib.load(path).affine)
    assert len(found.notes) == 1  # the test affine is skewed
    assert "not at right angles (4.4 degrees off)" in found.notes[0]


def test_nifti_scaling_and_byte_order(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume().T, OBLIQUE).as_reoriented(np.array([[0, 1], [1, 1], [2, 1]]))
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    big = nib.Nifti1Image(image.get_fdata(), OBLIQUE, header)
    big.header.set_slope_inter(0.5, -1024)
    nib.save(big, tmp_path / "a.nii")
    expected = nib.load(tmp_path / "a.nii").get_fdata().T
    np.testing.assert_array_equal(read_image([tmp_path / "a.nii"]).image[0], expected.astype(np.float32))


def test_nifti_is_told_by_content(tmp_path: Path, save_nifti: SaveNifti) -> None:
    plain = save_nifti(tmp_path / "a.nii", volume((9, 9, 9)))
    (tmp_path / "b.nii.gz").write_bytes(plain.read_bytes())
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain.read_bytes()))
    half = len(plain.read_bytes()) // 2
    (tmp_path / "d.nii.gz").write_bytes(
        gzip.compress(plain.read_bytes()[:half]) + gzip.compress(plain.read_bytes()[half:])
    )
    for name in ("b.nii.gz", "c.nii", "d.nii.gz"):
        np.testing.assert_array_equal(read_image([tmp_path / name]).image[0], volume((9, 9, 9)))


def test_a_flipped_byte_in_compressed_data_is_found(tmp_path: Path, save_nifti: SaveNifti) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", volume((20, 20, 20)))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum: the voxels can be unpacked all the same
    path.write_bytes(bytes(content))
    with pytest.raises(ReadError, match="damaged"):
        read_image([path])


def test_a_header_of_huge_size_asks_for_no_memory(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(100)))
    with pytest.raises(ReadError, match="cannot hold"):
        read_image([tmp_path / "a.nii.gz"])


def test_further_dimensions_are_channels(tmp_path: Path, save_nifti: SaveNifti) -> None:
    four = volume((2, 4, 5, 6))
    path = save_nifti(tmp_path / "four.nii.gz", four)
    np.testing.assert_array_equal(read_image([path]).image, four)
    assert read_geometry(path)[1] == 2
    with pytest.raises(ReadError, match="2 volumes"):
        read_labels(path)
    single = save_nifti(tmp_path / "single.nii.gz", four[:1])
    np.testing.assert_array_equal(read_labels(single).labels, four[0])
    five = save_nifti(tmp_path / "five.nii.gz", four[:, None])
    assert read_image([five]).image.shape == (2, 4, 5, 6)
    with pytest.raises(ReadError, match="dimensions"):
        read_image([save_nifti(tmp_path / "six.nii.gz", volume((2, 3, 4, 5, 6)))])


def test_nifti_colours_are_channels(tmp_path: Path) -> None:
    colours = np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for number, name in enumerate("RGB"):
        colours[name] = volume((6, 5, 4)) + number
    nib.save(nib.Nifti1Image(colours, np.eye(4)), tmp_path / "a.nii.gz")
    image = read_image([tmp_path / "a.nii.gz"]).image
    assert image.shape == (3, 4, 5, 6)
    np.testing.assert_array_equal(image[2], volume((6, 5, 4)).T + 2)


def test_a_2d_nifti_is_flat(tmp_path: Path, save_nifti: SaveNifti) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", volume((5, 6)), np.diag([0.5, 0.7, 1, 1]))
    found = read_image([path])
    assert found.image.shape == (1, 1, 5, 6)
    assert found.geometry.flat
    assert found.geometry.spacing == pytest.approx((999 * 0.7, 0.7, 0.5))
    write_labels(tmp_path / "mask.nii.gz", np.ones((1, 5, 6), np.uint8), found.geometry, like=path)
    assert nib.load(tmp_path / "mask.nii.gz").shape == (6, 5)


def test_sform_before_qform_with_a_note(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume().T, None)
    image.set_sform(np.diag([1, 1, 2, 1]), code=2)
    image.set_qform(np.diag([-1, 1, 2, 1]), code=1)
    nib.save(image, tmp_path / "a.nii.gz")
    found = read_image([tmp_path / "a.nii.gz"])
    np.testing.assert_allclose(found.geometry.matrix, np.diag([1, 1, 2, 1]))
    assert "sform and qform differ by" in found.notes[0]


def test_an_unusable_sform_falls_to_the_qform_and_says_so(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume().T, None)
    image.set_qform(np.diag([1, 1, 3, 1]), code=1)
    header = nib.Nifti1Header(image.to_bytes()[:348])
    header["sform_code"] = 1
    header["srow_x"] = header["srow_y"] = header["srow_z"] = 0
    (tmp_path / "a.nii").write_bytes(header.binaryblock + image.to_bytes()[348:])
    found = read_image([tmp_path / "a.nii"])
    assert found.geometry.spacing == (3, 1, 1)
    assert "sform is not usable" in found.notes[0]


def test_without_sform_and_qform_nothing_is_known_of_sides(tmp_path: Path) -> None:
    for affine in (None, np.eye(4)):
        nib.save(nib.Nifti1Image(volume().T, affine), tmp_path / "a.nii.gz")
        assert read_image([tmp_path / "a.nii.gz"]).geometry.has_sides == (affine is not None)
    write_labels(tmp_path / "mask.nii.gz", volume(), read_geometry(tmp_path / "a.nii.gz")[0])
    assert read_geometry(tmp_path / "mask.nii.gz")[0].has_sides


def test_units_become_millimetres(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume().T, np.diag([5, 5, 20, 1]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii.gz")
    found = read_image([tmp_path / "a.nii.gz"])
    assert found.geometry.spacing == pytest.approx((0.02, 0.005, 0.005))
    assert found.geometry.spacing == pytest.approx(sitk.ReadImage(str(tmp_path / "a.nii.gz")).GetSpacing()[::-1])
    assert "micrometres" in found.notes[0]


def test_the_mask_keeps_the_header_of_its_image_exactly(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume(dtype="float32").T, None)
    image.set_sform(OBLIQUE, code=2)
    image.set_qform(np.diag([-1, 1, 2, 1]), code=3)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"Name of a person"
    nib.save(image, tmp_path / "image.nii.gz")
    geometry, _ = read_geometry(tmp_path / "image.nii.gz")
    labels = np.zeros(geometry.shape, np.int64)
    labels[0, 1, 2] = 300
    write_labels(tmp_path / "mask.nii.gz", labels, geometry, like=tmp_path / "image.nii.gz")
    before, after = nib.load(tmp_path / "image.nii.gz"), nib.load(tmp_path / "mask.nii.gz")
    for field in (
        "sform_code",
        "qform_code",
        "pixdim",
        "xyzt_units",
        "srow_x",
        "srow_y",
        "srow_z",
        "qoffset_x",
        "quatern_c",
    ):
        np.testing.assert_array_equal(before.header[field], after.header[field], err_msg=field)
    np.testing.assert_array_equal(before.affine, after.affine)
    assert after.get_data_dtype() == np.uint16
    assert after.dataobj.slope == 1
    assert bytes(after.header["descrip"]).strip(b"\0") == b""
    np.testing.assert_array_equal(np.asarray(after.dataobj).T, labels)
    seen_by_itk = sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(seen_by_itk), labels)


def test_equal_masks_are_equal_bytes_and_nothing_else_is_left(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_labels(tmp_path / name / "m.nii.gz", np.ones(SPACE.shape, np.uint8), SPACE)
    assert (tmp_path / "a/m.nii.gz").read_bytes() == (tmp_path / "b/m.nii.gz").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["m.nii.gz"]


@given(
    seed=st.integers(0, 2**31),
    spacing=st.tuples(*[st.floats(0.05, 20)] * 3),
    ending=st.sampled_from([".nii.gz", ".mha", ".nrrd"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_affine_survives_writing(
    seed: int, spacing: tuple[float, float, float], ending: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = turn * spacing
    matrix[:3, 3] = rng.uniform(-500, 500, 3)
    geometry = Geometry(shape=(3, 4, 5), affine=tuple(tuple(row) for row in matrix.tolist()))
    labels = rng.integers(0, 3, (3, 4, 5))
    path = tmp_path / f"mask{ending}"
    write_labels(path, labels, geometry)
    found = read_labels(path)
    np.testing.assert_array_equal(found.labels, labels)
    assert corner_distance_mm(found.geometry, geometry) < 1e-3  # NIfTI stores float32
    again = tmp_path / f"again{ending}"
    write_labels(again, labels, found.geometry, like=path)
    # NRRD's text holds spacing and direction as one product: the last digit may go
    assert corner_distance_mm(read_geometry(again)[0], found.geometry) <= (1e-9 if ending == ".nrrd" else 0)


def test_orientations_are_one_volume_in_space(shared: Path) -> None:
    centres = []
    for code in ("RAS", "LPS", "PIR", "SAL"):
        found = read_image([shared / "data" / "orientations" / f"{code}.nii.gz"])
        image = found.image[0].astype(np.float64)
        sums = [image.sum(axis=axes) for axes in ((0, 1), (0, 2), (1, 2))]  # along i, j, k
        centre = [np.average(np.arange(len(profile)), weights=profile) for profile in sums]
        centres.append((found.geometry.matrix @ [*centre, 1])[:3])
    np.testing.assert_allclose(centres, np.broadcast_to(centres[0], (4, 3)), atol=1e-3)


# ---------------------------------------------------------------------------------------------- other 3D formats


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_itk_formats_agree_with_nifti(ending: str, tmp_path: Path, save_nifti: SaveNifti) -> None:
    nifti = save_nifti(tmp_path / "a.nii.gz", volume(), np.diag([-0.5, -0.7, 2, 1]) + np.eye(4, k=3) * 9)
    other = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.ReadImage(str(nifti)), str(other))
    a, b = read_image([nifti]), read_image([other])
    np.testing.assert_array_equal(a.image, b.image)
    assert corner_distance_mm(a.geometry, b.geometry) < 1e-4


def test_components_are_channels_and_layers_are_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(volume((4, 5, 6, 3)), isVector=True), str(path))
    np.testing.assert_array_equal(read_image([path]).image, np.moveaxis(volume((4, 5, 6, 3)), -1, 0))
    assert read_geometry(path)[1] == 3
    with pytest.raises(ReadError, match="3 layers"):
        read_labels(path)


# ----------------------------------------------------------------------------------------------------- pictures


def test_pictures(tmp_path: Path) -> None:
    grey, colour = volume((5, 7), "uint8"), volume((5, 7, 3), "uint8")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(grey.astype(np.uint16) * 600).save(tmp_path / "deep.png")
    sitk.WriteImage(sitk.GetImageFromArray(colour.astype(np.uint16) * 600, isVector=True), str(tmp_path / "deep3.png"))
    np.testing.assert_array_equal(read_image([tmp_path / "grey.png"]).image[0, 0], grey)
    np.testing.assert_array_equal(read_image([tmp_path / "deep.png"]).image[0, 0], grey * 600.0)
    for name, scale in (("colour.png", 1), ("deep3.png", 600)):
        found = read_image([tmp_path / name])
        np.testing.assert_array_equal(found.image[:, 0], np.moveaxis(colour, -1, 0) * float(scale))
        assert found.geometry.flat
        assert read_geometry(tmp_path / name) == (found.geometry, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_are_read_in_strips(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "STRIP_PIXELS", 7 * 20)
    rows = 2 * 20 + 5
    colours = np.random.default_rng(3).integers(0, 256, (rows, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(colours)
    if mode == "I;16":
        picture = Image.fromarray(colours[..., 0].astype(np.uint16) * 250)
    elif mode == "P":
        picture = picture.quantize(50)
    else:
        picture = picture.convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "F") else "a.png")
    picture.save(path)
    shown = np.asarray(picture.convert("RGB") if mode in ("P", "CMYK") else picture)
    expected = np.atleast_3d(shown).astype(np.float32)[..., : {"LA": 1}.get(mode, 3)]
    with Image.open(path) as again:
        assert again.mode == mode
    found = pictures.read_image(path)
    np.testing.assert_array_equal(found.image, np.moveaxis(expected, -1, 0)[:, None])
    assert pictures.read_geometry(path) == (found.geometry, expected.shape[-1])


def test_transparency_is_told_and_is_no_channel(tmp_path: Path) -> None:
    colours = volume((5, 7, 4), "uint8")
    colours[..., 3] = 255
    for name, alpha in (("opaque", 255), ("clear", 0)):
        colours[2, 3, 3] = alpha
        Image.fromarray(colours).save(tmp_path / f"{name}.png")
        found = read_image([tmp_path / f"{name}.png"])
        np.testing.assert_array_equal(found.image[:, 0], np.moveaxis(colours[..., :3], -1, 0))
        assert bool(found.notes) == (alpha == 0)
    deep = sitk.GetImageFromArray(colours.astype(np.uint16) * 250, isVector=True)
    sitk.WriteImage(deep, str(tmp_path / "deep.png"))
    np.testing.assert_array_equal(read_image([tmp_path / "deep.png"]).image[:, 0], found.image[:, 0] * 250)


def test_palette_labels_are_their_indices_and_colours_are_refused(tmp_path: Path) -> None:
    indices = volume((5, 7), "uint8") % 3
    picture = Image.fromarray(indices, mode=None).convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png").labels[0], indices)
    assert read_image([tmp_path / "palette.png"]).image.shape == (3, 1, 5, 7)
    Image.fromarray(np.repeat(indices[..., None], 3, axis=2)).save(tmp_path / "grey3.png")
    found = read_labels(tmp_path / "grey3.png")
    np.testing.assert_array_equal(found.labels[0], indices)
    assert found.notes
    Image.fromarray(volume((5, 7, 3), "uint8")).save(tmp_path / "colour.png")
    with pytest.raises(ReadError, match="colour"):
        read_labels(tmp_path / "colour.png")


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp"])
def test_the_bound_of_a_program_on_its_pictures_neither_binds_nor_changes(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{ending}"
    Image.fromarray(volume((50, 60), "uint8")).save(path)
    expected = np.asarray(Image.open(path))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    np.testing.assert_array_equal(read_image([path]).image[0, 0], expected)
    np.testing.assert_array_equal(read_labels(path).labels[0], expected)
    assert read_geometry(path)[0].shape == (1, 50, 60)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_picture_named_for_another_format_is_read_all_the_same(tmp_path: Path) -> None:
    Image.fromarray(volume((5, 7), "uint8")).save(tmp_path / "a.ppm")
    (tmp_path / "a.ppm").rename(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png").labels[0], volume((5, 7), "uint8"))


def test_tiff_stacks_are_volumes(tmp_path: Path) -> None:
    geometry = Geometry(shape=(4, 5, 7), affine=FLAT.affine, placed=False)
    labels = volume((4, 5, 7))
    write_labels(tmp_path / "a.tif", labels, geometry)
    found = read_labels(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.labels, labels)
    assert found.geometry == geometry
    assert "1 mm" in found.notes[0]


# ----------------------------------------------------------------------------------------------------- channels


def test_channels_are_joined(tmp_path: Path, save_nifti: SaveNifti) -> None:
    paths = [save_nifti(tmp_path / f"a_{number}.nii.gz", volume() + number) for number in range(2)]
    found = read_image(paths)
    np.testing.assert_array_equal(found.image, np.stack([volume(), volume() + 1]))


def test_channels_on_other_grids_are_refused(tmp_path: Path, save_nifti: SaveNifti) -> None:
    first = save_nifti(tmp_path / "a.nii.gz", volume())
    shifted = np.eye(4)
    shifted[0, 3] = 3
    with pytest.raises(DatasetError, match=r"3\.0 mm away"):
        read_image([first, save_nifti(tmp_path / "b.nii.gz", volume(), shifted)])
    with pytest.raises(DatasetError, match="shape"):
        read_image([first, save_nifti(tmp_path / "c.nii.gz", volume((3, 5, 6)))])
    shifted[0, 3] = 0.2
    assert "ignored" in read_image([first, save_nifti(tmp_path / "d.nii.gz", volume(), shifted)]).notes[0]
    with pytest.raises(DatasetError):
        read_image([])


# ------------------------------------------------------------------------------------------------------- labels


def test_whole_floats_become_integers_and_fractions_stay() -> None:
    assert small_integers(np.array([0.0, 14.0])).dtype == np.uint8
    assert small_integers(np.array([0, 300], np.int64)).dtype == np.uint16
    assert small_integers(np.array([-1, 200], np.int32)).dtype == np.int16
    assert small_integers(np.array([0.0, 0.5])).dtype.kind == "f"
    assert small_integers(np.array([0.0, np.nan])).dtype.kind == "f"
    assert small_integers(np.array([0.0, 1e300]), slope=1e300).dtype.kind == "f"  # too large for any number
    scaled = small_integers(np.array([0, 1, 2], np.uint8), slope=float(np.float32(0.1)) * 10, inter=0.0)
    np.testing.assert_array_equal(scaled, [0, 1, 2])
    assert small_integers(np.zeros((0, 2), np.int32)).shape == (0, 2)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**31))
def test_smallest_type_holds_both_ends(low: int, span: int) -> None:
    kind = np.iinfo(smallest_type(low, low + span))
    assert kind.min <= low
    assert kind.max >= low + span


@given(st.lists(st.integers(-3, 70000), min_size=1, max_size=50))
@settings(deadline=None)
def test_whole_values_counts(values: list[int]) -> None:
    labels = small_integers(np.array(values).reshape(-1, 1, 1))
    assert whole_values(labels) == {value: values.count(value) for value in sorted(set(values))}


def test_writing_refuses_what_is_no_mask(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fit"):
        write_labels(tmp_path / "a.nii.gz", np.zeros((1, 2, 3), int), SPACE)
    with pytest.raises(ValueError, match="integers"):
        write_labels(tmp_path / "a.nii.gz", np.full(SPACE.shape, -1), SPACE)
    with pytest.raises(ReadError, match="cannot hold"):
        write_labels(tmp_path / "a.png", np.zeros(SPACE.shape, np.uint8), SPACE)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------- GIPL, Slicer


@pytest.mark.parametrize("ending", [".gipl", ".gipl.gz"])
def test_gipl_is_read_and_its_masks_keep_their_place(ending: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(volume())
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    path = tmp_path / f"scan{ending}"
    sitk.WriteImage(image, str(path))
    found = read_image([path])
    np.testing.assert_array_equal(found.image[0], volume())
    assert found.geometry.spacing == (2.0, 0.75, 0.5)
    assert (ending_of(path), stem_of(path), mask_ending(path)) == (ending, "scan", ".mha")
    with pytest.raises(ReadError, match="orientation"):
        write_labels(path.with_name(f"mask{ending}"), volume(), found.geometry)
    write_labels(tmp_path / "mask.mha", volume(), found.geometry, path)
    assert sitk.ReadImage(str(tmp_path / "mask.mha")).GetOrigin() == image.GetOrigin()


def test_segmentations_of_slicer_have_the_name_of_their_case() -> None:
    assert (ending_of("P1.seg.nrrd"), stem_of("P1.seg.nrrd")) == (".seg.nrrd", "P1")
