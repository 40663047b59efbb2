from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from autoseg.dataset.folds import read_splits
from autoseg.errors import DatasetError, PlanError, UsageError, WorkspaceError
from autoseg.files import read_record, write_record
from autoseg.pipeline.check import check
from autoseg.pipeline.kept import DEFAULT_SPLITS
from autoseg.pipeline.plan import plan
from autoseg.pipeline.prepare import prepare
from autoseg.pipeline.reports import PlanReport
from autoseg.pipeline.splits import SplitOptions
from autoseg.planning.overrides import Overrides
from autoseg.progress import SilentProgress
from autoseg.records import Dataset, Plan, TrainSettings
from autoseg.workspace import Workspace

QUIET = SilentProgress()


def damage(dataset: Path) -> None:
    """Six faults in six cases."""
    images, labels = dataset / "imagesTr", dataset / "labelsTr"
    whole = (images / "case_00_0000.nii.gz").read_bytes()
    (images / "case_00_0000.nii.gz").write_bytes(whole[: len(whole) // 2])
    (labels / "case_01.nii.gz").unlink()
    (images / "case_02_0000.nii.gz").unlink()
    image = nibabel.load(labels / "case_03.nii.gz")
    values = np.asarray(image.dataobj).copy()
    nibabel.save(nibabel.Nifti1Image(values[:-2], image.affine), labels / "case_03.nii.gz")
    image = nibabel.load(labels / "case_04.nii.gz")
    values = np.asarray(image.dataobj).copy()
    values[0, 0, 0] = 7
    nibabel.save(nibabel.Nifti1Image(values, image.affine), labels / "case_04.nii.gz")
    image = nibabel.load(images / "case_05_0000.nii.gz")
    values = np.asarray(image.dataobj).copy()
    values[3, 3, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, image.affine), images / "case_05_0000.nii.gz")


@pytest.mark.parametrize("workers", [0, 2])
def test_every_fault_is_told_at_once(dataset: Path, workers: int) -> None:
    damage(dataset)
    report = check(dataset, workers=workers, progress=QUIET)
    found = [problem for problem in report.problems if problem.severity != "note"]
    for number in range(6):
        name = f"case_{number:02d}"
        assert any(problem.case == name or name in str(problem.file) for problem in found), name
    assert all(problem.remedy for problem in found)
    assert any("7" in problem.what for problem in found if problem.case == "case_04")
    assert report.cases_ok == 0


def test_planning_refuses_once_and_goes_on_with_the_good_cases(dataset: Path, tmp_path: Path) -> None:
    path = dataset / "imagesTr" / "case_00_0000.nii.gz"
    path.write_bytes(gzip.compress(b"not an image"))
    work = Workspace(tmp_path / "work")
    with pytest.raises(DatasetError, match="case_00") as caught:
        plan(dataset, work, device="cpu", probe=False, workers=0, progress=QUIET)
    assert "--skip-bad" in str(caught.value)
    assert not work.plan().exists()
    report = plan(dataset, work, device="cpu", probe=False, skip_bad=True, workers=0, progress=QUIET)
    assert report.left_out == ("case_00",)
    assert len(read_record(work.dataset, Dataset).cases) == 5


def test_a_work_folder_of_another_dataset_is_refused(planned: Workspace, dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    with pytest.raises(WorkspaceError, match="another dataset"):
        plan(other, planned, device="cpu", probe=False, workers=0, progress=QUIET)


def test_planning_again_changes_nothing(planned: Workspace, dataset: Path) -> None:
    before = {path.name: path.read_bytes() for path in planned.root.glob("*.json")}
    plan(dataset, planned, device="cpu", probe=False, workers=0, progress=QUIET)
    assert {path.name: path.read_bytes() for path in planned.root.glob("*.json")} == before


def test_an_edited_plan_is_kept(planned: Workspace, dataset: Path) -> None:
    made = read_record(planned.plan(), Plan)
    edited = made.model_copy(update={"training": made.training.model_copy(update={"epochs": 3})})
    write_record(planned.plan(), edited)
    with pytest.raises(PlanError, match="edited by hand"):
        plan(dataset, planned, device="cpu", probe=False, workers=0, progress=QUIET)
    assert read_record(planned.plan(), Plan) == edited
    plan(dataset, planned, name="second", device="cpu", probe=False, workers=0, progress=QUIET)
    assert planned.plan_names() == ["default", "second"]


def test_every_number_of_a_plan_has_a_reason(planned: Workspace) -> None:
    made = read_record(planned.plan(), Plan)
    explained = {reason.field for reason in made.reasons}
    for name in made.configurations:
        for field in ("spacing", "patch_size", "batch_size", "strides", "features_per_stage", "steps_per_epoch"):
            assert f"{name}.{field}" in explained
    assert all(reason.because for reason in made.reasons)


def files(work: Workspace) -> list[Path]:
    return [path for path in work.root.rglob("*") if path.is_file()]


def content(path: Path) -> object:
    """The bytes of a file; of a prepared entry's record what does not tell when it was made."""
    if path.name != "case.json":
        return path.read_bytes()
    entry = json.loads(path.read_text(encoding="utf-8"))
    hashes = {name: (file["bytes"], file["sha256"]) for name, file in entry.pop("files").items()}
    return {**entry, "checksum": "", "files": hashes}


def test_workers_change_nothing(dataset: Path, tmp_path: Path) -> None:
    one, two = Workspace(tmp_path / "one"), Workspace(tmp_path / "two")
    for work, workers in ((one, 0), (two, 2)):
        plan(dataset, work, device="cpu", probe=False, workers=workers, progress=QUIET)
        prepare(work, workers=workers, progress=QUIET)
    left, right = ({path.relative_to(work.root): content(path) for path in files(work)} for work in (one, two))
    assert left == right


def test_one_prepared_copy_serves_configurations_with_the_same_preparation(planned: Workspace) -> None:
    report = prepare(planned, workers=0, progress=QUIET)
    made = read_record(planned.plan(), Plan)
    folders = {planned.prepared_folder(entry.preparation) for entry in made.configurations.values()}
    assert report.prepared == 6 * len(folders)
    assert {path for path in planned.prepared.iterdir() if path.is_dir()} == folders


def test_only_what_is_missing_or_changed_is_prepared(planned: Workspace, dataset: Path) -> None:
    prepare(planned, configurations=("3d_fullres",), workers=0, progress=QUIET)
    again = prepare(planned, configurations=("3d_fullres",), workers=0, progress=QUIET)
    assert (again.prepared, again.reused) == (0, 6)
    path = dataset / "imagesTr" / "case_03_0000.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) + 5, image.affine), path)
    third = prepare(planned, configurations=("3d_fullres",), workers=0, progress=QUIET)
    assert (third.prepared, third.reused) == (1, 5)


def test_a_case_that_cannot_be_prepared_does_not_stop_the_others(planned: Workspace, dataset: Path) -> None:
    (dataset / "imagesTr" / "case_02_0000.nii.gz").write_bytes(b"")
    report = prepare(planned, configurations=("3d_fullres",), workers=2, progress=QUIET)
    assert list(report.failures) == ["case_02"]
    assert report.prepared == 5


def test_a_plan_edited_into_something_impossible_names_the_field(planned: Workspace) -> None:
    content = json.loads(planned.plan().read_text())
    content["configurations"]["3d_fullres"]["batch_size"] = "many"
    planned.plan().write_text(json.dumps(content))
    with pytest.raises(PlanError, match="batch_size"):
        prepare(planned, workers=0, progress=QUIET)


def test_settings_default_to_the_plans(planned: Workspace) -> None:
    made = read_record(planned.plan(), Plan)
    assert isinstance(made.training, TrainSettings)
    assert made.training.epochs >= 1


def test_folds_on_disk_are_kept_until_others_are_asked_for(planned: Workspace, dataset: Path) -> None:
    nnunets = read_splits(planned.splits)
    assert len(nnunets) == 5

    again(planned, dataset, SplitOptions(folds=3))
    three = read_splits(planned.splits)
    assert len(three) == 3
    again(planned, dataset)
    assert read_splits(planned.splits) == three
    run = planned.run("default", "2d", 0)
    write_record(run.settings, read_record(planned.plan(), Plan).training)
    with pytest.raises(WorkspaceError, match="the folds would change"):
        again(planned, dataset, SplitOptions(folds=5))
    assert read_splits(planned.splits) == three


def by_hand(work: Workspace) -> bytes:
    """Let a person swap two cases of the first fold; gives the file's bytes."""
    folds = json.loads(work.splits.read_text())
    moved = folds[0]["val"][0]
    folds[0]["val"][0], folds[0]["train"][0] = folds[0]["train"][0], moved
    work.splits.write_text(json.dumps(folds))
    return work.splits.read_bytes()


def again(work: Workspace, dataset: Path, splits: SplitOptions = DEFAULT_SPLITS, **options: Any) -> PlanReport:
    return plan(dataset, work, device="cpu", probe=False, splits=splits, workers=0, progress=QUIET, **options)


def test_folds_made_by_hand_are_never_replaced(
    planned: Workspace, dataset: Path, tmp_path: Path, make_dataset: Callable[..., Path]
) -> None:
    own = by_hand(planned)
    assert "splits.json is made by hand, and kept" in again(planned, dataset).notes
    again(planned, dataset, name="second")  # neither plan takes them for its own
    make_dataset(dataset, 7)
    assert set(planned.plan_names()) == {"default", "second"}
    for asked in (SplitOptions(), SplitOptions(folds=3)):
        with pytest.raises(WorkspaceError, match=r"made by hand.*rename the file.*--splits FILE"):
            again(planned, dataset, asked)
        assert planned.splits.read_bytes() == own
    planned.splits.rename(tmp_path / "own.json")
    again(planned, dataset)
    assert sum(len(fold.val) for fold in read_splits(planned.splits)) == 7


def test_folds_that_a_plan_wrote_follow_the_cases(
    planned: Workspace, dataset: Path, tmp_path: Path, make_dataset: Callable[..., Path]
) -> None:
    planned.splits.write_text(json.dumps(json.loads(planned.splits.read_text())))  # the same folds in other bytes
    make_dataset(dataset, 7)
    again(planned, dataset)
    assert sum(len(fold.val) for fold in read_splits(planned.splits)) == 7
    (tmp_path / "own.json").write_bytes(by_hand(planned))
    again(planned, dataset, SplitOptions(splits=tmp_path / "own.json"))  # what lies there is what is asked for
    make_dataset(dataset, 8)
    again(planned, dataset)
    assert sum(len(fold.val) for fold in read_splits(planned.splits)) == 8


def test_planning_again_with_values_given_replaces_a_plan_that_nobody_used(planned: Workspace, dataset: Path) -> None:
    given = Overrides(patch_size_3d=(16, 16, 16))
    report = plan(dataset, planned, device="cpu", probe=False, overrides=given, workers=0, progress=QUIET)
    assert read_record(planned.plan(), Plan) == report.plan
    assert report.plan.configuration("3d_fullres").patch_size == (16, 16, 16)


def test_a_plans_file_leaves_nothing_to_plan(dataset: Path, tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work")
    for words in ({"preset": "nnunet"}, {"overrides": Overrides(memory_gb=4)}):
        with pytest.raises(UsageError, match="--nnunet-plans"):
            plan(dataset, work, nnunet_plans=tmp_path / "plans.json", workers=0, progress=QUIET, **words)
    assert not work.root.exists()
