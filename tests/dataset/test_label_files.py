from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoseg.arrays.labels import encode, region_round_trip
from autoseg.dataset.checks import check_case
from autoseg.dataset.label_files import read_case_labels, read_reference
from autoseg.dataset.layout_checks import check_layout
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_image
from autoseg.errors import DatasetError
from autoseg.records import Case, Labels

Save = Callable[..., Path]
SHAPE = (4, 5, 6)
IMAGE = np.arange(120, dtype=np.int16).reshape(SHAPE)


def box(low: int, high: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :, low:high] = 1
    return mask


APART = {"spleen": box(3, 5), "liver": box(0, 2)}
OVERLAPPING = {"liver": box(0, 4), "tumour": box(2, 3), "vessel": box(2, 6)}


def in_folders(root: Path, cases: dict[str, dict[str, np.ndarray]], save: Save, labels: str = "labelsTr") -> Path:
    for case, masks in cases.items():
        save(root / labels.replace("labels", "images") / f"{case}.nii.gz", IMAGE)
        for name, mask in masks.items():
            save(root / labels / case / f"{name}.nii.gz", mask)
    return root


def in_patients(root: Path, cases: dict[str, dict[str, np.ndarray]], save: Save) -> Path:
    for case, masks in cases.items():
        save(root / case / "ct.nii.gz", IMAGE)
        for name, mask in masks.items():
            save(root / case / "segmentations" / f"{name}.nii.gz", mask)
    return root


@pytest.mark.parametrize("build", [in_folders, in_patients])
def test_labels_apart_get_plain_values(build: Callable[..., Path], tmp_path: Path, save_nifti: Save) -> None:
    root = build(tmp_path, {"a": APART, "b": {name: 255 * mask for name, mask in APART.items()}}, save_nifti)
    dataset = open_dataset(root)
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert all(case.labelled and case.labels is None and case.annotated is None for case in dataset.cases)
    assert dataset.labels == Labels(names={"background": 0, "liver": 1, "spleen": 2})
    assert check_layout(dataset) == []
    for case in dataset.cases:
        label_map = read_case_labels(case, dataset.labels)
        np.testing.assert_array_equal(label_map.labels, 1 * APART["liver"] + 2 * APART["spleen"])
        assert label_map.labels.dtype == np.uint8
        assert check_case(case, read_image(case.images), label_map, dataset.labels) == []


@pytest.mark.parametrize("build", [in_folders, in_patients])
def test_overlapping_labels_become_regions(build: Callable[..., Path], tmp_path: Path, save_nifti: Save) -> None:
    other = {**OVERLAPPING, "tumour": box(0, 1)}
    dataset = open_dataset(build(tmp_path, {"a": OVERLAPPING, "b": other}, save_nifti))
    labels = dataset.labels
    # 4: liver and tumour, 5: all three, 6: liver and vessel
    assert labels.names == {"background": 0, "liver": (1, 4, 5, 6), "tumour": (2, 4, 5), "vessel": (3, 5, 6)}
    assert labels.has_regions
    assert labels.regions_class_order is None
    assert region_round_trip(labels) == ()
    assert any("share voxels" in note and "3 combinations" in note for note in dataset.notes)
    for case, masks in zip(dataset.cases, (OVERLAPPING, other), strict=True):
        found = read_case_labels(case, labels).labels
        training = encode(found, labels)
        for name, members in labels.foreground.items():
            np.testing.assert_array_equal(np.isin(training, members), masks[name] > 0)


def test_a_missing_file_means_not_drawn(tmp_path: Path, save_nifti: Save) -> None:
    cases = {"a": OVERLAPPING, "b": {"liver": box(0, 3)}, "c": {"liver": box(0, 1), "vessel": box(0, 2)}}
    dataset = open_dataset(in_folders(tmp_path, cases, save_nifti))
    assert [case.annotated for case in dataset.cases] == [None, ("liver",), ("liver", "vessel")]
    for case, masks in zip(dataset.cases, cases.values(), strict=True):
        label_map = read_case_labels(case, dataset.labels)
        training = encode(label_map.labels, dataset.labels)
        assert dataset.labels.drawn_names(case.annotated) == tuple(name for name in OVERLAPPING if name in masks)
        for name, mask in masks.items():
            np.testing.assert_array_equal(np.isin(training, dataset.labels.foreground[name]), mask > 0)
        assert check_case(case, read_image(case.images), label_map, dataset.labels) == []


