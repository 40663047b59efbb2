from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autoseg.dataset.layout_checks import check_layout
from autoseg.dataset.layouts import LAYOUTS, open_dataset
from autoseg.dataset.readers import read_image
from autoseg.errors import DatasetError

Build = Callable[..., Path]

NNUNET = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "a": 1, "b": 3},
    "file_ending": ".nii.gz",
}


def names(*stems: str, ending: str = ".nii.gz") -> list[str]:
    return [stem + ending for stem in stems]


# ------------------------------------------------------------------------------------------------------ nnU-Net


def test_nnunet(make_dataset: Build) -> None:
    files = {
        "imagesTr": names("b_0000", "b_0001", "a_0000", "a_0001"),
        "labelsTr": names("a", "b"),
        "imagesTs": names("c_0000", "c_0001"),
        "labelsTs": names("c"),
    }
    root = make_dataset(files, NNUNET)
    (root / "imagesTr" / "._a_0000.nii.gz").write_bytes(b"x")
    (root / "imagesTr" / ".DS_Store").write_bytes(b"x")
    dataset = open_dataset(root)
    assert dataset.layout == "nnunet"
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert [path.name for path in dataset.cases[0].images] == names("a_0000", "a_0001")
    assert dataset.cases[0].labels == root / "labelsTr" / "a.nii.gz"
    assert dataset.test_cases[0].labels == root / "labelsTs" / "c.nii.gz"
    assert dataset.channels == ("T1", "T2")
    assert dataset.labels.values == (0, 1, 3)
    assert any("channels" in note for note in dataset.notes)
    assert check_layout(dataset) == []


def test_names_without_channel_numbers(make_dataset: Build) -> None:
    record = NNUNET | {"channel_names": {"0": "CT"}, "numTraining": 7}
    dataset = open_dataset(make_dataset({"imagesTr": names("a", "b"), "labelsTr": names("a", "b")}, record))
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert all(case.labels for case in dataset.cases)
    assert any("declares 7" in note for note in dataset.notes)


def test_labels_decide_that_numbers_are_names(make_dataset: Build) -> None:
    record = NNUNET | {"channel_names": {"0": "CT"}}
    stems = ("scan_0000", "scan_0001", "scan_0002")
    dataset = open_dataset(make_dataset({"imagesTr": names(*stems), "labelsTr": names(*stems)}, record))
    assert [case.id for case in dataset.cases] == list(stems)
    assert all(len(case.images) == 1 and case.labels for case in dataset.cases)
    assert any("part of the case name" in note for note in dataset.notes)


def test_a_missing_channel_is_found_by_name(make_dataset: Build) -> None:
    files = {"imagesTr": names("a_0000", "a_0001", "b_0000"), "labelsTr": names("a", "b")}
    dataset = open_dataset(make_dataset(files, NNUNET))
    (problem,) = check_layout(dataset)
    assert (problem.kind, problem.case) == ("missing-channel", "b")
    assert problem.file is not None
    assert problem.file.name == "b_0001.nii.gz"
    assert "T2" in problem.what


def test_a_missing_label_and_strangers_are_found(make_dataset: Build) -> None:
    files = {"imagesTr": names("a_0000", "a_0001", "b_0000", "b_0001"), "labelsTr": names("a", "z")}
    root = make_dataset(files, NNUNET)
    (root / "imagesTr" / "notes.doc").write_text("x")
    (root / "imagesTr" / "readme.txt").write_text("x")
    found = {problem.kind: problem for problem in check_layout(open_dataset(root))}
    assert set(found) == {"missing-label", "label-without-image", "unknown-file"}
    assert found["missing-label"].case == "b"
    assert str(found["label-without-image"].file).endswith("z.nii.gz")


