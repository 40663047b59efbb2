"""BIDS: images of subjects and sessions, labels in derivatives, names in tables."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autoseg.dataset.layout_checks import check_layout
from autoseg.dataset.layouts import open_dataset
from autoseg.errors import DatasetError


def put(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.zeros((4, 5, 6), np.uint8)
    voxels[1:3, 1:3, 1:3] = value
    nib.Nifti1Image(voxels, np.eye(4)).to_filename(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two subjects with two sessions each, T1w and T2w."""
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.9.0"}))
    for subject in ("01", "02"):
        for session in ("a", "b"):
            for kind in ("T1w", "T2w"):
                put(tmp_path / f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}_{kind}.nii.gz")
    return tmp_path


def label(root: Path, subject: str, session: str, rest: str, value: int = 1, pipeline: str = "manual") -> Path:
    folder = root / "derivatives" / pipeline / f"sub-{subject}" / f"ses-{session}" / "anat"
    path = folder / f"sub-{subject}_ses-{session}_{rest}.nii.gz"
    put(path, value)
    return path


def test_label_maps_with_names_from_a_table(root: Path) -> None:
    for subject in ("01", "02"):
        label(root, subject, "a", "space-T1w_dseg", 3)
    (root / "derivatives/manual/dseg.tsv").write_text(
        "index\tname\tcolor\n0\tBackground\t#000\n3\tcord\t#f00\n4\tgm\t#0f0\n"
    )
    dataset = open_dataset(root)
    assert (dataset.layout, dataset.channels) == ("bids", ("T1w", "T2w"))
    assert [case.id for case in dataset.cases] == ["sub-01_ses-a", "sub-02_ses-a"]
    assert dataset.labels.names == {"background": 0, "cord": 3, "gm": 4}
    assert check_layout(dataset) == []
    told = " ".join(dataset.notes)
    assert "2 sessions without labels are left out" in told
    assert "labels are named in derivatives/manual/dseg.tsv" in told


def test_the_table_that_says_most_holds(root: Path) -> None:
    label(root, "01", "a", "desc-fine_dseg", 2)
    (root / "derivatives/manual/dseg.tsv").write_text("index\tname\n2\tplain\n")
    (root / "derivatives/manual/desc-fine_dseg.tsv").write_text("index\tname\n2\tfine\n")
    (root / "derivatives/manual/desc-other_dseg.tsv").write_text("index\tname\n2\tother\n")
    assert list(open_dataset(root).labels.foreground) == ["fine"]


def test_one_mask_for_each_label(root: Path) -> None:
    for name in ("lesion", "cord"):
        label(root, "01", "a", f"label-{name}_mask")
    label(root, "02", "b", "label-cord_mask")
    dataset = open_dataset(root)
    assert [tuple(name for name, _ in case.label_files) for case in dataset.cases] == [("cord", "lesion"), ("cord",)]
    assert set(dataset.labels.foreground) == {"cord", "lesion"}
    assert check_layout(dataset) == []


def test_a_plain_mask(root: Path) -> None:
    label(root, "01", "a", "mask", 1)
    dataset = open_dataset(root)
    assert dataset.cases[0].labels is not None
    assert dataset.labels.values == (0, 1)


def test_labels_in_another_space_are_left_out(root: Path) -> None:
    label(root, "01", "a", "space-MNI152_dseg")
    label(root, "01", "b", "space-orig_dseg")
    label(root, "03", "a", "dseg")
    dataset = open_dataset(root)
    assert [case.id for case in dataset.cases] == ["sub-01_ses-b"]
    told = " ".join(dataset.notes)
    assert "in the space MNI152" in told
    assert "1 label files of no image" in told


def test_labels_in_several_ways_are_not_guessed_at(root: Path) -> None:
    label(root, "01", "a", "dseg")
    label(root, "01", "a", "dseg", pipeline="automatic")
    with pytest.raises(DatasetError, match="sub-01_ses-a: has its labels in several ways"):
        open_dataset(root)


def test_one_label_of_two_pipelines_is_not_guessed_at(root: Path) -> None:
    label(root, "01", "a", "label-cord_mask")
    label(root, "01", "a", "label-cord_mask", pipeline="automatic")
    with pytest.raises(DatasetError, match="several ways"):
        open_dataset(root)


def test_no_labels_at_all_is_said(root: Path) -> None:
    label(root, "01", "a", "label-GM_probseg")
    with pytest.raises(DatasetError, match="has no labels of its subjects"):
        open_dataset(root)


def test_a_table_with_a_value_that_no_mask_holds_names_it(root: Path) -> None:
    label(root, "01", "a", "dseg")
    (root / "derivatives/manual/dseg.tsv").write_text("index\tname\n-3\tcord\n")
    with pytest.raises(DatasetError, match=r"dseg\.tsv: label 'cord' has the value -3"):
        open_dataset(root)


@pytest.mark.parametrize("content", ["index name\n1 x\n", "index\tname\none\tx\n", "index\tname\n1\tx\n2\tx\n"])
def test_broken_tables_are_named(content: str, root: Path) -> None:
    label(root, "01", "a", "dseg")
    (root / "derivatives/manual/dseg.tsv").write_text(content)
    with pytest.raises(DatasetError, match=r"dseg\.tsv"):
        open_dataset(root)


def test_subjects_without_sessions_and_a_missing_channel(tmp_path: Path) -> None:
    for subject in ("01", "02", "03"):
        put(tmp_path / f"sub-{subject}/anat/sub-{subject}_acq-3d_T1w.nii.gz")
        if subject != "03":
            put(tmp_path / f"sub-{subject}/anat/sub-{subject}_FLAIR.nii.gz")
        put(tmp_path / f"derivatives/x/sub-{subject}/anat/sub-{subject}_dseg.nii.gz", 1)
    dataset = open_dataset(tmp_path)
    assert dataset.channels == ("FLAIR", "acq-3d_T1w")
    problems = check_layout(dataset)
    assert [(problem.kind, problem.case) for problem in problems] == [("missing-channel", "sub-03")]


def test_runs_are_cases_of_their_own(tmp_path: Path) -> None:
    for run in ("1", "2"):
        put(tmp_path / f"sub-01/anat/sub-01_run-{run}_T1w.nii.gz")
        put(tmp_path / f"derivatives/x/sub-01/anat/sub-01_run-{run}_dseg.nii.gz", 1)
    assert [case.id for case in open_dataset(tmp_path).cases] == ["sub-01_run-1", "sub-01_run-2"]


def test_declared_labels_come_before_those_of_the_table(root: Path) -> None:
    label(root, "01", "a", "dseg", 3)
    (root / "derivatives/manual/dseg.tsv").write_text("index\tname\n3\tcord\n")
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "mine": 3}}))
    assert list(open_dataset(root).labels.foreground) == ["mine"]
