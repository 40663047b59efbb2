"""Masks as DICOM-SEG and RTSTRUCT, read back by others than our own readers, and judged by dciodvfy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_builders import AXIAL, OBLIQUE, SECRETS, pydicom, sample, uid, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from skimage.draw import polygon2mask

from autoseg.dataset import rtstruct
from autoseg.dataset.dicom import read_image
from autoseg.dataset.dicom_labels import label_names, read_named, referenced_series
from autoseg.errors import DatasetError, UsageError
from autoseg.interop.contours import outlines
from autoseg.interop.label_codes import ABNORMALITIES, ANATOMY, GENERIC, LEFT, RIGHT, coded
from autoseg.interop.mask_formats import MASK_FORMATS, find_mask_format
from autoseg.records import Case, Geometry, Labels

LABELS = Labels(names={"background": 0, "liver": 1, "kidney_left": 5, "Größe": 7})
FORMATS = ("dicom-seg", "rtstruct")


def mask_of(shape: tuple[int, ...], values: tuple[int, ...] = (0, 1, 5, 7)) -> np.ndarray:
    """Blobs of every value, some with holes and some one voxel wide."""
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), (0.5, 2, 2))
    return np.asarray(values, np.uint8)[np.digitize(field, np.quantile(field, [0.5, 0.7, 0.9]))]


def write(name: str, folder: Path, image: Path, mask: np.ndarray, labels: Labels = LABELS) -> Path:
    writer = MASK_FORMATS[name]
    path = folder / f"mask{writer.ending}"
    geometry = read_image(image).geometry
    writer.write(path, mask, geometry, Case(id="case", images=(image,)), labels)
    return path


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


def verify(path: Path) -> None:
    """No error by dciodvfy, which first has to see a fault that was made on purpose."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    broken = pydicom.dcmread(path)
    del broken.SOPInstanceUID
    broken.Modality = "NONSENSE"
    broken.save_as(path.with_name("broken.dcm"))
    assert _errors(program, path.with_name("broken.dcm"))
    assert _errors(program, path) == []


def _errors(program: str, path: Path) -> list[str]:
    done = subprocess.run([program, "-filename", str(path)], capture_output=True, text=True, errors="replace")
    lines = (done.stdout + done.stderr).splitlines()
    assert len(lines) >= 2, "it tells the file and the kind of object at least"
    return [line for line in lines if line.startswith(("Error", "Abort"))]


# ----------------------------------------------------------------------------------------------------------- contours


@settings(max_examples=150, deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outlines_filled_by_pixel_centres_are_the_mask(mask: np.ndarray) -> None:
    polygons = outlines(mask)
    if not mask.any():
        assert polygons == []
        return
    np.testing.assert_array_equal(rtstruct.fill(polygons, mask.shape), mask)
    # each by itself, as a reader does that knows nothing of holes between contours
    alone = np.zeros(mask.shape, dtype=int)
    for polygon in polygons:
        alone += rtstruct.fill([polygon], mask.shape)
    np.testing.assert_array_equal(alone, mask.astype(int))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 14), st.floats(-3, 14)), min_size=3, max_size=9), st.randoms())
def test_polygons_are_filled_as_another_rasterizer_fills_them(points: list[tuple[float, float]], random: Any) -> None:
    """Against scikit-image, at points that are nowhere near an edge."""
    polygon = np.array(points)
    ours = rtstruct.fill([polygon], (11, 12))
    theirs = polygon2mask((11, 12), polygon[:, ::-1])
    differing = np.argwhere(ours != theirs)
    for row, column in differing:
        ends = np.stack([polygon, np.roll(polygon, -1, axis=0)], axis=1)
        along = ends[:, 1] - ends[:, 0]
        length = np.maximum((along**2).sum(axis=1), 1e-12)
        share = np.clip((((column, row) - ends[:, 0]) * along).sum(axis=1) / length, 0, 1)
        nearest = np.linalg.norm(ends[:, 0] + share[:, None] * along - (column, row), axis=1).min()
        assert nearest < 1e-6


