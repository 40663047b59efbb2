from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scores_builders import score_prepared

from autoseg.cli import main
from autoseg.dataset.readers import read_image, read_labels
from autoseg.errors import ModelError, UsageError
from autoseg.files import write_record
from autoseg.inference.predictor import load_models
from autoseg.inference.volume import prepare_volume
from autoseg.interop.nnunet_model import read_nnunet_model
from autoseg.model_file import read_header, read_model, write_model
from autoseg.networks.catalog import build_network
from autoseg.pipeline.exchange import export_nnunet, import_nnunet
from autoseg.pipeline.mask_account import PREDICTIONS
from autoseg.pipeline.predict import predict
from autoseg.predictor import Predictor
from autoseg.preprocessing.case import probabilities_to_image_space
from autoseg.progress import SilentProgress
from autoseg.records import Member, ModelHeader, Plan, PredictSettings
from autoseg.workspace import Workspace

TRAINED = "nnUNetTrainer_tiny__tinyPlans__3d_fullres"


class Heard(SilentProgress):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def say(self, text: str) -> None:
        self.words.append(text)


# ------------------------------------------------------------------------------------------ agreement with nnU-Net


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "nnunet_model"


def agreement(golden: Path, folder: Path, run: str, cases: list[str], *, probabilities: bool = True) -> None:
    """Our masks and probabilities against nnU-Net's, by the commands: Dice of every label, and largest difference."""
    masks, folds, options = RUNS[run]
    model, images = folder / "model.safetensors", folder / "images"
    words = [word for fold in folds for word in ("--fold", fold)]
    assert main(["import-nnunet", str(golden / "results"), "--out", str(model), *words]) == 0
    images.mkdir()
    for case in cases:
        shutil.copy(golden / "images" / f"{case}_0000.nii.gz", images)
    predicted = ["predict", str(images), str(folder / "masks"), "--model", str(model), "--device", "cpu", *options]
    assert main(predicted) == 0
    loaded = load_models([model], torch.device("cpu"), "float32")
    for case in cases:
        ours = read_labels(folder / "masks" / f"{case}.nii.gz").labels
        theirs = read_labels(golden / "nnunet_masks" / masks / f"{case}.nii.gz").labels
        for label in (1, 2):
            found, expected = ours == label, theirs == label
            assert 2 * (found & expected).sum() >= 0.999 * (found.sum() + expected.sum())
        recorded = golden / "nnunet_masks" / masks / f"{case}.npz"
        if probabilities and recorded.exists():
            volume = read_image([images / f"{case}_0000.nii.gz"])
            prepared = prepare_volume(loaded, case, volume)
            (scores,) = score_prepared(loaded, prepared, settings=PredictSettings(mirror="--no-mirror" not in options))
            found = probabilities_to_image_space(scores, prepared[0].placement, loaded.labels)
            with np.load(recorded) as arrays:
                assert np.abs(found - arrays["probabilities"]).max() <= 2e-3


RUNS = {
    "one fold": ("fold0", ["0"], []),
    "two folds": ("folds01", ["0", "1"], []),
    "no mirroring": ("fold0_nomirror", ["0"], ["--no-mirror"]),
}


def test_masks_and_probabilities_are_those_of_nnunet(golden: Path, tmp_path: Path) -> None:
    agreement(golden, tmp_path, "no mirroring", ["hippocampus_017"])


def test_masks_of_mirrored_folds_are_those_of_nnunet(golden: Path, tmp_path: Path) -> None:
    agreement(golden, tmp_path, "two folds", ["hippocampus_033"], probabilities=False)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_all_masks_are_those_of_nnunet(golden: Path, tmp_path: Path, run: str) -> None:
    cases = sorted(path.name.removesuffix("_0000.nii.gz") for path in (golden / "images").iterdir())
    agreement(golden, tmp_path, run, cases)


