from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from volume_builders import quicken

from autoseg.errors import DatasetError, ModelError, PredictionError, UsageError, WorkspaceError
from autoseg.files import read_record
from autoseg.locks import locked
from autoseg.pipeline import train as train_module
from autoseg.pipeline.evaluate import evaluate
from autoseg.pipeline.held_back import evaluate_test
from autoseg.pipeline.predict import predict
from autoseg.pipeline.status import status
from autoseg.pipeline.train import train
from autoseg.progress import SilentProgress
from autoseg.records import CaseCosts, Plan, PredictSettings
from autoseg.training.loop import Training
from autoseg.workspace import Workspace

QUIET = SilentProgress()


@pytest.fixture
def quick(planned: Workspace) -> Workspace:
    """A plan with six steps an epoch."""
    quicken(planned, 6)
    return planned


def run(work: Workspace, **options: object) -> train_module.TrainReport:
    return train(work, device="cpu", workers=0, progress=QUIET, **options)  # type: ignore[arg-type]


def test_from_folder_to_scored_masks(quick: Workspace, dataset: Path, tmp_path: Path) -> None:
    report = run(quick, epochs=3)
    assert (report.epochs, report.steps) == (3, 18)
    assert report.summary is not None
    assert len(report.summary.cases) == 2
    assert not report.failures
    lines = [json.loads(line) for line in report.run.metrics.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert {"step", "seconds", "data_wait", "learning_rate", "train_loss", "patch_dice"} <= lines[0].keys()
    assert report.run.curves.exists()
    assert not report.run.lock.exists()
    for score in report.summary.cases:
        mask = nibabel.load(report.run.validation / f"{score.case}.nii.gz")
        image = nibabel.load(dataset / "imagesTr" / f"{score.case}_0000.nii.gz")
        assert mask.shape == image.shape
        assert np.array_equal(mask.affine, image.affine)
    costs = read_record(report.run.costs, CaseCosts).cases
    assert costs.keys() == {score.case for score in report.summary.cases}
    assert all(cost.seconds["network"] > 0 for cost in costs.values())
    assert "Time and memory" in report.run.results.read_text(encoding="utf-8")

    predicted = predict(dataset / "imagesTs", tmp_path / "masks", work=quick, device="cpu", progress=QUIET)
    assert sorted(predicted.written) == ["test_00"]
    scored = evaluate(tmp_path / "masks", dataset / "labelsTs", work=quick, workers=0, progress=QUIET)
    tested = evaluate_test(quick, device="cpu", workers=0, progress=QUIET)
    assert tested.summary.mean_dice == scored.summary.mean_dice
    assert json.loads(scored.output.read_text())["foreground_mean"].keys() >= {"Dice"}
    assert "predict" in status(quick).next_command


def test_the_same_command_again_does_not_train_again(quick: Workspace) -> None:
    first = run(quick, epochs=1)
    weights = first.run.model.read_bytes()
    again = run(quick)
    assert first.run.model.read_bytes() == weights
    assert again.summary == first.summary


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_a_stopped_run_goes_on_to_the_same_weights(
    quick: Workspace, monkeypatch: pytest.MonkeyPatch, configuration: str
) -> None:
    straight = run(quick, configuration=configuration, epochs=2, seed=5).run
    weights = load_file(straight.model)
    straight.folder.rename(straight.folder.with_name("fold_straight"))

    step = Training._step
    count = 0

    def interrupted(self: Training, batches: object) -> None:
        nonlocal count
        count += 1
        if count == 9:  # in the middle of the second epoch; the state is that of the end of the first
            raise KeyboardInterrupt
        step(self, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(Training, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(quick, configuration=configuration, epochs=2, seed=5)
    monkeypatch.setattr(Training, "_step", step)
    resumed = run(quick, configuration=configuration)
    again = load_file(resumed.run.model)
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    lines = [json.loads(line)["epoch"] for line in resumed.run.metrics.read_text().splitlines()]
    assert lines == [0, 1]


def test_other_settings_for_a_run_that_has_begun_are_refused(quick: Workspace) -> None:
    run(quick, epochs=2)
    with pytest.raises(WorkspaceError, match="epochs was 2, now 1"):
        run(quick, epochs=1)
    with pytest.raises(WorkspaceError, match="seed was 0, now 7"):
        run(quick, epochs=3, seed=7)
    with pytest.raises(WorkspaceError, match="budget_seconds was None"):
        run(quick, budget_seconds=60.0)
    with pytest.raises(UsageError, match="exclude"):
        run(quick, epochs=2, budget_seconds=60.0)
    with pytest.raises(UsageError, match="unknown setting"):
        run(quick, overrides={"speed": "10"})


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda fold: fold["train"].append(fold["val"][0]), "fold 0 has 1 case in both train and val: case_"),
        (lambda fold: fold["train"].append("case_99"), "1 case that the dataset does not have: case_99"),
        (lambda fold: fold["val"].append(fold["val"][0]), "fold 0 lists cases twice in val"),
        (lambda fold: fold["val"].clear(), "fold 0 has no case in val"),
    ],
)
def test_folds_that_a_person_edited_are_looked_at(
    quick: Workspace, edit: Callable[[dict[str, list[str]]], object], told: str
) -> None:
    folds = json.loads(quick.splits.read_text())
    edit(folds[0])
    quick.splits.write_text(json.dumps(folds))
    with pytest.raises(DatasetError, match=told) as raised:
        run(quick, epochs=1)
    assert str(quick.splits) in str(raised.value)
    assert not quick.run("default", "3d_fullres", "0").model.exists()
    assert run(quick, fold="1", epochs=1).summary is not None  # the others are sound


