"""export --onnx: files that another program segments with by their steps alone; kept only if they give the masks."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from step_builders import make_configuration, make_preparation
from torch import nn

from autoseg.cli import main
from autoseg.dataset.counted import with_cores
from autoseg.errors import ModelError, UsageError
from autoseg.files import read_record
from autoseg.inference.found_scene import found_scene
from autoseg.model_file import write_model
from autoseg.networks.catalog import build_network
from autoseg.networks.onnx_graph import network_graph
from autoseg.pipeline.onnx_export import STEPS, export_onnx
from autoseg.predictor import Predictor
from autoseg.progress import SilentProgress
from autoseg.records import Configuration, IntensityStatistics, KeepLargest, Labels, Member, ModelHeader, Plan
from autoseg.records.exported import Exported
from autoseg.workspace import Workspace

needed = ("onnx", "onnxruntime")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in needed), reason="onnx and ONNX Runtime are missing"
)

PLAIN = Labels(names={"background": 0, "organ": 1, "tumour": 4})
ORDERED = Labels(names={"background": 0, "whole": (1, 4), "core": (4,)}, regions_class_order=(1, 4))
FREE = Labels(names={"background": 0, "whole": (1, 4), "core": (4,)})
CT = IntensityStatistics(mean=40, median=40, std=60, min=-900, max=900, percentile_00_5=-100, percentile_99_5=250)
MR = IntensityStatistics(mean=1, median=1, std=1, min=-3, max=4, percentile_00_5=-2, percentile_99_5=4)


def a_model(path: Path, *entries: Configuration, labels: Labels = PLAIN, channels: int = 1, **header: object) -> Path:
    members = tuple(
        Member(
            name=f"{entry.name}.fold_{number}",
            configuration=entry,
            mirror_axes=(0, 2),
            previous_stage=None if entry.previous_stage is None else entries[0].name,
        )
        for number, entry in enumerate(entries)
    )
    told = ModelHeader(
        channels=tuple(f"channel {number}" for number in range(channels)), labels=labels, members=members, **header
    )
    torch.manual_seed(5)
    tensors = {}
    for member in members:
        extra = 0 if member.previous_stage is None else len(labels.values) - 1
        network = build_network(member.configuration.network_spec(channels + extra, labels.heads))
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.data.uniform_(-1, 1)
        balance(network, channels + extra, member.configuration.patch_size)
        tensors[member.name] = network.state_dict()
    write_model(path, told, tensors)
    return path


def balance(network: nn.Module, channels: int, patch_size: Sequence[int]) -> None:
    """Centre the scores, so that every label is found somewhere."""
    network.deep_supervision = False  # type: ignore[assignment]
    with torch.no_grad():
        scores = network(torch.randn(2, channels, *patch_size))
        network.decoder.finest.head.bias -= scores.mean(dim=(0, *range(2, scores.ndim)))


def an_entry(name: str = "3d_fullres", labels: Labels = PLAIN, **preparation: object) -> Configuration:
    values: dict[str, object] = {"labels": labels, "intensities": (MR,), "spacing": (1.5, 1.0, 1.0)}
    patch = (12, 16) if name == "2d" else (8, 12, 10)
    return make_configuration(name, preparation=make_preparation(**(values | preparation)), patch_size=patch)


def an_image(path: Path, seed: int = 0, affine: np.ndarray | None = None) -> Path:
    """Noise with zeros around it, axes towards left, superior and anterior, voxels of unequal size."""
    values = np.random.default_rng(seed).normal(30, 60, size=(15, 18, 13)).astype(np.float32)
    values[:2] = values[:, :3] = values[:, :, -1:] = 0
    own = np.array([[-1.3, 0, 0, 10], [0, 0, 0.9, 4], [0, 1.1, 0, -3], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, own if affine is None else affine), path)
    return path


TWO_CHANNELS = {
    "normalization": ("CTNormalization", "RescaleTo01Normalization"),
    "use_mask_for_normalization": (False, False),
    "intensities": (CT, MR),
}
MASKED = {"use_mask_for_normalization": (True,)}
THICK = np.array([[0.8, 0, 0, 1], [0, 0.8, 0, 2], [0, 0, 4.0, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("entries", "labels", "channels", "affine"),
    [
        ([an_entry()], PLAIN, 1, None),
        ([an_entry(axis_order=(1, 0, 2), **MASKED)], PLAIN, 1, None),
        ([an_entry(labels=ORDERED, spacing=(4.0, 1.0, 1.0), slice_order=1)], ORDERED, 1, THICK),
        ([an_entry(labels=FREE, orientation="stored")], FREE, 1, THICK),
        ([an_entry("2d", spacing=(None, 1.0, 1.2))], PLAIN, 1, None),
        ([an_entry(**TWO_CHANNELS), an_entry(**TWO_CHANNELS)], PLAIN, 2, None),
        ([an_entry(), an_entry("2d", spacing=(None, 1.0, 1.2))], PLAIN, 1, None),
        ([an_entry(labels=FREE), an_entry("2d", labels=FREE, spacing=(None, 1.0, 1.2))], FREE, 1, None),
    ],
    ids=["3d", "transposed", "thick slices", "stored", "2d", "two channels and folds", "ensemble", "free regions"],
)
def test_another_program_makes_the_masks_by_the_steps_alone(
    tmp_path: Path, entries: list[Configuration], labels: Labels, channels: int, affine: np.ndarray | None
) -> None:
    from steps_runner import segment

    model = a_model(tmp_path / "model.safetensors", *entries, labels=labels, channels=channels)
    images = [an_image(tmp_path / f"image_{number}.nii.gz", number, affine) for number in range(channels)]
    report = export_onnx(models=(model,), images=images, progress=SilentProgress())
    theirs = segment(tmp_path / "model-onnx", images)
    ours = Predictor(model, device="cpu", precision="float32").predict_file(images).transpose()
    assert set(np.unique(ours)) == {0, 1, 4}
    assert np.mean(theirs != ours) < 2e-3
    assert all(score is None or score >= 0.999 for score in report.verification.dice.values())
    assert report.verification.image == "given image"


def test_post_processing_is_a_step(tmp_path: Path) -> None:
    from steps_runner import segment

    kept = KeepLargest(label="tumour", dice_before=0.5, dice_after=0.6, cases=3, better=3, worse=0)
    model = a_model(tmp_path / "model.safetensors", an_entry(), post_processing=(kept,))
    image = an_image(tmp_path / "image.nii.gz")
    export_onnx(models=(model,), progress=SilentProgress())
    ours = Predictor(model, device="cpu", precision="float32").predict_file(image).transpose()
    assert np.mean(segment(tmp_path / "model-onnx", [image]) != ours) < 2e-3
    (step,) = (step for step in steps(tmp_path / "model-onnx", "after") if step["step"] == "keep_largest")
    assert step["values"] == [4]


def test_a_model_that_counts_objects_gives_borders_and_cores(tmp_path: Path) -> None:
    from steps_runner import segment

    counted = with_cores(PLAIN, ["organ"], 1.0)
    model = a_model(tmp_path / "model.safetensors", an_entry(labels=counted), labels=counted)
    image = an_image(tmp_path / "image.nii.gz")
    report = export_onnx(models=(model,), progress=SilentProgress())
    assert any("objects are counted (organ)" in note for note in report.notes)
    theirs = segment(tmp_path / "model-onnx", [image]).transpose()
    assert set(np.unique(theirs)) == {0, 1, 4, 5}
    ours = Predictor(model, device="cpu", precision="float32").predict_objects(image)
    theirs_whole = found_scene(theirs, counted, ours.geometry).labels
    assert np.mean(theirs_whole != ours.labels) < 2e-3
    assert set(np.unique(theirs_whole)) == {0, 1, 4}


def steps(folder: Path, part: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / STEPS).read_text())[part]
    return found


def test_what_is_written_is_told(tmp_path: Path) -> None:
    model = a_model(tmp_path / "model.safetensors", an_entry())
    report = export_onnx(tmp_path / "out", models=(model,), progress=SilentProgress())
    record = read_record(tmp_path / "out" / STEPS, Exported)
    (network,) = record.groups[0].networks
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["3d_fullres.fold_0.onnx", STEPS]
    assert network.sha256 == hashlib.sha256((tmp_path / "out" / network.file).read_bytes()).hexdigest()
    assert (network.channels, network.outputs, network.patch) == (1, 3, (8, 12, 10))
    assert record.verification == report.verification
    assert report.verification.image == "made-up image"
    assert any("--image" in note for note in report.notes)
    names = [step.step for step in record.groups[0].steps]
    assert names[:4] == ["orient", "transpose", "crop_to_nonzero", "normalize"]
    assert "image.nii" not in (tmp_path / "out" / STEPS).read_text(), "a model's file names no case"


def test_both_stages_of_a_cascade_are_exported(tmp_path: Path) -> None:
    from steps_runner import segment

    low = an_entry("3d_lowres", spacing=(2.5, 2.0, 2.0))
    high = an_entry().model_copy(update={"name": "3d_cascade_fullres", "previous_stage": "3d_lowres"})
    model = a_model(tmp_path / "model.safetensors", low, high)
    report = export_onnx(models=(model,), progress=SilentProgress())
    image = an_image(tmp_path / "image.nii.gz")
    ours = Predictor(model, device="cpu", precision="float32").predict_file(image).transpose()
    assert len(np.unique(ours)) > 1
    assert np.mean(segment(tmp_path / "model-onnx", [image]) != ours) < 2e-3
    assert set(report.verification.dice) == {"organ", "tumour"}
    record = read_record(tmp_path / "model-onnx" / STEPS, Exported)
    assert [(group.name, group.first_stage) for group in record.groups] == [
        ("3d_lowres", True),
        ("3d_cascade_fullres", False),
    ]
    (added,) = (step for step in record.groups[1].steps if step.step == "add_first_stage")
    assert (added.group, added.labels) == ("3d_lowres", 2)
    assert record.groups[1].networks[0].channels == 3


# -------------------------------------------------------------------------------------------------------- refusals


def spoiled(network: nn.Module, channels: int, patch_size: Sequence[int]) -> bytes:
    """A graph of a network whose weights are a little off."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.05).add_(0.02)
    graph = network_graph(network, channels, patch_size)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.sub_(0.02).div_(1.05)
    return graph