# ------------------------------------------------------------------------------------------------------- both formats


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("modality", "directions"), [("CT", AXIAL), ("MR", OBLIQUE)])
def test_masks_come_back_with_names_and_references(name: str, modality: str, directions: Any, tmp_path: Path) -> None:
    image = write_series(tmp_path / "scan", sample((6, 30, 40)), modality=modality, directions=directions)
    mask = mask_of((6, 30, 40))
    path = write(name, tmp_path, image, mask)
    assert label_names(path) == ("liver", "kidney_left", "Größe")
    assert referenced_series(path) == (uid("series"),)
    for label, found in read_named(path, label_names(path), read_image(image).geometry):
        np.testing.assert_array_equal(found.labels > 0, mask == LABELS.names[label])
    written = pydicom.dcmread(path)
    assert written.PatientID == SECRETS["PatientID"]  # objects of one study belong to one patient
    assert str(written.PatientName) == SECRETS["PatientName"]
    instances = {str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in image.iterdir()}
    told = {str(item.value) for item in written.iterall() if item.keyword == "ReferencedSOPInstanceUID"}
    assert instances <= told
    verify(path)


@pytest.mark.parametrize("name", FORMATS)
def test_regions_that_overlap_stay_whole(name: str, tmp_path: Path) -> None:
    labels = Labels(names={"background": 0, "tumour": (1, 2), "core": 2, "edema": (1,)})
    image = write_series(tmp_path / "scan", sample((4, 20, 20)))
    mask = mask_of((4, 20, 20), (0, 0, 1, 2))
    path = write(name, tmp_path, image, mask, labels)
    found = {label: one.labels > 0 for label, one in read_named(path, label_names(path), read_image(image).geometry)}
    np.testing.assert_array_equal(found["tumour"], mask > 0)
    np.testing.assert_array_equal(found["core"], mask == 2)
    np.testing.assert_array_equal(found["edema"], mask == 1)


@pytest.mark.parametrize("name", FORMATS)
def test_a_tilted_gantry_is_no_matter(name: str, tmp_path: Path) -> None:
    image = write_series(tmp_path / "scan", sample((5, 20, 24)), step=(0.0, 0.9, 2.5))
    mask = mask_of((5, 20, 24))
    path = write(name, tmp_path, image, mask)
    for label, found in read_named(path, label_names(path), read_image(image).geometry):
        np.testing.assert_array_equal(found.labels > 0, mask == LABELS.names[label])


