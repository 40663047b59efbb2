"""predict --engine: the same masks, and an account of what made them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from step_builders import make_configuration, make_preparation

from autoseg.cli import main
from autoseg.dataset.readers import read_labels
from autoseg.inference.engines import ENGINES
from autoseg.model_file import write_model
from autoseg.networks.catalog import build_network
from autoseg.pipeline.mask_account import PREDICTIONS
from autoseg.records import Labels, Member, ModelHeader

LABELS = Labels(names={"background": 0, "organ": 3})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    entry = make_configuration(preparation=make_preparation(labels=LABELS), patch_size=(8, 8, 8))
    header = ModelHeader(
        channels=("MR",), labels=LABELS, members=(Member(name="m", configuration=entry, mirror_axes=(2,)),)
    )
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    write_model(path, header, {"m": build_network(entry.network_spec(1, LABELS.heads)).state_dict()})
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "patient.nii.gz"
    values = np.random.default_rng(0).normal(size=(12, 14, 10)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_masks_by_an_engine(
    model: Path, image: Path, tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not all(importlib.util.find_spec(package) for package in ENGINES[engine].packages):
        pytest.skip(f"{ENGINES[engine].name} is not installed")
    words = ["predict", str(image), str(tmp_path / "masks"), "--model", str(model), "--precision", "float32"]
    assert main([*words, "--device", "cpu"]) == 0
    ours = read_labels(tmp_path / "masks" / "patient.nii.gz").labels
    assert main([*words, "--engine", engine]) == 0, "a mask that another engine made is made anew"
    told = capsys.readouterr()
    assert "Networks are computed by" in told.out + told.err
    theirs = read_labels(tmp_path / "masks" / "patient.nii.gz").labels
    assert len(np.unique(ours)) > 1
    assert np.mean(ours != theirs) < 1e-3
    kept = json.loads((tmp_path / "masks" / PREDICTIONS).read_text())
    assert f'"engine":"{engine}"' in kept["masks"]["patient"]["options"]


def test_an_unknown_engine_is_named(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(image), str(tmp_path / "masks"), "--model", str(model), "--engine", "magic"]
    assert main(words) == 1
    assert "torch, onnx, openvino" in capsys.readouterr().err
    assert not (tmp_path / "masks").exists()