def test_a_second_process_is_kept_out(quick: Workspace) -> None:
    entry = quick.run("default", "3d_fullres", "0")
    entry.folder.mkdir(parents=True)
    entry.lock.write_text("999999999 0.0")  # a process that was killed leaves this behind
    run(quick, epochs=1)
    with locked(entry.lock), pytest.raises(WorkspaceError, match=f"process {os.getpid()} is training here"):
        run(quick)


def test_a_damaged_prepared_case_alone_is_rebuilt(quick: Workspace) -> None:
    run(quick, epochs=1)
    made = read_record(quick.plan(), Plan)
    folder = quick.prepared_folder(made.configurations["3d_fullres"].preparation)
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    victim = folder / "case_01" / "image.b2nd"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0xFF
    victim.write_bytes(content)
    run(quick, fold="1", epochs=1)
    changed = {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != stamps[path.name]}
    assert changed == {"case_01"}


def test_a_budget_is_kept_and_spent(quick: Workspace) -> None:
    began = time.monotonic()
    report = run(quick, budget_seconds=12.0)
    spent = time.monotonic() - began
    assert spent < 30  # more than twice the budget: this machine may be busy
    assert report.steps > 6
    lines = [json.loads(line) for line in report.run.metrics.read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines]
    assert rates[-1] < 0.02 * max(rates)  # the decay ends with the time


def test_a_budget_that_leaves_no_time_is_refused(quick: Workspace) -> None:
    with pytest.raises(UsageError, match="leaves no time to train"):
        run(quick, budget_seconds=0.01)


def test_all_cases_for_deployment_hold_nothing_out(quick: Workspace) -> None:
    report = run(quick, fold="all", epochs=1)
    assert report.summary is None
    assert report.run.model.exists()


def test_masks_are_made_once_and_never_overwritten(quick: Workspace, dataset: Path, tmp_path: Path) -> None:
    run(quick, epochs=1)
    masks = tmp_path / "masks"
    options = {"work": quick, "device": "cpu", "progress": QUIET}
    first = predict(dataset / "imagesTs", masks, **options)  # type: ignore[arg-type]
    assert list(first.written) == ["test_00"]
    again = predict(dataset / "imagesTs", masks, **options)  # type: ignore[arg-type]
    assert (list(again.written), again.skipped) == ([], ("test_00",))
    other = predict(dataset / "imagesTs", masks, settings=PredictSettings(mirror=False), **options)  # type: ignore[arg-type]
    assert list(other.written) == ["test_00"]
    corrected = masks / "test_00.nii.gz"
    image = nibabel.load(corrected)
    nibabel.save(nibabel.Nifti1Image(1 - np.asarray(image.dataobj), image.affine), corrected)
    with pytest.raises(PredictionError, match="--overwrite"):
        predict(dataset / "imagesTs", masks, **options)  # type: ignore[arg-type]
    assert list(predict(dataset / "imagesTs", masks, overwrite=True, **options).written) == ["test_00"]  # type: ignore[arg-type]


def test_one_bad_image_does_not_stop_the_others(quick: Workspace, dataset: Path, tmp_path: Path) -> None:
    run(quick, epochs=1)
    (dataset / "imagesTs" / "broken_0000.nii.gz").write_bytes(b"no image")
    masks = tmp_path / "masks"
    report = predict(dataset / "imagesTs", masks, work=quick, device="cpu", progress=QUIET)
    assert list(report.written) == ["test_00"]
    assert list(report.failures) == ["broken"]
    assert json.loads((masks / "failures.json").read_text()).keys() == {"broken"}


def test_without_a_model_the_error_tells_how_to_get_one(quick: Workspace, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="autoseg train"):
        predict(dataset / "imagesTs", tmp_path / "masks", work=quick, device="cpu", progress=QUIET)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_training_goes_on(quick: Workspace) -> None:
    command = [sys.executable, "-m", "autoseg", "train", "--work", str(quick.root), "--epochs", "12", "--device", "cpu"]
    entry = quick.run("default", "3d_fullres", "0")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not (entry.metrics.exists() and len(entry.metrics.read_text().splitlines()) >= 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == 143
    report = run(quick)
    assert report.epochs == 12
    lines = [json.loads(line)["epoch"] for line in entry.metrics.read_text().splitlines()]
    assert lines == list(range(12))