def test_two_files_of_one_case_are_a_duplicated_id(make_dataset: Build) -> None:
    record = NNUNET | {"channel_names": {"0": "CT"}}
    files = {"imagesTr": ["a_0000.nii.gz", "a_0000.nii", "b_0000.nii", "B_0000.nii"], "labelsTr": names("a", "b", "B")}
    kinds = [problem.kind for problem in check_layout(open_dataset(make_dataset(files, record)))]
    assert sorted(kinds) == ["duplicated-id", "similar-id"]


def test_version_1_of_nnunet(make_dataset: Build) -> None:
    record = {
        "modality": {"0": "MRI"},
        "labels": {str(value): name for value, name in enumerate(["background", *"abcdefghijk"])},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    }
    dataset = open_dataset(make_dataset({"imagesTr": names("a_0000"), "labelsTr": names("a")}, record))
    assert dataset.layout == "nnunet"
    assert dataset.cases[0].id == "a"
    assert list(dataset.labels.names.values()) == list(range(12))  # 10 comes after 9, not after 1


def test_regions_and_ignore(make_dataset: Build) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3, "ignore": 4}
    record = {"channel_names": {"0": "x"}, "labels": labels, "regions_class_order": [1, 2, 3]}
    dataset = open_dataset(make_dataset({"imagesTr": names("a_0000"), "labelsTr": names("a")}, record))
    assert dataset.labels.names["whole"] == (1, 2, 3)
    assert dataset.labels.ignore == 4
    assert dataset.labels.has_regions


def test_the_table_of_cases_of_nnunet(make_dataset: Build) -> None:
    table = {"p1": {"images": ["raw/x.nii.gz", "raw/y.nii.gz"], "label": "seg/z.nii.gz"}}
    root = make_dataset({"raw": names("x", "y"), "seg": names("z")}, NNUNET | {"dataset": table})
    (case,) = open_dataset(root).cases
    assert case.id == "p1"
    assert [path.name for path in case.images] == names("x", "y")
    assert case.labels == root / "seg" / "z.nii.gz"


# ---------------------------------------------------------------------------------------------------- Decathlon


def test_decathlon(make_dataset: Build) -> None:
    record = {
        "name": "Thing",
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "a"},
        "training": [
            {"image": f"./imagesTr/{stem}.nii.gz", "label": f"./labelsTr/{stem}.nii.gz"}
            for stem in ("c_2", "c_1", "c_3")
        ],
        "test": ["./imagesTs/t_1.nii.gz", "./imagesTs/absent.nii.gz"],
    }
    files = {"imagesTr": names("c_1", "c_2"), "labelsTr": names("c_1"), "imagesTs": names("t_1")}
    dataset = open_dataset(make_dataset(files, record))
    assert (dataset.layout, dataset.name, dataset.channels) == ("decathlon", "Thing", ("FLAIR", "T1w"))
    assert [case.id for case in dataset.cases] == ["c_1", "c_2", "c_3"]
    assert [case.id for case in dataset.test_cases] == ["t_1"]
    found = sorted((problem.kind, problem.case) for problem in check_layout(dataset))
    assert found == [("missing-image", "c_3"), ("missing-label", "c_2"), ("missing-label", "c_3")]


# ------------------------------------------------------------------------------------------------- bare folders


@pytest.mark.parametrize(
    ("images", "labels"),
    [("images", "labels"), ("imagesTr", "labelsTr"), ("img", "masks"), ("images", "segmentations")],
)
def test_two_folders_without_json(images: str, labels: str, tmp_path: Path, save_nifti: Callable[..., Path]) -> None:
    for stem in ("a", "b"):
        save_nifti(tmp_path / images / f"{stem}.nii.gz", np.ones((3, 4, 5), np.int16))
        values = np.zeros((3, 4, 5), np.float32)
        values[0, 0, :2] = (1, 200 if stem == "b" else 5)
        save_nifti(tmp_path / labels / f"{stem}_seg.nii.gz", values)
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "folders"
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert all(case.labels for case in dataset.cases)
    assert dataset.labels.names == {"background": 0, "label_1": 1, "label_5": 5, "label_200": 200}
    assert any("0, 1, 5, 200" in note for note in dataset.notes)


