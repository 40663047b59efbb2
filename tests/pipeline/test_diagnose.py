"""`diagnose` on a small work folder: every training is kept, none is made twice, and it says what it cannot tell."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from volume_builders import Told, quicken

from autoseg import cli, interrupts
from autoseg.errors import TrainingError, UsageError, WorkspaceError
from autoseg.files import read_record, write_record
from autoseg.pipeline import diagnose as module
from autoseg.pipeline.diagnose import DiagnoseReport, diagnose
from autoseg.pipeline.origin import Given
from autoseg.pipeline.plan import plan
from autoseg.pipeline.report import report
from autoseg.pipeline.reproduce import reproduce
from autoseg.pipeline.status import status
from autoseg.progress import SilentProgress
from autoseg.records import Diagnosis, Plan, Probe, StepProbe
from autoseg.workspace import Workspace


@pytest.fixture
def work(make_dataset: Callable[..., Path], tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "work")
    data = make_dataset(tmp_path / "data", cases=10, tests=0)
    plan(data, made, device="cpu", probe=False, workers=0, progress=SilentProgress())
    quicken(made, 2)
    return made


def diagnosed(work: Workspace, told: SilentProgress | None = None, **options: Any) -> DiagnoseReport:
    chosen = {"epochs": 1, "seeds": 1, **options}
    return diagnose(work, device="cpu", workers=0, progress=told or SilentProgress(), **chosen)


def test_a_diagnosis_that_was_stopped_goes_on(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, str]] = []
    real = module.train

    def counted(folder: Workspace, **options: Any) -> Any:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append((options["plan"], options["fold"]))
        return real(folder, **options)

    monkeypatch.setattr(module, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        diagnosed(work)
    stopped = [*trained]
    trained.clear()
    told = Told()
    found = diagnosed(work, told)
    assert stopped == [("default", "0"), ("default", "1"), ("default", "2")]
    assert trained == [("smaller", "3"), ("larger", "4")]
    assert "2 to be trained, 3 finished" in told.text
    assert found.diagnosis is not None
    assert [result.cases for result in found.diagnosis.results] == [8, 4, 2, 8, 8]
    assert {result.steps for result in found.diagnosis.results} == {2}
    again = diagnosed(work, told)
    assert len(trained) == 2
    assert "All of them are finished" in told.text
    assert again.diagnosis == found.diagnosis


def test_a_stop_file_ends_a_diagnosis_also_between_trainings(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    real = module.train

    def counted(folder: Workspace, **options: Any) -> Any:
        trained.append(options["fold"])
        made = real(folder, **options)
        if len(trained) == 2:
            work.stop.touch()
        return made

    monkeypatch.setattr(module, "train", counted)
    monkeypatch.setattr(interrupts, "LOOK_EVERY", -1.0)
    found = diagnosed(work)
    assert trained == ["0", "1"]
    assert found.ended_early == "50 % of the cases, seed 0 was the last: a file STOP was made"


def test_page_table_and_record_are_left(work: Workspace) -> None:
    found = diagnosed(work)
    folder = work.root / "diagnosis" / "default-3d_fullres-fold_0-1-epochs"
    assert found.page == folder / "diagnosis.html"
    assert read_record(folder / "diagnosis.json", Diagnosis) == found.diagnosis
    rows = list(csv.DictReader((folder / "diagnosis.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["part"] for row in rows] == [
        "all cases", "50 % of the cases", "25 % of the cases", "smaller network", "larger network",
    ]  # fmt: skip
    assert all((folder / row["run"] / "model.safetensors").exists() for row in rows)
    html = found.page.read_text(encoding="utf-8")
    assert "20 more cases (8 to 28): " in html
    assert "cannot tell from 2 of at least 6 held-out cases" in html
    assert found.diagnosis is not None
    assert {answer.verdict for answer in found.diagnosis.answers} == {"unclear"}
    assert any("there is no audit" in note for note in found.diagnosis.notes)
    assert any("20 more cases are more than there are" in note for note in found.diagnosis.notes)
    made = report(work, progress=SilentProgress())
    assert found.page in made.pages
    assert not list(work.runs.glob("*"))  # what is selected from is left alone
    assert ("diagnosis default-3d_fullres-fold_0-1-epochs", "5 of 5 trainings") in status(work).lines
    (again,) = reproduce(folder / rows[1]["run"], Given())
    assert again.agrees
    assert {line.what for line in again.lines} >= {"data", "folds", "plan", "prepared cases", "model"}


def test_a_training_that_fails_does_not_stop_the_others(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.train

    def failing(folder: Workspace, **options: Any) -> Any:
        if options["plan"] == "larger":
            raise TrainingError("out of memory")
        return real(folder, **options)

    monkeypatch.setattr(module, "train", failing)
    found = diagnosed(work)
    assert found.diagnosis is not None
    assert found.diagnosis.failures == {"larger network, seed 0": "out of memory"}
    assert "1 of 5 trainings are not finished" in found.diagnosis.notes
    assert not any("larger" in answer.question for answer in found.diagnosis.answers)


def test_the_cost_is_told_and_nothing_done(work: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(work.root.rglob("*"))
    assert cli.main(["diagnose", "--work", str(work.root), "--budget", "1h", "--cost"]) == 0
    told = capsys.readouterr().err
    assert "15 short trainings of 3d_fullres, fold 0: 8 training cases, 2 held out" in told
    assert "25 % of the cases (2): 3 x 3 min 20 s" in told  # an hour for 18: three with suspicious cases as well
    assert "15 to be trained: about 50 min 0 s together" in told
    assert sorted(work.root.rglob("*")) == before


def test_without_a_budget_each_is_a_tenth_of_a_whole_training(work: Workspace) -> None:
    def cost() -> str:
        told = Told()
        diagnosed(work, told, epochs=None, cost_only=True)
        return told.text

    assert "1 x 10 min 0 s" in cost()  # no step was tried
    step = StepProbe(configuration="3d_fullres", fits=True, seconds_per_step=60.0, limit_bytes=10)
    probe = Probe(plan="default", device="cpu", precision="float32", free_bytes=1, steps=(step,))
    write_record(work.probe(), probe)
    entry = read_record(work.plan(), Plan).configurations["3d_fullres"]
    seconds = 0.1 * entry.epochs * entry.steps_per_epoch * 60 * 1.05
    assert 300 < seconds < 3600
    assert f"1 x {int(seconds // 60)} min" in cost()


def test_what_cannot_be_diagnosed(work: Workspace) -> None:
    for options, words in (
        ({"budget_seconds": 30.0, "epochs": None}, "a budget of 30 s leaves 5 s for each of 6 trainings"),
        ({"budget_seconds": 600.0}, "--epochs and --budget exclude each other"),
        ({"fold": "all"}, "holds no cases out"),
    ):
        with pytest.raises(UsageError, match=words):
            diagnosed(work, **options)
    made = read_record(work.plan(), Plan)
    begun = made.model_copy(update={"training": made.training.model_copy(update={"initial": "abc"})})
    write_record(work.plan(), begun)
    with pytest.raises(UsageError, match="begins with the weights of a model"):
        diagnosed(work)


def test_other_labels_are_another_diagnosis(work: Workspace, tmp_path: Path) -> None:
    diagnosed(work)
    labels = tmp_path / "data" / "labelsTr"
    (labels / "case_03.nii.gz").write_bytes((labels / "case_04.nii.gz").read_bytes())
    with pytest.raises(WorkspaceError, match="with other images or labels"):
        diagnosed(work)


def test_the_command_prints_answers_or_json(work: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["diagnose", "--work", str(work.root), "--epochs", "1", "--seeds", "1", "--more", "4", "--device", "cpu"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "4 more cases (8 to 12): " in out
    assert "| larger network" in out
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["answers"][0]["question"] == "4 more cases (8 to 12)"
    assert len(told["results"]) == 5