def test_absent_files_may_be_said_to_mean_absent_labels(tmp_path: Path, save_nifti: Save) -> None:
    root = in_folders(tmp_path, {"a": APART, "b": {"liver": box(0, 3)}}, save_nifti)
    (root / "dataset.json").write_text(json.dumps({"channel_names": ["CT"], "annotated": "all"}), encoding="utf-8")
    assert [case.annotated for case in open_dataset(root).cases] == [None, None]


def test_declared_names_and_values(tmp_path: Path, save_nifti: Save) -> None:
    root = in_folders(tmp_path, {"a": OVERLAPPING, "b": {"liver": box(0, 3)}}, save_nifti)
    table = {"background": 0, "vessel": 7, "liver": 3, "organs": "liver + vessel", "absent": 9}
    (root / "dataset.json").write_text(json.dumps({"channel_names": ["CT"], "labels": table}), encoding="utf-8")
    dataset = open_dataset(root)
    assert dataset.labels.names == {
        "background": 0,
        "vessel": (7, 10),
        "liver": (3, 10),
        "organs": (3, 7, 10),
        "absent": 9,
    }
    assert any("left out: tumour" in note for note in dataset.notes)
    assert any("no case has a file for: absent" in note for note in dataset.notes)
    assert [name for name, _ in dataset.cases[0].label_files] == ["vessel", "liver"]
    # the organs are unknown where the vessels are
    assert dataset.cases[1].annotated == ("liver", "absent")
    found = read_case_labels(dataset.cases[0], dataset.labels).labels
    assert found[0, 0].tolist() == [3, 3, 10, 10, 7, 7]


def test_declared_labels_without_any_file(tmp_path: Path, save_nifti: Save) -> None:
    root = in_folders(tmp_path, {"a": APART}, save_nifti)
    (root / "dataset.json").write_text('{"channel_names": ["CT"], "labels": {"kidney": 1}}', encoding="utf-8")
    with pytest.raises(DatasetError, match="there are liver, spleen"):
        open_dataset(root)


def test_an_ignore_file(tmp_path: Path, save_nifti: Save) -> None:
    masks = {**OVERLAPPING, "ignore": box(5, 6), "background": box(0, 6)}
    dataset = open_dataset(in_folders(tmp_path, {"a": masks, "b": OVERLAPPING}, save_nifti))
    assert dataset.labels.ignore == 6
    assert dataset.labels.names["liver"] == (1, 4, 5)
    assert dataset.cases[0].annotated is None
    found = read_case_labels(dataset.cases[0], dataset.labels).labels
    assert found[0, 0].tolist() == [1, 1, 4, 5, 3, 6]


def test_an_ignore_file_whose_declared_value_is_below_0(tmp_path: Path, save_nifti: Save) -> None:
    root = in_folders(tmp_path, {"a": {**APART, "ignore": box(5, 6)}}, save_nifti)
    table = {"background": 0, "liver": 1, "spleen": 2, "ignore": -1}
    (root / "dataset.json").write_text(json.dumps({"channel_names": ["CT"], "labels": table}), encoding="utf-8")
    dataset = open_dataset(root)
    found = read_case_labels(dataset.cases[0], dataset.labels).labels
    assert found[0, 0].tolist() == [1, 1, 0, 2, 2, -1]
    assert encode(found, dataset.labels)[0, 0].tolist() == [1, 1, 0, 2, 2, 3]


