from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from volume_builders import Told, planned_quickly, write_volumes

from autoseg.model_file import read_header
from autoseg.pipeline.predict import predict
from autoseg.pipeline.train import train
from autoseg.progress import SilentProgress


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("two") / "data", ["CT", "MR"], {"background": 0, "ball": 1})


@pytest.fixture(scope="module", params=[0.4, 0.0], ids=["dropout", "plain"])
def model(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    work = planned_quickly(data, tmp_path_factory.mktemp("work"))
    asked = {"channel_dropout": str(request.param)}
    report = train(work, device="cpu", workers=0, epochs=3, overrides=asked, progress=SilentProgress())
    return report.run.model, request.param


def test_a_model_does_without_a_channel_if_it_has_learned_to(
    data: Path, model: tuple[Path, float], tmp_path: Path
) -> None:
    path, dropout = model
    assert read_header(path).channel_dropout == dropout
    images, told = tmp_path / "images", Told()
    shutil.copytree(data / "imagesTs", images)
    for number in (0, 1):  # one complete case shows what the numbers mean
        shutil.copy(data / "imagesTr" / f"case_00_000{number}.nii.gz", images)
    (images / "case_05_0000.nii.gz").unlink()
    options = {"models": (path,), "device": "cpu", "progress": told}
    report = predict(images, tmp_path / "masks", **options)  # type: ignore[arg-type]
    if dropout:
        assert sorted(report.written) == ["case_00", "case_05"]
        assert "case_05: has no CT" in told.text
    else:
        assert list(report.written) == ["case_00"]
        assert "lacks CT" in report.failures["case_05"]

    listed = tmp_path / "list.csv"
    listed.write_text(f"case,channel,path\nx,MR,{images / 'case_05_0001.nii.gz'}\n")
    report = predict(listed, tmp_path / "listed", **options)  # type: ignore[arg-type]
    assert bool(report.written) == bool(dropout)
    if dropout:
        one, other = (nibabel.load(tmp_path / place) for place in ("masks/case_05.nii.gz", "listed/x.nii.gz"))
        assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))


def test_which_channel_a_single_file_is_must_be_known(data: Path, model: tuple[Path, float], tmp_path: Path) -> None:
    path, dropout = model
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(data / "imagesTs" / "case_05_0001.nii.gz", images)
    options = {"models": (path,), "device": "cpu"}
    told = Told()
    predict(images, tmp_path / "masks", progress=told, **options)  # type: ignore[arg-type]
    assert ("has no CT" in told.text) == bool(dropout)  # the number says that it is MR
    unnumbered = shutil.copy(images / "case_05_0001.nii.gz", tmp_path / "plain.nii.gz")
    report = predict(Path(unnumbered), tmp_path / "more", progress=told, **options)  # type: ignore[arg-type]
    assert not report.written
    assert json.loads((tmp_path / "more" / "failures.json").read_text()).keys() == {"plain"}
