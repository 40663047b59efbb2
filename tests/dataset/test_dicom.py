"""DICOM series: order, geometry, rescaling, and every fault by its name."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_builders import (
    AXIAL,
    OBLIQUE,
    SECRETS,
    dataset,
    expected_affine,
    pydicom,
    sample,
    save,
    uid,
    write_series,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.dataset import dicom_files
from autoseg.dataset.dicom import find_series, read_geometry, read_image
from autoseg.dataset.dicom_slices import Slice, stack
from autoseg.dataset.geometry import corner_distance_mm
from autoseg.dataset.readers import mask_ending, read_labels, write_labels
from autoseg.dataset.readers import read_image as read_by_table
from autoseg.errors import ReadError, UsageError


def fails(folder: Path) -> str:
    """The message of a series that is refused, which never tells of the patient."""
    with pytest.raises(ReadError) as caught:
        read_image(folder)
    with pytest.raises(ReadError):
        read_geometry(folder)
    told = str(caught.value)
    assert not [secret for secret in SECRETS.values() if secret in told]
    assert str(folder) in told
    return told


# ------------------------------------------------------------------------------------------------ order and geometry


@pytest.mark.parametrize("directions", [AXIAL, OBLIQUE])
def test_slices_are_ordered_by_position_and_rescaled(directions: Any, tmp_path: Path) -> None:
    stored = sample()
    folder = write_series(tmp_path / "scan", stored, directions=directions)
    volume = read_image(folder)
    np.testing.assert_array_equal(volume.image[0], stored.astype(np.float32) - 1024)
    wanted = expected_affine((2.5, 0.7, 0.8), (-30.0, 20.0, 100.0), directions)
    np.testing.assert_allclose(volume.geometry.matrix, wanted, atol=1e-5)
    assert read_geometry(folder) == (volume.geometry, 1)
    assert volume.notes == ()


def test_the_same_as_itk_reads(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    theirs = tmp_path / "theirs.nii.gz"
    sitk.WriteImage(reader.Execute(), str(theirs))
    ours, other = read_by_table([folder]), read_by_table([theirs])
    np.testing.assert_array_equal(ours.image, other.image)
    assert corner_distance_mm(ours.geometry, other.geometry) < 1e-3


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 6),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.floats(0.3, 6),
    st.floats(-0.6, 0.6),
    st.randoms(use_true_random=False),
)
def test_any_order_gives_the_affine_that_places_every_slice(
    count: int, angles: tuple[float, float, float], spacing: float, shear: float, random: Any
) -> None:
    """Each slice's own position is where the grid puts its first voxel, sheared or not, in whatever order they come."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [other for other in range(3) if other != axis]
        plane = np.eye(3)
        plane[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turn = plane @ turn
    row, column = turn[:, 0], turn[:, 1]
    step = np.cross(row, column) * spacing + column * shear * spacing
    slices = [
        Slice(Path("x"), number, str(number), tuple(5.0 + number * step), tuple(row), tuple(column), (0.7, 0.9), (4, 5))
        for number in range(count)
    ]
    shuffled = random.sample(slices, count)
    found = stack(shuffled, Path("x"), lambda a, b: False)
    assert [one.frame for one in found.slices] == list(range(count))
    for k, one in enumerate(found.slices):
        x, y, z = found.geometry.matrix[:3, 2] * k + found.geometry.matrix[:3, 3]
        np.testing.assert_allclose((-x, -y, z), one.position, atol=1e-6)
    assert any("gantry" in note for note in found.notes) == (np.degrees(np.arctan(abs(shear))) > 0.1)


def test_gantry_tilt_is_read_sheared_and_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan", step=(0.0, 2.5 * np.tan(np.radians(15.0)), 2.5))
    volume = read_image(folder)
    assert ["15.0 degrees" in note for note in volume.notes] == [True]
    np.testing.assert_allclose(volume.geometry.matrix[:3, 2], (0.0, -2.5 * np.tan(np.radians(15.0)), 2.5), atol=1e-5)
    mask = tmp_path / f"mask{mask_ending(folder)}"
    write_labels(mask, (volume.image[0] > -500).astype(np.uint8), volume.geometry, folder)
    assert corner_distance_mm(read_labels(mask).geometry, volume.geometry) < 1e-3


def test_a_single_slice_has_its_thickness(tmp_path: Path) -> None:
    volume = read_image(write_series(tmp_path / "scan", sample((1, 4, 5))))
    assert volume.geometry.spacing == pytest.approx((2.5, 0.7, 0.8))
    assert "thickness" in volume.notes[0]


# ------------------------------------------------------------------------------------------------------------ faults


def test_gaps_are_named_in_millimetres(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan")
    by_height = {pydicom.dcmread(path).ImagePositionPatient[2]: path for path in folder.iterdir()}
    by_height[105.0].unlink()
    told = fails(folder)
    assert "none between 102.5 and 107.5 mm" in told


def test_unequal_distances_are_named(tmp_path: Path) -> None:
    def wobble(image: Any, number: int) -> None:
        image.ImagePositionPatient[2] += 0.9 * (number == 3)

    assert "not equally far apart" in fails(write_series(tmp_path / "scan", change=wobble))


def test_small_rounding_is_read(tmp_path: Path) -> None:
    def rounded(image: Any, number: int) -> None:
        image.ImagePositionPatient[2] += 0.1 * (number % 2)

    assert read_image(write_series(tmp_path / "scan", change=rounded)).geometry.shape == (6, 10, 12)


def test_sideways_shifts_are_named(tmp_path: Path) -> None:
    def shifted(image: Any, number: int) -> None:
        image.ImagePositionPatient[0] += 3.0 * (number == 2)

    assert "shifted against each other" in fails(write_series(tmp_path / "scan", change=shifted))


def test_copies_are_read_once(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan")
    first = folder / "IM0000.dcm"
    (folder / "copy.dcm").write_bytes(first.read_bytes())
    volume = read_image(folder)
    assert volume.geometry.shape == (6, 10, 12)
    assert "1 images occur twice" in volume.notes[0]
    assert read_geometry(folder)[0] == volume.geometry


def test_several_images_at_one_place_are_named_with_what_differs(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan", modality="MR")

    def second_echo(image: Any, number: int) -> None:
        image.EchoTime, image.SOPInstanceUID = 90.0, uid(f"echo {number}")

    write_series(tmp_path / "echo", sample() + 7, modality="MR", change=second_echo)
    for path in (tmp_path / "echo").iterdir():
        path.rename(folder / f"second-{path.name}")
    told = fails(folder)
    assert "at 6 places" in told
    assert "echo time" in told
    assert "100.0 mm" in told


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 0, 0, -1], "several orientations: 1 of 6"),
        ("PixelSpacing", [0.5, 0.5], "several pixel sizes"),
        ("PixelSpacing", [0, 0.5], "no size"),
        ("ImagePositionPatient", None, "no position"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "right angles"),
        ("RescaleSlope", "x", "no number"),
    ],
)
def test_mixed_and_broken_geometry_is_named(field: str, value: Any, told: str, tmp_path: Path) -> None:
    def change(image: Any, number: int) -> None:
        if number == 4 and value is None:
            delattr(image, field)
        elif number == 4 and value == "x":
            image.add(pydicom.dataelem.RawDataElement(pydicom.tag.Tag(0x00281053), "DS", 2, b"x ", 0, False, True))
        elif number == 4:
            setattr(image, field, value)

    assert told in fails(write_series(tmp_path / "scan", change=change))


