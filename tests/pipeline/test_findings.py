"""What the check of a whole dataset sees, and no single case shows."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autoseg.files import read_record, write_record
from autoseg.inference import sliding_window
from autoseg.pipeline import train as train_module
from autoseg.pipeline.check import check
from autoseg.pipeline.plan import plan, signed
from autoseg.pipeline.predict import predict
from autoseg.progress import SilentProgress
from autoseg.records import Plan, Problem
from autoseg.training import augmentation
from autoseg.workspace import Workspace

QUIET = SilentProgress()
SHAPE = (24, 18, 16)  # (i, j, k)


def save(root: Path, name: str, image: np.ndarray, labels: np.ndarray, flip: bool = False) -> None:
    """A case in RAS; flipped, its first axis is stored from right to left."""
    affine = np.diag([-1.0 if flip else 1.0, 1, 1, 1])
    step = -1 if flip else 1
    for folder, array, end in (("imagesTr", image, "_0000"), ("labelsTr", labels, "")):
        (root / folder).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array[::step], affine), root / folder / f"{name}{end}.nii.gz")


def sides(root: Path, cases: int = 8, names: tuple[str, str] = ("left lobe", "right lobe")) -> Path:
    """Two blocks, one on either side, told apart by their side alone."""
    random = np.random.default_rng(0)
    for number in range(cases):
        image = random.normal(0, 20, SHAPE).astype(np.float32)
        labels = np.zeros(SHAPE, np.uint8)
        labels[3:8, 6:12, 5:11], labels[16:21, 6:12, 5:11] = 1, 2
        image[labels > 0] += 300
        save(root, f"case_{number}", image, labels, flip=number % 2 == 1)
    table = {"background": 0, names[0]: 1, names[1]: 2}
    record = {"channel_names": {"0": "MRI"}, "labels": table, "numTraining": cases, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(record))
    return root


def found(root: Path) -> dict[str, Problem]:
    return {problem.kind: problem for problem in check(root, workers=0, progress=QUIET).problems}


def test_a_sound_dataset_has_no_findings(tmp_path: Path) -> None:
    assert found(sides(tmp_path)) == {}


def test_the_same_image_twice(tmp_path: Path) -> None:
    root = sides(tmp_path)
    image = nibabel.load(root / "imagesTr/case_0_0000.nii.gz")
    labels = nibabel.load(root / "labelsTr/case_0.nii.gz")
    save(root, "case_7", np.asarray(image.dataobj), np.asarray(labels.dataobj), flip=True)
    problem = found(root)["same-image"]
    assert problem.severity == "warning"
    assert "case_0, case_7" in problem.what


def test_a_label_that_one_case_lacks(tmp_path: Path) -> None:
    root = sides(tmp_path)
    path = root / "labelsTr/case_4.nii.gz"
    labels = np.asarray(nibabel.load(path).dataobj).copy()
    labels[labels == 2] = 0
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), path)
    problem = found(root)["label-not-drawn"]
    assert problem.severity == "note"
    assert "right lobe is in 7 of 8 cases, and not in case_4" in problem.what
    record = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**record, "annotated": {"case_4": ["left lobe"]}}))
    assert "label-not-drawn" not in found(root)


def test_a_wrong_name_and_exchanged_sides(tmp_path: Path) -> None:
    root = sides(tmp_path, names=("right lobe", "left lobe"))
    record = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**record, "channel_names": {"0": "CT"}}))
    problems = found(root)
    assert problems["not-like-ct"].severity == "warning"
    assert "right lobe" in problems["sides-swapped"].what


def test_the_left_right_axis_is_mirrored_neither_in_training_nor_at_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, work = sides(tmp_path / "data", names=("one", "two")), Workspace(tmp_path / "work")
    plan(root, work, device="cpu", workers=0, probe=False, progress=QUIET)
    made = read_record(work.plan(), Plan)
    assert made.mirror_axes == (0, 1)
    entries = {
        name: entry.model_copy(update={"steps_per_epoch": 2, "batch_size": 2})
        for name, entry in made.configurations.items()
    }
    write_record(work.plan(), signed(made.model_copy(update={"configurations": entries})))
    trained: set[tuple[int, ...]] = set()
    predicted: set[tuple[int, ...]] = set()
    draw, sets = augmentation.draw_mirrors, sliding_window.mirror_sets
    monkeypatch.setattr(augmentation, "draw_mirrors", lambda rng, axes: (trained.add(tuple(axes)), draw(rng, axes))[1])
    monkeypatch.setattr(sliding_window, "mirror_sets", lambda axes: (predicted.add(tuple(axes)), sets(axes))[1])
    train_module.train(work, device="cpu", workers=0, epochs=1, progress=QUIET)
    predict(root / "imagesTr", tmp_path / "masks", work=work, device="cpu", progress=QUIET)
    assert trained == {(0, 1)}
    # what predict tells of quicker modes, before it begins, is counted without mirroring
    assert {axes for axes in predicted if axes} == {(0, 1)}


def test_the_same_drawing_on_two_images(tmp_path: Path) -> None:
    root = sides(tmp_path)
    labels = np.asarray(nibabel.load(root / "labelsTr/case_2.nii.gz").dataobj).copy()
    labels[3, 6, 5] = 0  # no longer a box
    for name in ("case_2", "case_4"):
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), root / f"labelsTr/{name}.nii.gz")
    problem = found(root)["same-labels"]
    assert problem.severity == "warning"
    assert "on different images: case_2, case_4" in problem.what


def test_a_mirrored_case_is_told_once(tmp_path: Path) -> None:
    root = sides(tmp_path, cases=10)
    path = root / "labelsTr/case_4.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.asarray(nibabel.load(path).dataobj)[::-1], np.eye(4)), path)
    problems = found(root)
    assert "case_4" in problems["sides-differ"].what
    assert "side-unlike-others" not in problems