@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
def test_files_that_change_a_mask_are_not_kept(tmp_path: Path, name: str) -> None:
    model = a_model(tmp_path / "model.safetensors", an_entry(name, spacing=(None, 1.0, 1.0)))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=r"do not give its masks.*organ 0\.\d+.*Nothing was written"):
        export_onnx(models=(model,), exporter=spoiled, progress=SilentProgress())
    assert sorted(tmp_path.rglob("*")) == before
    export_onnx(models=(model,), progress=SilentProgress())


def test_a_folder_that_is_there_is_kept(tmp_path: Path) -> None:
    model = a_model(tmp_path / "model.safetensors", an_entry())
    (tmp_path / "model-onnx").mkdir()
    with pytest.raises(UsageError, match="--out"):
        export_onnx(models=(model,), progress=SilentProgress())
    assert not list((tmp_path / "model-onnx").iterdir())


def test_configurations_that_turn_images_differently_are_refused(tmp_path: Path) -> None:
    model = a_model(tmp_path / "model.safetensors", an_entry(), an_entry("2d", axis_order=(1, 0, 2)))
    with pytest.raises(ModelError, match="turn images differently"):
        export_onnx(models=(model,), progress=SilentProgress())


def test_a_normalization_from_outside_cannot_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoseg.arrays.normalize import NORMALIZATIONS, z_score

    monkeypatch.setitem(NORMALIZATIONS, "Mine", z_score)
    model = a_model(tmp_path / "model.safetensors", an_entry(normalization=("Mine",)))
    with pytest.raises(ModelError, match="'Mine' comes from a module"):
        export_onnx(models=(model,), progress=SilentProgress())
    assert not (tmp_path / "model-onnx").exists()