def test_several_sizes_are_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan")
    write_series(tmp_path / "more", sample((1, 6, 6)), origin=(-30.0, 20.0, 500.0))
    (tmp_path / "more" / "IM0000.dcm").rename(folder / "other.dcm")
    assert "6 of 10x12, 1 of 6x6" in fails(folder)


def test_scouts_of_the_series_are_left_out(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan")

    def scout(image: Any, number: int) -> None:
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        image.SOPInstanceUID = uid("scout")

    write_series(tmp_path / "more", sample((1, 30, 40)), directions=OBLIQUE, change=scout)
    (tmp_path / "more" / "IM0000.dcm").rename(folder / "scout.dcm")
    volume = read_image(folder)
    assert volume.geometry.shape == (6, 10, 12)
    assert volume.notes == ("1 localizer images (scouts) are left out",)


def test_series_of_one_folder_are_told_apart_by_their_uid(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan")
    write_series(tmp_path / "more", sample(seed=1)[:3], name="other")
    for path in (tmp_path / "more").iterdir():
        path.rename(folder / f"b-{path.name}")
    assert "holds 2 series" in fails(folder)
    assert read_image(folder / "IM0002.dcm").image.shape == (1, 6, 10, 12)
    assert read_image(folder / "b-IM0001.dcm").image.shape == (1, 3, 10, 12)
    assert [(one.path.name, one.files) for one in find_series(folder)] == [("IM0000.dcm", 6), ("b-IM0000.dcm", 3)]


def test_names_without_an_ending_and_strangers_are_no_matter(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan", ending="")
    (folder / "readme").write_text("no image")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert read_by_table([folder]).image.shape == (1, 6, 10, 12)
    assert read_by_table([folder / "IM0001"]).image.shape == (1, 6, 10, 12)
    assert [(one.path, one.files) for one in find_series(tmp_path)] == [(folder, 6)]


def test_links_in_circles_end(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan")
    try:
        (folder / "again").symlink_to(tmp_path)
    except OSError:
        pytest.skip("this system makes no links")
    assert [one.path for one in find_series(tmp_path)] == [folder]


# ------------------------------------------------------------------------------------------------ pixels of all kinds


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_compressed_slices_have_the_same_values(compressor: str, tmp_path: Path) -> None:
    """Compressed by GDCM without loss (JPEG is its lossless process), and rescaled once only."""
    stored = np.abs(sample())
    folder = write_series(tmp_path / "scan", stored)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        alone = sitk.GetImageFromArray(np.frombuffer(image.PixelData, "<i2").reshape(1, image.Rows, image.Columns))
        packed = tmp_path / "packed.dcm"
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.SetFileName(str(packed))
        writer.Execute(alone)
        squeezed = pydicom.dcmread(packed)
        assert squeezed.file_meta.TransferSyntaxUID.is_compressed
        image.PixelData = squeezed.PixelData
        image["PixelData"].is_undefined_length = True
        image.file_meta.TransferSyntaxUID = squeezed.file_meta.TransferSyntaxUID
        save(image, path)
    np.testing.assert_array_equal(read_image(folder).image[0], stored.astype(np.float32) - 1024)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2"])
def test_other_transfer_syntaxes(syntax: str, tmp_path: Path) -> None:
    stored = sample()

    def change(image: Any, number: int) -> None:
        if syntax.endswith(".5"):
            image.compress(syntax, generate_instance_uid=False)
        image.file_meta.TransferSyntaxUID = syntax

    folder = write_series(tmp_path / "scan", stored, change=change)
    np.testing.assert_array_equal(read_image(folder).image[0], stored.astype(np.float32) - 1024)


def test_a_compression_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    def change(image: Any, number: int) -> None:
        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
        image.PixelData = pydicom.encaps.encapsulate([b"no video" * 20])
        image["PixelData"].is_undefined_length = True

    folder = write_series(tmp_path / "scan", change=change)
    assert read_geometry(folder)[1] == 1
    with pytest.raises(ReadError, match=r"MPEG-4.*could not be decoded"):
        read_image(folder)


def test_slices_have_their_own_scale(tmp_path: Path) -> None:
    def change(image: Any, number: int) -> None:
        image.RescaleSlope, image.RescaleIntercept = number + 0.5, 0

    stored = sample()
    volume = read_image(write_series(tmp_path / "scan", stored, modality="PT", change=change))
    scales = np.arange(6)[:, None, None] + 0.5
    np.testing.assert_allclose(volume.image[0], stored * scales, rtol=1e-6)


def test_bits_above_the_stored_ones_are_no_part_of_the_value(tmp_path: Path) -> None:
    stored = np.abs(sample()) % 2048

    def change(image: Any, number: int) -> None:
        overlay = (stored[number].astype("<u2") | 0xF000).tobytes()
        image.BitsStored, image.HighBit, image.PixelRepresentation, image.PixelData = 12, 11, 0, overlay

    volume = read_image(write_series(tmp_path / "scan", stored, change=change))
    np.testing.assert_array_equal(volume.image[0], stored.astype(np.float32) - 1024)


def test_colours_are_channels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 4, 5, 3)).astype(np.uint8)

    def change(image: Any, number: int) -> None:
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", number
        image.BitsAllocated = image.BitsStored = 8
        image.HighBit, image.PixelRepresentation, image.RescaleIntercept = 7, 0, 0
        image.PixelData = (pixels[number] if number == 0 else np.moveaxis(pixels[number], -1, 0)).tobytes()

    folder = write_series(tmp_path / "scan", sample((2, 4, 5)), change=change)
    assert read_geometry(folder)[1] == 3
    np.testing.assert_array_equal(read_image(folder).image, np.moveaxis(pixels, -1, 0).astype(np.float32))


def test_an_x_ray_is_a_flat_image_with_bright_bone(tmp_path: Path) -> None:
    pixels = np.arange(20).reshape(4, 5)
    image = dataset(pixels, "x-ray", "DX", "x-ray")
    image.ImagerPixelSpacing, image.PhotometricInterpretation = [0.2, 0.1], "MONOCHROME1"
    image.BitsStored, image.HighBit, image.PixelRepresentation, image.RescaleIntercept = 8, 7, 0, 0
    path = tmp_path / "xray.dcm"
    save(image, path)
    volume = read_image(path)
    assert volume.geometry.flat
    assert volume.geometry.matrix[0, 0] == 0.1
    np.testing.assert_array_equal(volume.image[0, 0], 255 - pixels)
    assert "MONOCHROME1" in volume.notes[0]


def enhanced(folder: Path, stored: np.ndarray, frames: int | None = None) -> Path:
    """An enhanced CT: all frames in one file, in reversed order."""
    image = dataset(stored[0], "enhanced", "CT", "enhanced")
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    image.NumberOfFrames = len(stored) if frames is None else frames
    image.PixelData = stored[::-1].astype("<i2").tobytes()
    del image.RescaleSlope, image.RescaleIntercept
    shared, measures, plane = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.7, 0.8], 2.5
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    image.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number in range(len(stored))[::-1]:
        group, place, scale = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = [-30.0, 20.0, 100 + 2.5 * number]
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 2, number, "HU"
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [place], [scale]
        groups.append(group)
    image.PerFrameFunctionalGroupsSequence = groups
    folder.mkdir()
    save(image, folder / "all.dcm")
    return folder


def test_enhanced_objects_are_read_frame_by_frame(tmp_path: Path) -> None:
    stored = sample()
    volume = read_image(enhanced(tmp_path / "scan", stored))
    np.testing.assert_array_equal(volume.image[0], 2.0 * stored + np.arange(6)[:, None, None])
    wanted = expected_affine((2.5, 0.7, 0.8), (-30.0, 20.0, 100.0), AXIAL)
    np.testing.assert_allclose(volume.geometry.matrix, wanted, atol=1e-9)


# ----------------------------------------------------------------------------------------------------- hostile files


def test_claims_beyond_the_bytes_are_refused(tmp_path: Path) -> None:
    def change(image: Any, number: int) -> None:
        image.Rows = image.Columns = 65535

    folder = write_series(tmp_path / "scan", sample((2, 4, 5)), change=change)
    with pytest.raises(ReadError, match=r"header tells of .* bytes|voxels: it takes"):
        read_image(folder)


def test_frames_that_are_claimed_but_not_described_are_refused(tmp_path: Path) -> None:
    assert "2000000000 frames, and describes 6" in fails(enhanced(tmp_path / "scan", sample(), frames=2_000_000_000))


def test_compressed_pixels_that_claim_the_impossible_are_refused(tmp_path: Path) -> None:
    def change(image: Any, number: int) -> None:
        image.Rows = image.Columns = 30000
        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
        image.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 short \xff\xd9"])
        image["PixelData"].is_undefined_length = True

    with pytest.raises(ReadError, match="cannot hold"):
        read_image(write_series(tmp_path / "scan", sample((2, 4, 5)), change=change))


def test_a_deflated_file_unpacks_to_no_more_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(image: Any, number: int) -> None:
        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"

    folder = write_series(tmp_path / "scan", change=change)
    path = folder / "IM0000.dcm"
    raw = path.read_bytes()
    start = 144 + int.from_bytes(raw[140:144], "little")
    assert zlib.decompress(raw[start:], -15)[:2] == b"\x08\0"  # the first group after the meta information
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    path.write_bytes(raw[:start] + packer.compress(bytes(3 << 20)) + packer.flush())
    monkeypatch.setattr(dicom_files, "MOST_INFLATED", 1 << 20)
    assert "unpacks to more than" in fails_anywhere(folder)


def fails_anywhere(folder: Path) -> str:
    with pytest.raises(ReadError) as caught:
        read_image(folder)
    return str(caught.value)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_is_our_error_or_harmless(tmp_path_factory: Any, at: int, what: bytes) -> None:
    folder = write_series(tmp_path_factory.mktemp("damaged"), sample((2, 4, 5)))
    path = folder / "IM0000.dcm"
    raw = bytearray(path.read_bytes())
    place = 132 + at % (len(raw) - 132)
    raw[place : place + len(what)] = what
    path.write_bytes(bytes(raw))
    told = ""
    try:
        read_image(folder)
    except ReadError as error:
        told = str(error)
    assert not [secret for secret in SECRETS.values() if secret in told]


def test_without_the_extra_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_series(tmp_path / "scan")
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(UsageError, match=r"\.\[dicom\]"):
        read_image(folder)


# --------------------------------------------------------------------------------------------------------- real data


@pytest.mark.parametrize(
    ("folder", "shape"),
    [
        ("dcmqi/data/segmentations/ct-3slice", (3, 512, 512)),
        ("dcmqi/data/segmentations/24x38x3/image", (3, 38, 24)),
        ("dcmqi/data/segmentations/24x38x3/multiframe", (3, 38, 24)),
        ("rt-utils/oriented_data", (3, 50, 100)),
    ],
)
def test_real_series_as_itk_reads_them(folder: str, shape: tuple[int, int, int], shared: Path) -> None:
    path = shared / "data" / "dicom" / folder
    volume = read_image(path)
    assert volume.geometry.shape == shape
    if "multiframe" in folder:
        single = read_image(path.parent / "image")
        np.testing.assert_array_equal(volume.image, single.image)
        assert corner_distance_mm(volume.geometry, single.geometry) < 1e-3
        return
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    image = reader.Execute()
    np.testing.assert_allclose(volume.image[0], sitk.GetArrayFromImage(image), rtol=1e-6)
    assert np.allclose(volume.geometry.spacing[::-1], image.GetSpacing(), rtol=1e-4)
    x, y, z = image.GetOrigin()
    np.testing.assert_allclose(volume.geometry.matrix[:3, 3], (-x, -y, z), atol=1e-4)
