"""A dataset that was declared otherwise after it was planned: told in time, and never trained on in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from volume_builders import Told, quicken

from autoseg.dataset.counted import with_cores
from autoseg.errors import PlanError, UsageError
from autoseg.pipeline import measured
from autoseg.pipeline.dataset_now import dataset_now, other_names
from autoseg.pipeline.plan import plan
from autoseg.pipeline.plans import read_dataset, read_plan
from autoseg.pipeline.status import status
from autoseg.pipeline.train import train
from autoseg.progress import SilentProgress
from autoseg.records import Labels
from autoseg.workspace import Workspace

SILENT = SilentProgress()


def declare(dataset: Path, **changed: object) -> None:
    path = dataset / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def trained(work: Workspace, told: SilentProgress = SILENT, **options: object) -> None:
    train(work, epochs=1, device="cpu", workers=0, progress=told, **options)  # type: ignore[arg-type]


def test_other_labels_are_refused_before_training(dataset: Path, planned: Workspace) -> None:
    declare(dataset, labels={"background": 0, "sphere": 1})
    assert dict(status(planned).lines)["plan default"].endswith("labels were ball and are sphere")
    with pytest.raises(UsageError, match="labels were ball and are sphere") as refused:
        trained(planned)
    assert str(refused.value.remedy) == f"Plan again: autoseg plan {dataset} --work {planned.root}"
    assert not planned.all_runs()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"channel_names": {"0": "CT"}}, "channels were MR and are CT"),
        ({"labels": {"background": 0, "ball": 2}}, "labels have other values: ball"),
        ({"labels": {"background": 0, "ball": 1, "ignore": 7}}, "but not what is ignored"),
    ],
)
def test_what_is_another_is_told(dataset: Path, planned: Workspace, changed: dict[str, object], words: str) -> None:
    declare(dataset, **changed)
    with pytest.raises(UsageError, match=words):
        trained(planned)


def test_objects_that_are_measured_otherwise_are_no_other_labels(planned: Workspace) -> None:
    """As when a case was added: how deep cores begin is measured in some of the cases."""
    plain = Labels(names={"background": 0, "ball": 1, "cube": 2})
    before = read_plan(planned, "default").model_copy(update={"labels": with_cores(plain, ["ball"], 1.0, 20.0)})
    dataset = read_dataset(planned)

    def told(plain: Labels, things: list[str]) -> str:
        return other_names(before, dataset.model_copy(update={"labels": with_cores(plain, things, 1.2, 18.0)}))

    assert told(plain, ["ball"]) == ""
    assert "labels" in told(plain, ["cube"])
    assert "labels" in told(plain.model_copy(update={"ignore": 3}), ["ball"])


def test_a_run_that_was_begun_goes_on_with_a_warning(
    dataset: Path, planned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    quicken(planned, 2)
    trained(planned)
    declare(dataset, labels={"background": 0, "sphere": 1})
    told = Told()
    trained(planned, told)
    assert "labels were ball and are sphere" in told.text
    with pytest.raises(UsageError, match=r"--name NAME, then train with --plan NAME"):
        trained(planned, fold="1")

    def never(*_: object) -> object:
        raise AssertionError("measured all the same")

    with monkeypatch.context() as patch:
        patch.setattr(measured, "examine", never)
        with pytest.raises(PlanError, match="labels were ball and are sphere"):
            plan(dataset, planned, device="cpu", probe=False, workers=0, progress=SILENT)
    plan(dataset, planned, name="named", device="cpu", probe=False, workers=0, progress=SILENT)
    with pytest.raises(UsageError, match="labels were ball"):
        trained(planned, fold="1")  # the first plan's labels are still the old ones


def test_cases_that_came_and_went_are_told_but_not_those_left_out(dataset: Path, planned: Workspace) -> None:
    quicken(planned, 2)
    (dataset / "imagesTr" / "new_0000.nii.gz").write_bytes((dataset / "imagesTr" / "case_00_0000.nii.gz").read_bytes())
    (dataset / "labelsTr" / "new.nii.gz").write_bytes((dataset / "labelsTr" / "case_00.nii.gz").read_bytes())
    told = Told()
    trained(planned, told)
    assert "not in the plan: new" in told.text
    assert dict(status(planned).lines)["dataset now"] == "not in the plan: new"


def test_a_dataset_that_cannot_be_read_is_no_other_one(dataset: Path, planned: Workspace) -> None:
    quicken(planned, 2)
    trained(planned)
    (dataset / "dataset.json").write_text("{")
    told = Told()
    trained(planned, told)
    assert dataset_now(planned) is None
    dataset.rename(dataset.with_name("elsewhere"))
    assert dataset_now(planned) is None
    assert "not as it was planned" not in told.text


def test_cases_with_errors_were_left_out_on_purpose(dataset: Path, tmp_path: Path) -> None:
    (dataset / "labelsTr" / "case_03.nii.gz").write_bytes(b"cut off")
    work = Workspace(tmp_path / "work")
    plan(dataset, work, device="cpu", probe=False, skip_bad=True, workers=0, progress=SILENT)
    assert "dataset now" not in dict(status(work).lines)