@pytest.mark.parametrize("name", FORMATS)
def test_empty_masks_are_written(name: str, tmp_path: Path) -> None:
    image = write_series(tmp_path / "scan")
    path = write(name, tmp_path, image, np.zeros((6, 10, 12), np.uint8))
    found = read_named(path, label_names(path), read_image(image).geometry)
    assert not any(one.labels.any() for _, one in found)
    verify(path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_series_that_nothing_can_refer_to_is_refused(name: str, tmp_path: Path) -> None:
    def change(image: Any, number: int) -> None:
        del image.FrameOfReferenceUID

    image = write_series(tmp_path / "scan", change=change)
    with pytest.raises(DatasetError, match="FrameOfReferenceUID"):
        write(name, tmp_path, image, np.zeros((6, 10, 12), np.uint8))


@pytest.mark.parametrize("name", FORMATS)
def test_images_that_are_no_dicom_are_refused_before_anything_runs(name: str, tmp_path: Path) -> None:
    check = MASK_FORMATS[name].check
    assert check is not None
    with pytest.raises(UsageError, match="no DICOM series"):
        check([Case(id="a", images=(tmp_path / "a.nii.gz",))], LABELS)
    check([Case(id="a", images=(write_series(tmp_path / "scan"),))], LABELS)
    with pytest.raises(UsageError, match="64 letters"):
        check([], Labels(names={"background": 0, "x" * 65: 1}))


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    check = MASK_FORMATS["dicom-seg"].check
    assert check is not None
    with pytest.raises(UsageError, match=r"\.\[dicom\]"):
        check([], LABELS)


def test_unknown_formats_are_named() -> None:
    with pytest.raises(UsageError, match="rtstruct"):
        find_mask_format("dicomseg")


def test_names_in_other_letters_survive(tmp_path: Path) -> None:
    def change(image: Any, number: int) -> None:
        image.SpecificCharacterSet, image.PatientName = "ISO_IR 100", "Müller^Jörg"

    image = write_series(tmp_path / "scan", change=change)
    for name in FORMATS:
        path = write(name, tmp_path, image, mask_of((6, 10, 12)))
        assert str(pydicom.dcmread(path).PatientName) == "Müller^Jörg"


@pytest.mark.filterwarnings("error")
def test_unusual_names_make_no_noise(tmp_path: Path) -> None:
    """highdicom would warn, and quote the patient's name."""

    def change(image: Any, number: int) -> None:
        image.PatientName = "Johanna without carets"

    image = write_series(tmp_path / "scan", change=change)
    path = write("dicom-seg", tmp_path, image, mask_of((6, 10, 12)))
    assert str(pydicom.dcmread(path).PatientName) == "Johanna without carets"


def test_fractional_segments_are_inside_from_half_on(tmp_path: Path) -> None:
    import highdicom

    image = write_series(tmp_path / "scan", sample((4, 6, 7)))
    headers = sorted(map(pydicom.dcmread, image.iterdir()), key=lambda one: float(one.ImagePositionPatient[2]))
    shares = np.random.default_rng(0).random((4, 6, 7))
    tissue = highdicom.sr.CodedConcept("85756007", "SCT", "Tissue")
    for header in headers:
        header.PatientName = "A^B"
    made = highdicom.seg.Segmentation(
        source_images=headers,
        pixel_array=shares,
        segmentation_type="FRACTIONAL",
        segment_descriptions=[highdicom.seg.SegmentDescription(1, "soft", tissue, tissue, "MANUAL")],
        series_instance_uid=uid("soft"),
        series_number=1,
        sop_instance_uid=uid("soft object"),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
    )
    made.save_as(tmp_path / "soft.dcm")
    ((_, found),) = read_named(tmp_path / "soft.dcm", ("soft",), read_image(image).geometry)
    np.testing.assert_array_equal(found.labels > 0, np.around(shares * 255) > 127.5)


# --------------------------------------------------------------------------------------------------- other readers


def test_dcmqi_reads_our_segments(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("segimage2itkimage")
    if not program.exists():
        pytest.skip("dcmqi is not installed")
    image = write_series(tmp_path / "scan", sample((6, 30, 40)), directions=OBLIQUE)
    mask = mask_of((6, 30, 40))
    path = write("dicom-seg", tmp_path, image, mask)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    subprocess.run(
        [program, "--inputDICOM", path, "--outputDirectory", theirs], check=True, capture_output=True, timeout=60
    )
    told = json.loads((theirs / "meta.json").read_text())["segmentAttributes"]
    segments = {one["SegmentLabel"]: one for group in told for one in group}
    assert segments["liver"]["SegmentedPropertyTypeCodeSequence"]["CodeValue"] == "10200004"
    assert segments["kidney_left"]["SegmentedPropertyTypeModifierCodeSequence"]["CodeMeaning"] == "Left"
    grid = read_image(image).geometry
    for number, (label, value) in enumerate([("liver", 1), ("kidney_left", 5)], start=1):
        assert segments[label]["labelID"] == number
        found = sitk.ReadImage(str(theirs / f"{number}.nrrd"))
        voxels = np.argwhere(sitk.GetArrayFromImage(found))[:, ::-1]
        world = np.array([found.TransformIndexToPhysicalPoint(one.tolist()) for one in voxels]) * (-1, -1, 1)
        exact = np.c_[world, np.ones(len(world))] @ np.linalg.inv(grid.matrix).T
        ours = np.zeros(mask.shape, dtype=bool)
        ours[tuple(np.rint(exact[:, 2::-1]).astype(int).T)] = True
        np.testing.assert_array_equal(ours, mask == value)


def test_the_bits_of_a_segmentation_read_by_hand(tmp_path: Path) -> None:
    """From the raw fields alone: frame by frame, eight pixels a byte, at the position that the frame tells."""
    image = write_series(tmp_path / "scan", sample((6, 30, 40)))
    mask = mask_of((6, 30, 40))
    written = pydicom.dcmread(write("dicom-seg", tmp_path, image, mask))
    bits = np.unpackbits(np.frombuffer(written.PixelData, np.uint8), bitorder="little")
    frames = bits[: written.NumberOfFrames * 1200].reshape(-1, 30, 40)
    found = np.zeros_like(mask)
    for frame, group in zip(frames, written.PerFrameFunctionalGroupsSequence, strict=True):
        height = group.PlanePositionSequence[0].ImagePositionPatient[2]
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[round((float(height) - 100.0) / 2.5)][frame > 0] = (1, 5, 7)[number - 1]
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("directions", [AXIAL, OBLIQUE])
def test_the_contours_of_a_structure_set_drawn_by_another_rasterizer(directions: Any, tmp_path: Path) -> None:
    """Raw coordinates, taken to pixels by each image's own position and directions, filled by scikit-image."""
    image = write_series(tmp_path / "scan", sample((6, 30, 40)), directions=directions)
    mask = mask_of((6, 30, 40))
    written = pydicom.dcmread(write("rtstruct", tmp_path, image, mask))
    images = {str(one.SOPInstanceUID): one for one in map(pydicom.dcmread, image.iterdir())}
    normal = np.cross(*directions)
    order = sorted(images, key=lambda one: float(np.dot(images[one].ImagePositionPatient, normal)))
    for value, region in zip((1, 5, 7), written.ROIContourSequence, strict=True):
        found = np.zeros(mask.shape, dtype=bool)
        for contour in region.ContourSequence:
            one = images[str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)]
            away = np.reshape(contour.ContourData, (-1, 3)).astype(float) - np.array(one.ImagePositionPatient, float)
            assert np.abs(away @ normal).max() < 1e-3
            columns = away @ np.array(one.ImageOrientationPatient[:3], float) / float(one.PixelSpacing[1])
            rows = away @ np.array(one.ImageOrientationPatient[3:], float) / float(one.PixelSpacing[0])
            found[order.index(str(one.SOPInstanceUID))] ^= polygon2mask((30, 40), np.c_[rows, columns])
        assert dice(found, mask == value) == 1.0


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "folder", ["dcmqi/data/segmentations/ct-3slice", "dcmqi/data/segmentations/24x38x3/multiframe"]
)
def test_masks_of_real_series(name: str, folder: str, shared: Path, tmp_path: Path) -> None:
    image = shared / "data" / "dicom" / folder
    geometry = read_image(image).geometry
    mask = ndimage.zoom(mask_of((3, 16, 16)), (1, geometry.shape[1] / 16, geometry.shape[2] / 16), order=0)
    path = write(name, tmp_path, image, mask)
    for label, found in read_named(path, label_names(path), geometry):
        np.testing.assert_array_equal(found.labels > 0, mask == LABELS.names[label])
    verify(path)


