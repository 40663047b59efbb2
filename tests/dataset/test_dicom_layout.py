"""Trees of DICOM files as datasets and as inputs: series, and the SEG and RTSTRUCT files that refer to them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_builders import OBLIQUE, SECRETS, pydicom, sample, uid, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from autoseg.dataset.checks import check_case
from autoseg.dataset.dicom import read_image
from autoseg.dataset.dicom_labels import label_names, read_named
from autoseg.dataset.inputs import find_inputs
from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.layout_checks import check_layout
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import files_of, read_labels, write_labels
from autoseg.errors import DatasetError, ReadError
from autoseg.records import Case, Labels, Problem

SHAPE = (6, 20, 24)


def boxes(value: int = 1) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 4:12, 5:15] = value
    labels[4, 2:6, 2:6] = 2
    return labels


def write_labels_for(image: Path, kind: str, path: Path, mask: np.ndarray, names: tuple[str, ...]) -> Path:
    """A DICOM-SEG or RTSTRUCT file as our own writers make them; test_dicom_masks.py holds those against others."""
    from autoseg.interop.mask_formats import MASK_FORMATS

    labels = Labels(names={"background": 0, **{name: value for value, name in enumerate(names, start=1)}})
    path.parent.mkdir(parents=True, exist_ok=True)
    MASK_FORMATS[kind].write(path, mask, read_image(image).geometry, Case(id="x", images=(image,)), labels)
    return path


def told(problems: list[Problem]) -> str:
    text = " ".join(f"{problem.kind} {problem.what} {problem.case} {problem.file}" for problem in problems)
    assert not [secret for secret in SECRETS.values() if secret in text]
    return text


# ------------------------------------------------------------------------------------------------------- as datasets


@pytest.mark.parametrize("kind", ["dicom-seg", "rtstruct"])
def test_series_and_the_files_that_refer_to_them(kind: str, tmp_path: Path) -> None:
    for number in range(3):
        name = f"P{number}"
        image = write_series(tmp_path / name / "CT", sample(SHAPE, number), name=name)
        write_series(tmp_path / name / "other", sample((3, 5, 5)), name=f"other {name}", modality="MR")
        names = ("liver", "spleen") if number else ("liver",)
        mask = np.minimum(boxes(), len(names))
        write_labels_for(image, kind, tmp_path / name / ("labels" if number else "") / "object.dcm", mask, names)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.channels) == ("dicom", ("CT",))
    assert [case.id for case in dataset.cases] == ["P0", "P1", "P2"]
    assert list(dataset.labels.foreground) == ["liver", "spleen"]
    assert dataset.cases[0].annotated == ("liver",)  # nobody says that there is no spleen
    assert dataset.cases[1].annotated is None
    assert check_layout(dataset) == []
    assert "left out: 3 MR" in " ".join(dataset.notes)
    for case in dataset.cases[1:]:
        volume, labels = read_image(case.images[0]), read_case_labels(case, dataset.labels)
        np.testing.assert_array_equal(labels.labels, boxes())
        assert check_case(case, volume, labels, dataset.labels, channels=1) == []


def test_everything_in_one_folder(tmp_path: Path) -> None:
    for number in range(2):
        folder = write_series(tmp_path / f"made{number}", sample(SHAPE, number), name=f"S{number}")
        write_labels_for(folder, "rtstruct", folder / "object.dcm", boxes(), ("a", "b"))
        (tmp_path / "all").mkdir(exist_ok=True)
        for path in folder.iterdir():
            shutil.move(path, tmp_path / "all" / f"{number}-{path.name}")
        folder.rmdir()
    dataset = open_dataset(tmp_path)
    assert len({case.id for case in dataset.cases}) == 2
    assert all(case.id.startswith("all-") for case in dataset.cases)
    assert check_layout(dataset) == []
    for case in dataset.cases:
        np.testing.assert_array_equal(read_case_labels(case, dataset.labels).labels, boxes())


def test_regions_that_overlap_become_values_of_their_own(tmp_path: Path) -> None:
    image = write_series(tmp_path / "P" / "CT", sample(SHAPE), name="P")
    path = write_labels_for(image, "rtstruct", tmp_path / "P" / "rs.dcm", boxes(), ("body", "organ"))
    structures = pydicom.dcmread(path)
    structures.ROIContourSequence[0].ContourSequence += structures.ROIContourSequence[1].ContourSequence
    structures.save_as(path)
    dataset = open_dataset(tmp_path)
    assert dataset.labels.has_regions
    assert "share voxels" in " ".join(dataset.notes)
    found = read_case_labels(dataset.cases[0], dataset.labels).labels
    members = {name: [dataset.labels.values[one] for one in each] for name, each in dataset.labels.foreground.items()}
    np.testing.assert_array_equal(np.isin(found, members["body"]), boxes() > 0)
    np.testing.assert_array_equal(np.isin(found, members["organ"]), boxes() == 2)


def test_labels_without_their_series_are_named(tmp_path: Path) -> None:
    image = write_series(tmp_path / "elsewhere", sample(SHAPE), name="gone")
    write_labels_for(image, "dicom-seg", tmp_path / "data" / "seg.dcm", boxes(), ("a", "b"))
    write_series(tmp_path / "data" / "scan", sample(SHAPE), name="here")
    with pytest.raises(DatasetError, match="none refers to another"):
        open_dataset(tmp_path / "data")


def test_one_label_in_two_files_is_not_guessed_at(tmp_path: Path) -> None:
    image = write_series(tmp_path / "P" / "CT", sample(SHAPE), name="P")
    for name in ("one", "two"):
        write_labels_for(image, "dicom-seg", tmp_path / "P" / f"{name}.dcm", boxes(), ("a", "b"))
    with pytest.raises(DatasetError, match=r"two\.dcm: holds the label 'a', which one\.dcm"):
        open_dataset(tmp_path)


def test_folders_of_series_beside_label_maps(tmp_path: Path) -> None:
    """A folder with a series stands for an image file in the other layouts."""
    for number in range(2):
        image = write_series(tmp_path / "folders" / "images" / f"P{number}", sample(SHAPE, number), name=f"P{number}")
        geometry = read_image(image).geometry
        write_labels(tmp_path / "folders" / "labels" / f"P{number}.nii.gz", boxes(), geometry)
        patient = tmp_path / "patients" / f"P{number}"
        shutil.copytree(image, patient / "t1")
        write_labels(patient / f"P{number}-seg.nii.gz", boxes(), geometry)
    for layout, channels in (("folders", ("channel_0",)), ("patients", ("t1",))):
        dataset = open_dataset(tmp_path / layout)
        assert (dataset.layout, dataset.channels) == (layout, channels)
        assert [case.id for case in dataset.cases] == ["P0", "P1"]
        assert check_layout(dataset) == []
        case = dataset.cases[1]
        volume, labels = read_image(case.images[0]), read_case_labels(case, dataset.labels)
        assert check_case(case, volume, labels, dataset.labels, channels=1) == []


def test_what_an_image_depends_on(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan")
    assert files_of(folder) == files_of(folder / "IM0001.dcm") == tuple(sorted(folder.iterdir()))
    assert files_of(tmp_path / "a.nii.gz") == (tmp_path / "a.nii.gz",)


# --------------------------------------------------------------------------------------------------------- as inputs


def test_one_series_many_series_and_a_file(tmp_path: Path) -> None:
    write_series(tmp_path / "A" / "CT", sample(SHAPE), name="A")
    write_series(tmp_path / "B", sample(SHAPE), name="B")
    cases, problems = find_inputs(tmp_path / "B", 1)
    assert [(case.id, case.images) for case in cases] == [("B", (tmp_path / "B",))]
    assert problems == []
    cases, problems = find_inputs(tmp_path, 1)
    assert [(case.id, case.images) for case in cases] == [("A", (tmp_path / "A" / "CT",)), ("B", (tmp_path / "B",))]
    cases, problems = find_inputs(tmp_path / "B" / "IM0003.dcm", 1)
    assert read_image(cases[0].images[0]).image.shape == (1, *SHAPE)


def test_labels_and_scouts_are_no_inputs(tmp_path: Path) -> None:
    image = write_series(tmp_path / "P" / "CT", sample(SHAPE), name="P")
    write_labels_for(image, "dicom-seg", tmp_path / "P" / "seg.dcm", boxes(), ("a", "b"))

    def scout(image: Any, number: int) -> None:
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    write_series(tmp_path / "P" / "scout", sample((1, 9, 9)), name="scout", directions=OBLIQUE, change=scout)
    cases, problems = find_inputs(tmp_path, 1)
    assert [case.id for case in cases] == ["P"]
    assert told(problems).count("no-image") == 2


def test_series_in_one_folder_get_names_that_tell_of_nobody(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scans", sample(SHAPE), name="one")
    for path in write_series(tmp_path / "more", sample(SHAPE), name="two").iterdir():
        shutil.move(path, folder / f"more-{path.name}")
    (tmp_path / "more").rmdir()
    cases, problems = find_inputs(folder, 1)
    assert "holds 2 series" in told(problems)
    assert len({case.id for case in cases}) == 2
    assert all(case.id.startswith("scans-") and len(case.id) == len("scans-") + 8 for case in cases)
    assert uid("one")[-8:] not in cases[0].id


def test_a_broken_series_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    write_series(tmp_path / "good", sample(SHAPE), name="good")
    gap = write_series(tmp_path / "gap", sample(SHAPE), name="gap")
    next(path for path in gap.iterdir() if pydicom.dcmread(path).ImagePositionPatient[2] == 105.0).unlink()
    cases, problems = find_inputs(tmp_path, 1)
    assert [case.id for case in cases] == ["good"]
    assert "has gaps" in told(problems)


def test_a_list_may_name_folders_for_channels(tmp_path: Path) -> None:
    for channel in ("t1", "t2"):
        write_series(tmp_path / "P" / channel, sample(SHAPE), name=channel, modality="MR")
    (tmp_path / "list.csv").write_text("case,channel,path\nP,0,P/t1\nP,1,P/t2\n")
    cases, problems = find_inputs(tmp_path / "list.csv", 2, ("t1", "t2"))
    assert problems == []
    assert cases[0].images == (tmp_path / "P" / "t1", tmp_path / "P" / "t2")
    by_name, problems = find_inputs(tmp_path, 2, ("t1", "t2"))
    assert [case.images for case in by_name] == [case.images for case in cases]


# ------------------------------------------------------------------------------------------------- broken label files


def structures(tmp_path: Path) -> tuple[Path, Path, Any]:
    image = write_series(tmp_path / "CT", sample(SHAPE), name="P")
    path = write_labels_for(image, "rtstruct", tmp_path / "rs.dcm", boxes(), ("a", "b"))
    return image, path, pydicom.dcmread(path)


def read_all(path: Path, image: Path) -> dict[str, np.ndarray]:
    return {name: found.labels for name, found in read_named(path, label_names(path), read_image(image).geometry)}


def test_holes_drawn_as_contours_of_their_own_are_holes(tmp_path: Path) -> None:
    image, path, found = structures(tmp_path)
    contour = found.ROIContourSequence[0].ContourSequence[0]
    outer = np.reshape(contour.ContourData, (-1, 3)).astype(float)
    middle = outer.mean(axis=0)
    inner = pydicom.Dataset()
    inner.ContourGeometricType = "CLOSED_PLANAR"
    inner.ContourData = [f"{value:.3f}" for value in (middle + (outer - middle) * 0.4).ravel()]
    found.ROIContourSequence[0].ContourSequence.append(inner)
    found.save_as(path)
    plane = read_all(path, image)["a"][1]
    assert plane.sum() < boxes()[1].sum()
    assert plane[8, 10] == 0
    assert plane[4, 5] == 1


def test_contours_between_slices_are_named(tmp_path: Path) -> None:
    image, path, found = structures(tmp_path)
    contour = found.ROIContourSequence[0].ContourSequence[0]
    points = np.reshape(contour.ContourData, (-1, 3)).astype(float) + np.array([0, 0, 1.25])
    contour.ContourData = [f"{value:.3f}" for value in points.ravel()]
    found.save_as(path)
    with pytest.raises(ReadError, match="does not lie in a slice"):
        read_all(path, image)


def test_points_and_contours_outside_are_left_out_with_a_note(tmp_path: Path) -> None:
    image, path, found = structures(tmp_path)
    contours = found.ROIContourSequence[0].ContourSequence
    contours[0].ContourGeometricType = "POINT"
    points = np.reshape(contours[1].ContourData, (-1, 3)).astype(float) + np.array([0, 0, 250])
    contours[1].ContourData = [f"{value:.3f}" for value in points.ravel()]
    found.save_as(path)
    ((_, labels), *_) = read_named(path, ("a",), read_image(image).geometry)
    assert "1 contours lie above or below" in labels.notes[0]
    assert "points or open lines" in labels.notes[1]
    assert labels.labels.any(axis=(1, 2)).tolist() == [False, False, False, True, False, False]


def test_contours_need_their_image(tmp_path: Path) -> None:
    _, path, _ = structures(tmp_path)
    with pytest.raises(ReadError, match="need the image"):
        read_labels(path)
    with pytest.raises(DatasetError, match="has no label 'c'"):
        list(read_named(path, ("c",), read_image(tmp_path / "CT").geometry))


def test_segments_on_another_grid_are_named(tmp_path: Path) -> None:
    image = write_series(tmp_path / "CT", sample(SHAPE), name="P")
    path = write_labels_for(image, "dicom-seg", tmp_path / "seg.dcm", boxes(), ("a", "b"))
    shifted = write_series(tmp_path / "shifted", sample(SHAPE), name="Q", origin=(-30.3, 20.0, 100.0))
    with pytest.raises(ReadError, match="another grid"):
        read_all(path, shifted)
    away = write_series(tmp_path / "away", sample(SHAPE), name="R", origin=(-30.0, 20.0, 150.0))
    with pytest.raises(ReadError, match="outside the image"):
        read_all(path, away)


def test_segments_find_their_place_in_a_grid_stored_the_other_way_round(tmp_path: Path) -> None:
    image = write_series(tmp_path / "CT", sample(SHAPE), name="P")
    path = write_labels_for(image, "dicom-seg", tmp_path / "seg.dcm", boxes(), ("a", "b"))
    geometry = read_image(image).geometry
    flip = np.diag([-1.0, 1.0, -1.0, 1.0])
    flip[0, 3], flip[2, 3] = SHAPE[2] - 1, SHAPE[0] - 1
    matrix = geometry.matrix @ flip
    turned = geometry.model_copy(update={"affine": tuple(tuple(row) for row in matrix.tolist())})
    found = {name: one.labels for name, one in read_named(path, ("a", "b"), turned)}
    np.testing.assert_array_equal(found["a"][::-1, :, ::-1], boxes() == 1)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["dicom-seg", "rtstruct"]), st.integers(0, 10**6), st.binary(min_size=1, max_size=6))
def test_damage_anywhere_in_labels_is_our_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, kind: str, at: int, what: bytes
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    image = write_series(folder / "CT", sample((3, 8, 9)), name="P")
    mask = np.zeros((3, 8, 9), np.uint8)
    mask[1, 2:6, 3:7] = 1
    path = write_labels_for(image, kind, folder / "object.dcm", mask, ("a", "b"))
    raw = bytearray(path.read_bytes())
    place = 132 + at % (len(raw) - 132)
    raw[place : place + len(what)] = what
    path.write_bytes(bytes(raw))
    told = ""
    try:
        read_all(path, image)
        read_labels(path)
        find_inputs(folder, 1)
        open_dataset(folder)
    except DatasetError as error:
        told = str(error)
    assert not [secret for secret in SECRETS.values() if secret in told]


def test_text_that_is_not_in_its_encoding_is_read_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = write_series(tmp_path / "CT", sample((3, 8, 9)), name="P")
    mask = np.zeros((3, 8, 9), np.uint8)
    mask[1, 2:6, 3:7], mask[2, 2:6, 3:7] = 1, 2
    path = write_labels_for(image, "dicom-seg", tmp_path / "object.dcm", mask, ("first", "second"))
    raw = path.read_bytes()
    assert b"first" in raw
    path.write_bytes(raw.replace(b"first", b"fi\xfest"))
    names = label_names(path)
    assert len(names) == 2
    assert "second" in names
    assert not caplog.records


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.parametrize(
    ("labels", "image", "references"),
    [
        ("liver.dcm", "ct-3slice", {"Liver": ("liver_seg.nrrd", 1)}),
        (
            "partial_overlaps.dcm",
            "ct-3slice",
            {
                "GREEN": ("partial_overlaps-1.nrrd", 1),
                "ORANGE": ("partial_overlaps-2.nrrd", 2),
                "PURPLE": ("partial_overlaps-3.nrrd", 3),
                "LIGHT_BLUE": ("partial_overlaps-1.nrrd", 4),
                "DARK_BLUE": ("partial_overlaps-1.nrrd", 5),
            },
        ),
        ("sparse-labelmap-ppv5.dcm", "24x38x3/image", {"Liver": ("sparse_labelmap_ppv5_seg.nrrd", 1)}),
        ("24x38x3/seg/label.seg", "24x38x3/image", {"Liver": ("24x38x3/nrrd/label.nrrd", 1)}),
    ],
)
def test_real_segmentations_as_others_read_them(
    labels: str, image: str, references: dict[str, tuple[str, int]], shared: Path
) -> None:
    """Against the NRRD files that dcmqi ships beside its DICOM-SEG files."""
    root = shared / "data" / "dicom" / "dcmqi" / "data" / "segmentations"
    volume = read_image(root / image)
    for name, found in read_named(root / labels, tuple(references), volume.geometry):
        file, value = references[name]
        theirs = read_labels(root / file)
        there, ours = np.argwhere(theirs.labels == value), np.argwhere(found.labels)
        assert len(there) == len(ours)
        world = [
            np.c_[places[:, ::-1], np.ones(len(places))] @ one.geometry.matrix.T
            for places, one in ((there, theirs), (ours, found))
        ]
        assert cKDTree(world[0]).query(world[1])[0].max() < 0.01


def test_real_datasets_are_found(shared: Path) -> None:
    root = shared / "data" / "dicom" / "rt-utils" / "mock_data"
    volume = read_image(root / "ct_1.dcm")
    ((name, found),) = read_named(root / "rt.dcm", label_names(root / "rt.dcm"), volume.geometry)
    assert name == "ROI-1"
    assert found.labels.sum() == 1443