def test_files_on_other_grids_are_named(tmp_path: Path, save_nifti: Save) -> None:
    root = in_folders(tmp_path, {"a": APART, "b": APART, "c": APART}, save_nifti)
    save_nifti(root / "labelsTr" / "b" / "spleen.nii.gz", np.ones((4, 5, 7), np.uint8))
    moved = np.eye(4)
    moved[0, 3] = 3
    save_nifti(root / "labelsTr" / "c" / "spleen.nii.gz", box(3, 5), moved)
    dataset = open_dataset(root)
    assert any("2 cases could not be used" in note for note in dataset.notes)
    with pytest.raises(DatasetError, match=r"spleen\.nii\.gz: this label file has shape \(4, 5, 7\)"):
        read_case_labels(dataset.cases[1], dataset.labels)
    with pytest.raises(DatasetError, match=r"spleen\.nii\.gz: this label file lies 3\.0 mm away"):
        read_case_labels(dataset.cases[2], dataset.labels)


def test_a_file_of_several_values_is_told(tmp_path: Path, save_nifti: Save) -> None:
    dataset = open_dataset(in_folders(tmp_path, {"a": {**APART, "liver": box(0, 2) * 2 + box(1, 2)}}, save_nifti))
    (note,) = read_case_labels(dataset.cases[0], dataset.labels).notes
    assert note == "liver.nii.gz: all its 2 values above 0 mean liver"


def test_combinations_of_test_cases_are_scored_without_having_been_planned(tmp_path: Path, save_nifti: Save) -> None:
    root = in_folders(tmp_path, {"a": APART, "b": APART}, save_nifti)
    in_folders(root, {"t": {"liver": box(0, 3), "spleen": box(2, 4)}}, save_nifti, "labelsTs")
    dataset = open_dataset(root)
    (case,) = dataset.test_cases
    assert dataset.labels.values == (0, 1, 2)
    with pytest.raises(DatasetError, match="20 voxels belong to liver and spleen at once"):
        read_case_labels(case, dataset.labels)
    label_map, labels = read_reference(case, dataset.labels)
    assert labels.names == {"background": 0, "liver": (1, 3), "spleen": (2, 3)}
    assert label_map.labels[0, 0].tolist() == [1, 1, 3, 2, 0, 0]


def test_label_maps_and_label_files_do_not_mix(tmp_path: Path, save_nifti: Save) -> None:
    root = in_folders(tmp_path, {"a": APART}, save_nifti)
    save_nifti(root / "imagesTr" / "b.nii.gz", IMAGE)
    save_nifti(root / "labelsTr" / "b.nii.gz", box(0, 2))
    with pytest.raises(DatasetError, match="case b has a label map, case a one file per label"):
        open_dataset(root)


def test_two_files_of_one_label(tmp_path: Path, save_nifti: Save) -> None:
    root = in_folders(tmp_path, {"a": APART}, save_nifti)
    save_nifti(root / "labelsTr" / "a" / "liver.nii", box(0, 2))
    with pytest.raises(DatasetError, match="two files for the label 'liver'"):
        open_dataset(root)


def test_a_folder_without_image_and_a_case_without_folder(tmp_path: Path, save_nifti: Save) -> None:
    root = in_folders(tmp_path, {"a": APART, "b": {}}, save_nifti)
    save_nifti(root / "labelsTr" / "z" / "liver.nii.gz", box(0, 2))
    dataset = open_dataset(root)
    assert any("left out: z" in note for note in dataset.notes)
    assert [(problem.kind, problem.case) for problem in check_layout(dataset)] == [("missing-label", "b")]
    with pytest.raises(DatasetError, match="has no file of any label"):
        read_case_labels(Case(id="b", images=()), dataset.labels)


def test_undeclared_maps_of_very_many_values_ask_for_a_declaration(tmp_path: Path, save_nifti: Save) -> None:
    save_nifti(tmp_path / "images" / "a.nii.gz", np.ones((8, 9, 10), np.int16))
    save_nifti(tmp_path / "labels" / "a.nii.gz", np.arange(720, dtype=np.uint16).reshape(8, 9, 10))
    with pytest.raises(DatasetError, match=r"1 of 1 label files could not be used .* more than 300 values"):
        open_dataset(tmp_path)