# --------------------------------------------------------------------------------------------------------------- codes


def test_codes_are_those_of_the_terminology() -> None:
    from pydicom.sr._concepts_dict import concepts

    known = {code for entry in concepts["SCT"].values() for code in entry}
    used = [*ANATOMY.values(), *ABNORMALITIES.values(), GENERIC.type, LEFT, RIGHT]
    used += [coded(f"vertebrae_{level}").type for level in ("C1", "C7", "T1", "T12", "L1", "L5")]
    assert not [code for code in used if code.value not in known]


@pytest.mark.parametrize(
    ("name", "meaning", "side"),
    [
        ("kidney_left", "Kidney", "Left"),
        ("Right Kidney", "Kidney", "Right"),
        ("KidneyL", "Kidney", "Left"),
        ("kidneys", "Kidney", None),
        ("lung_upper_lobe_left", "Tissue", None),
        ("left ventricle", "Left Ventricle", None),
        ("vertebrae_L3", "L3 vertebra", None),
        ("vertebra", "Vertebra", None),
        ("liver_tumour", "Neoplasm", None),
        ("Hippocampus", "Hippocampus", None),
        ("label_1", "Tissue", None),
    ],
)
def test_names_give_codes(name: str, meaning: str, side: str | None) -> None:
    found = coded(name)
    assert found.type.meaning == meaning
    assert (found.side.meaning if found.side else None) == side
    assert found.generic == (meaning == "Tissue")


def test_geometry_of_the_mask_is_that_of_the_series(tmp_path: Path) -> None:
    """The own grid of a segmentation is the image's, though slices without a label have no frame."""
    from autoseg.dataset.readers import read_labels

    image = write_series(tmp_path / "scan", sample((6, 30, 40)))
    mask = np.zeros((6, 30, 40), np.uint8)
    mask[1, 3:9, 4:8], mask[3, 3:9, 4:8] = 1, 5
    found = read_labels(write("dicom-seg", tmp_path, image, mask))
    geometry: Geometry = read_image(image).geometry
    np.testing.assert_allclose(found.geometry.matrix[:3, :3], geometry.matrix[:3, :3], atol=1e-6)
    np.testing.assert_array_equal(found.labels, np.where(mask[1:4] == 5, 2, mask[1:4]))