# -------------------------------------------------------------------------------------------------------- commands


def test_a_held_out_case_of_the_work_folder_is_tried(
    planned: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = Plan.model_validate_json(planned.plan().read_text())
    entry = plan.configuration(None)
    header = ModelHeader(
        channels=plan.channels,
        labels=plan.labels,
        members=(Member(name=f"{entry.name}.fold_1", configuration=entry, mirror_axes=()),),
    )
    torch.manual_seed(0)
    network = build_network(entry.network_spec(1, plan.labels.heads))
    write_model(planned.model, header, {header.members[0].name: network.state_dict()})
    assert (
        main(["export", str(planned.model), "--onnx", "--work", str(planned.root), "--out", str(tmp_path / "o")]) == 0
    )
    told = capsys.readouterr().out
    assert "on a held-out case" in told
    assert "ball" in told
    assert (tmp_path / "o" / STEPS).exists()


def test_words_that_make_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(a_model(tmp_path / "model.safetensors", an_entry()))
    for words, expected in (
        ([], "--onnx or --nnunet"),
        (["--onnx", "--nnunet", "d"], "--onnx or --nnunet"),
        (["--onnx", "--file-ending", ".mha"], "--file-ending goes with --nnunet only"),
        (["--nnunet", "d", "--out", "o"], "--out goes with --onnx only"),
    ):
        assert main(["export", model, *words]) == 1
        assert expected in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