def test_images_and_labels_in_one_folder(tmp_path: Path, save_nifti: Callable[..., Path]) -> None:
    for stem in ("scan_1", "scan_2"):
        save_nifti(tmp_path / f"{stem}.nii.gz", np.ones((3, 4, 5), np.int16))
    save_nifti(tmp_path / "scan_1_seg.nii.gz", np.ones((3, 4, 5), np.int16))
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "flat"
    assert [(case.id, case.labels is not None) for case in dataset.cases] == [("scan_1", True), ("scan_2", False)]
    (tmp_path / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"})
    )
    assert "liver" in open_dataset(tmp_path).labels.names
    (tmp_path / "scan_1.nii.gz").unlink()
    with pytest.raises(DatasetError, match="known layout"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("folders", "remedy"),
    [
        (("scans", "masks"), "If scans holds the images, rename it to images."),
        (("images", "drawn"), "If drawn holds the labels, rename it to labels."),
        (("scans", "drawn"), "Known are"),
        (("scans", "masks", "more"), "Known are"),
    ],
)
def test_a_folder_of_another_name_is_asked_about(
    folders: tuple[str, ...], remedy: str, tmp_path: Path, save_nifti: Callable[..., Path]
) -> None:
    for folder in folders:
        save_nifti(tmp_path / folder / "a.nii.gz", np.ones((3, 4, 5), np.int16))
    with pytest.raises(DatasetError, match="known layout") as refused:
        open_dataset(tmp_path)
    assert str(refused.value.remedy).startswith(remedy)


def test_complete_sets_of_numbers_are_channels_without_json(make_dataset: Build) -> None:
    files = {"images": names("a_0000", "a_0001", "b_0000", "b_0001"), "labels": names("a", "b")}
    dataset = open_dataset(make_dataset(files))
    assert [len(case.images) for case in dataset.cases] == [2, 2]
    assert dataset.channels == ("channel_0", "channel_1")


def test_numbers_in_names_and_labels_alike_stay_names_without_json(make_dataset: Build) -> None:
    stems = ("scan_0000", "scan_0001")
    dataset = open_dataset(make_dataset({"images": names(*stems), "labels": names(*stems)}))
    assert [case.id for case in dataset.cases] == list(stems)


def test_4d_files_give_channels_without_json(tmp_path: Path, save_nifti: Callable[..., Path]) -> None:
    save_nifti(tmp_path / "images" / "a.nii.gz", np.zeros((3, 4, 5, 6), np.int16))
    save_nifti(tmp_path / "labels" / "a.nii.gz", np.ones((4, 5, 6), np.uint8))
    assert len(open_dataset(tmp_path).channels) == 3


def test_labels_that_are_images_do_not_become_values(tmp_path: Path, save_nifti: Callable[..., Path]) -> None:
    for stem, values in (
        ("a", np.ones((4, 5, 6))),
        ("b", np.arange(120).reshape(4, 5, 6) - 60),
        ("c", np.full((4, 5, 6), 0.5)),
    ):
        save_nifti(tmp_path / "images" / f"{stem}.nii.gz", np.ones((4, 5, 6), np.int16))
        save_nifti(tmp_path / "labels" / f"{stem}.nii.gz", values.astype(np.float32))
    (tmp_path / "labels" / "d.nii.gz").write_bytes(b"")
    (tmp_path / "images" / "d.nii.gz").write_bytes(b"")
    dataset = open_dataset(tmp_path)
    assert dataset.labels.values == (0, 1)
    assert any("3 label files" in note for note in dataset.notes)


# ------------------------------------------------------------------------------------------------------ patients