def test_both_folds_of_a_trained_model_arrive(golden: Path, tmp_path: Path) -> None:
    report = import_nnunet(golden / "results", tmp_path / "model.safetensors", progress=SilentProgress())
    assert report.source == TRAINED
    assert [member.name for member in report.header.members] == ["3d_fullres.fold_0", "3d_fullres.fold_1"]
    assert report.configuration.features_per_stage == (8, 16, 32, 64)
    header, tensors = read_model(tmp_path / "model.safetensors")
    assert header == report.header
    original = read_nnunet_model(golden / "results").tensors
    assert tensors.keys() == original.keys()
    assert all(
        torch.equal(tensors[member][name], original[member][name]) for member in tensors for name in original[member]
    )


# -------------------------------------------------------------------------------------------------------- commands


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file made of a small made-up results folder."""
    folder = tmp_path_factory.mktemp("imported")
    write_results(folder / "results" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    import_nnunet(folder / "results", folder / "model.safetensors", progress=SilentProgress())
    return folder / "model.safetensors"


def write_results(root: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "interop"))
    try:
        import nnunet_builders
    finally:
        sys.path.pop(0)
    nnunet_builders.write_results(root)


def image(path: Path, letters: str) -> Path:
    """A file whose axes run along the directions of these letters."""
    affine = np.eye(4)
    for axis, (letter, size) in enumerate(zip(letters, (1.5, 1.0, 3.0), strict=True)):
        world = next(number for number, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        affine[:3, axis] = 0
        affine[world, axis] = size if letter in "RAS" else -size
    values = np.random.default_rng(1).normal(100, 20, (14, 20, 18)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def test_an_orientation_other_than_ras_is_noted(imported: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for letters in ("RAS", "LPS", "PIR"):
        image(images / f"{letters}.nii.gz", letters)
    heard = Heard()
    predict(
        images,
        tmp_path / "masks",
        models=(imported,),
        settings=PredictSettings(mirror=False),
        device="cpu",
        progress=heard,
    )
    (note,) = [words for words in heard.words if words.startswith("Note")]
    assert "2 of 3 images" in note
    assert "LPS in 1, PIR in 1" in note


def test_nothing_is_noted_where_nothing_is_odd(imported: Path, tmp_path: Path) -> None:
    heard = Heard()
    path = image(tmp_path / "one.nii.gz", "RAS")
    predict(
        path,
        tmp_path / "masks",
        models=(imported,),
        settings=PredictSettings(mirror=False),
        device="cpu",
        progress=heard,
    )
    assert not [words for words in heard.words if words.startswith("Note")]


@pytest.mark.parametrize(("asked", "used"), [("auto", "float32"), ("bfloat16", "bfloat16")])
def test_imported_models_compute_in_float32_unless_told_otherwise(
    imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, used: str
) -> None:
    monkeypatch.setattr("autoseg.devices.best_precision", lambda _device: "bfloat16")  # as on a device that gains by it
    path = image(tmp_path / "one.nii.gz", "RAS")
    masks = tmp_path / "masks"
    predict(
        path,
        masks,
        models=(imported,),
        settings=PredictSettings(mirror=False),
        device="cpu",
        precision=asked,
        progress=SilentProgress(),
    )
    assert f"precision={used}" in (masks / PREDICTIONS).read_text()


def test_programs_compute_in_float32_too(imported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoseg.devices.best_precision", lambda _device: "bfloat16")
    assert Predictor(imported, device="cpu")._model.precision == "float32"
    assert Predictor(imported, device="cpu", precision="bfloat16")._model.precision == "bfloat16"


def test_a_model_file_is_not_overwritten(imported: Path) -> None:
    before = imported.read_bytes()
    results = imported.parent / "results"
    with pytest.raises(UsageError, match="--out"):
        import_nnunet(results, imported, progress=SilentProgress())
    assert imported.read_bytes() == before


def test_the_import_says_what_it_took(imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "other.safetensors"
    assert main(["import-nnunet", str(imported.parent / "results"), "--out", str(out), "--fold", "0"]) == 0
    told = capsys.readouterr().out
    for words in ("3d_fullres", "fold_0/checkpoint_final.pth", "organ = 1", "8 x 16 x 12", "as stored in the file"):
        assert words in told
    assert main(["import-nnunet", str(tmp_path), "--out", str(tmp_path / "none.safetensors")]) == 1
    assert not (tmp_path / "none.safetensors").exists()


# ---------------------------------------------------------------------------------------------------------- export


def trained(work: Workspace, *folds: str) -> None:
    """Finished runs with the weights that a network begins with."""
    plan = Plan.model_validate_json(work.plan().read_text())
    configuration = plan.configuration(None)
    for fold in folds:
        run = work.run(plan.name, configuration.name, fold)
        member = Member(
            name=f"{configuration.name}.fold_{fold}", configuration=configuration, mirror_axes=plan.mirror_axes
        )
        header = ModelHeader(channels=plan.channels, labels=plan.labels, members=(member,))
        network = build_network(configuration.network_spec(len(plan.channels), plan.labels.heads))
        write_model(run.model, header, {member.name: network.state_dict()})
        write_record(run.settings, plan.training)


def test_finished_folds_of_a_work_folder_are_exported(
    planned: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(planned, "0", "2")
    target = tmp_path / "for nnU-Net"
    assert main(["export", "--nnunet", str(target), "--work", str(planned.root)]) == 0
    (folder,) = target.iterdir()
    assert folder.name == "nnUNetTrainer__autosegPlans__3d_fullres"
    told = capsys.readouterr().out
    assert f'nnUNetv2_predict_from_modelfolder -i IMAGES -o MASKS -m "{folder}" -f 0 2' in told
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == [
        "dataset.json",
        "dataset_fingerprint.json",
        "fold_0/checkpoint_final.pth",
        "fold_2/checkpoint_final.pth",
        "plans.json",
    ]
    plans = json.loads((folder / "plans.json").read_text())
    plan = Plan.model_validate_json(planned.plan().read_text())
    assert plans["configurations"].keys() == plan.configurations.keys()
    assert plans["image_reader_writer"] == "NibabelIOWithReorient"
    again = read_nnunet_model(folder)
    member = again.header.members[0]
    expected = plan.configuration(None).model_copy(
        update={"steps_per_epoch": member.configuration.steps_per_epoch, "epochs": member.configuration.epochs}
    )
    assert member.configuration == expected
    assert member.mirror_axes == plan.mirror_axes
    assert (again.header.channels, again.header.labels) == (plan.channels, plan.labels)
    run = planned.run(plan.name, "3d_fullres", "2")
    written = read_model(run.model)[1]["3d_fullres.fold_2"]
    assert all(torch.equal(again.tensors["3d_fullres.fold_2"][name], written[name]) for name in written)


def test_a_folder_that_is_there_is_kept(planned: Workspace, tmp_path: Path) -> None:
    trained(planned, "0")
    target = tmp_path / "theirs"
    export_nnunet(target, work=planned, progress=SilentProgress())
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    with pytest.raises(UsageError, match=r"theirs: holds nnUNetTrainer__autosegPlans__3d_fullres already"):
        export_nnunet(target, work=planned, progress=SilentProgress())
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_a_model_file_is_exported_without_a_work_folder(imported: Path, tmp_path: Path) -> None:
    report = export_nnunet(tmp_path / "theirs", models=(imported,), progress=SilentProgress())
    (folder,) = report.folders
    assert json.loads((folder / "plans.json").read_text())["image_reader_writer"] == "SimpleITKIO"
    assert json.loads((folder / "dataset.json").read_text())["file_ending"] == ".nii.gz"
    assert not (folder / "dataset_fingerprint.json").exists()
    back = tmp_path / "back.safetensors"
    import_nnunet(tmp_path / "theirs", back, progress=SilentProgress())
    assert back.read_bytes() == imported.read_bytes()


def test_models_of_other_labels_are_not_exported_together(imported: Path, planned: Workspace, tmp_path: Path) -> None:
    trained(planned, "0")
    other = planned.run("default", "3d_fullres", "0").model
    assert read_header(other).labels != read_header(imported).labels
    with pytest.raises(ModelError, match=r"its (channels|labels) are not those of"):
        export_nnunet(tmp_path / "theirs", models=(imported, other), progress=SilentProgress())


def test_export_asks_what_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export"]) == 1
    assert "--nnunet" in capsys.readouterr().err