def test_patient_folders(make_dataset: Build) -> None:
    files = {f"P{number}": names(f"P{number}-t1", f"P{number}-flair", f"P{number}-seg") for number in (1, 2, 3)}
    files["P2"].append("P2-extra.nii.gz")
    files["P3"].remove("P3-t1.nii.gz")
    dataset = open_dataset(make_dataset(files))
    assert dataset.layout == "patients"
    assert dataset.channels == ("flair", "t1")
    assert [case.id for case in dataset.cases] == ["P1", "P2", "P3"]
    assert [path.name for path in dataset.cases[0].images] == names("P1-flair", "P1-t1")
    assert any("extra" in note for note in dataset.notes)
    found = sorted((problem.kind, problem.case) for problem in check_layout(dataset))
    assert found == [("file-without-case", None), ("missing-channel", "P3")]


def test_patient_folders_with_a_table_of_labels(make_dataset: Build) -> None:
    record = {"labels": {"background": 0, "tumour": 1, "cyst": 3}}
    files = {"A": names("t1", "mask"), "B": names("t1", "mask")}
    dataset = open_dataset(make_dataset(files, record))
    assert dataset.layout == "patients"
    assert "tumour" in dataset.labels.names


def test_several_label_files_of_a_patient_are_refused(make_dataset: Build) -> None:
    with pytest.raises(DatasetError, match="several label files: P1-gmseg"):
        open_dataset(make_dataset({"P1": names("P1-t1", "P1-seg", "P1-gmseg")}))


# --------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n "labels": {"background": 0,}\n}', "line 2"),
        ('{ // comment\n "labels": {}}', "line 1"),
        ("[1, 2]", "object"),
        ('{"labels": {"background": 0, "a": "one"}}', "labels.a"),
        ('{"labels": {"background": 0, "a": 1.5}}', "labels.a"),
        ('{"labels": {"background": 3, "a": 1}}', "background"),
        ('{"labels": {"background": 0, "a": [1, 2]}}', r"labels: .*value 2 \(in a\) would become 1"),
        ('{"labels": {"background": 0, "a": 1, "ignore": 1}}', "ignore"),
        ('{"labels": [1]}', "labels"),
        ('{"channel_names": {"a": "b"}}', "channel_names"),
        ('{"training": [3]}', "training.0"),
        ('{"dataset": {"a": {}}}', "dataset.a"),
    ],
)
def test_a_broken_json_names_the_place(text: str, message: str, make_dataset: Build) -> None:
    root = make_dataset({"imagesTr": names("a_0000"), "labelsTr": names("a")}, {})
    (root / "dataset.json").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(root)
    assert "dataset.json" in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"Background": 0, "a": 1}, {"background": 0, "a": 1}),
        ({"a": 1}, {"background": 0, "a": 1}),
        ({"background": [0], "a": "2"}, {"background": 0, "a": 2}),
        ({}, {"background": 0, "label_1": 1, "label_3": 3}),
    ],
)
def test_odd_tables_of_labels_are_understood(
    labels: dict[str, object], expected: dict[str, int], make_dataset: Build
) -> None:
    record = {"channel_names": ["CT"], "labels": labels}
    dataset = open_dataset(make_dataset({"imagesTr": names("a_0000"), "labelsTr": names("a")}, record))
    assert dataset.labels.names == expected
    assert len(dataset.notes) == 2


def test_folders_that_are_no_dataset(tmp_path: Path, make_dataset: Build) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(DatasetError, match="known layout"):
        open_dataset(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match="is a file"):
        open_dataset(tmp_path / "file")
    root = make_dataset({"labelsTr": names("a")}, NNUNET)
    (root / "imagesTr").mkdir()
    with pytest.raises(DatasetError, match="no training image"):
        open_dataset(root)


def test_ids_that_climb_are_refused(make_dataset: Build) -> None:
    table = {"../p1": {"images": ["raw/x.nii.gz"], "label": "seg/z.nii.gz"}}
    with pytest.raises(DatasetError, match="case id"):
        open_dataset(make_dataset({"raw": names("x"), "seg": names("z")}, NNUNET | {"dataset": table}))


def test_odd_paths(tmp_path: Path, repository: Path) -> None:
    root = tmp_path / "Größe 'und' \"mehr\"; $x"
    shutil.copytree(repository / "example_data", root)
    dataset = open_dataset(root)
    assert read_image(dataset.cases[0].images).image.ndim == 4


# ------------------------------------------------------------------------------------------------------ real data


@pytest.mark.parametrize(
    ("folder", "layout", "cases", "tests", "channels", "values"),
    [
        ("Task04_Hippocampus", "decathlon", 260, 1, 1, 3),
        ("Dataset503_OpenKBP_HN_CT", "nnunet", 60, 0, 1, 8),
        ("Dataset501_FetalSpinaBifidaAtlas", "nnunet", 15, 0, 1, 9),
        ("Dataset516_TotalSegCT", "nnunet", 3, 0, 1, 118),
        ("Dataset513_AxonSEM", "nnunet", 10, 0, 1, 3),
        ("Dataset515_DSB2018", "nnunet", 200, 0, 3, 3),
    ],
)
def test_real_datasets(
    folder: str, layout: str, cases: int, tests: int, channels: int, values: int, shared: Path
) -> None:
    begin = time.perf_counter()
    dataset = open_dataset(shared / "data" / folder)
    assert time.perf_counter() - begin < 1.0  # about 0.03 s here: no image is opened
    assert (dataset.layout, len(dataset.cases), len(dataset.test_cases)) == (layout, cases, tests)
    assert len(dataset.channels) == channels
    assert len(dataset.labels.values) == values
    assert check_layout(dataset) == []
    volume = read_image(dataset.cases[0].images)
    assert volume.image.shape[0] == channels


def test_every_layout_is_reached(shared: Path, tmp_path: Path) -> None:
    """One real dataset rearranged into each layout gives the same cases."""
    source = shared / "data" / "Task04_Hippocampus"
    wanted = open_dataset(source).cases[:3]
    for case in wanted:
        assert case.labels is not None
        for target in (
            tmp_path / "folders" / "images" / f"{case.id}.nii.gz",
            tmp_path / "nnunet" / "imagesTr" / f"{case.id}_0000.nii.gz",
            tmp_path / "patients" / case.id / f"{case.id}-t1.nii.gz",
            tmp_path / "flat" / f"{case.id}.nii.gz",
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(case.images[0], target)
            ending = {"images": f"../labels/{case.id}", "imagesTr": f"../labelsTr/{case.id}"}
            labels = target.parent / f"{ending.get(target.parent.name, f'{case.id}-seg')}.nii.gz"
            labels.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(case.labels, labels)
    shutil.copyfile(source / "dataset.json", tmp_path / "nnunet" / "dataset.json")
    for layout in set(LAYOUTS) - {"decathlon", "dicom", "bids"}:  # these have tests of their own
        dataset = open_dataset(tmp_path / layout)
        assert dataset.layout == layout
        assert [case.id for case in dataset.cases] == [case.id for case in wanted]
        assert dataset.labels.values == (0, 1, 2)
        assert nib.load(dataset.cases[1].images[0]).shape == nib.load(wanted[1].images[0]).shape


@pytest.mark.parametrize("where", ["../elsewhere/a.nii.gz", "imagesTr/../../a.nii.gz", "/etc/passwd"])
def test_files_outside_of_the_folder_are_not_read_at_the_word_of_its_json(tmp_path: Path, where: str) -> None:
    root = tmp_path / "data"
    (root / "imagesTr").mkdir(parents=True)
    (root / "imagesTr" / "b.nii.gz").touch()
    (tmp_path / "a.nii.gz").touch()
    listed = [{"image": "imagesTr/b.nii.gz", "label": None}, {"image": where, "label": None}]
    record = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "organ"}, "training": listed}
    (root / "dataset.json").write_text(json.dumps(record))
    with pytest.raises(DatasetError, match="outside the dataset's folder"):
        open_dataset(root)
