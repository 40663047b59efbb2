"""The model that stays loaded in a program."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from step_builders import make_configuration, make_preparation

from autoseg import Predictor
from autoseg.errors import PredictionError, UsageError
from autoseg.model_file import write_model
from autoseg.networks.catalog import build_network
from autoseg.records import Labels, Member, ModelHeader

LABELS = Labels(names={"background": 0, "organ": 7})
AFFINE = np.array([[0, -1.5, 0, 10], [-1.0, 0, 0, 4], [0, 0, 2.0, -3], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    configuration = make_configuration(
        preparation=make_preparation(spacing=(2.0, 1.5, 1.0), labels=LABELS),
        spacing=(2.0, 1.5, 1.0),
        patch_size=(8, 8, 8),
        blocks_per_stage=(1, 1),
    )
    header = ModelHeader(
        channels=("MR",), labels=LABELS, members=(Member(name="m", configuration=configuration, mirror_axes=(0, 1)),)
    )
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    write_model(path, header, {"m": build_network(configuration.network_spec(1, 2)).state_dict()})
    return path


@pytest.fixture(scope="module")
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(12, 10, 9)).astype(np.float32)


def test_arrays_files_and_itk_images_give_one_mask(model: Path, array: np.ndarray, tmp_path: Path) -> None:
    predictor = Predictor(model, device="cpu")
    mask = predictor.predict(array, AFFINE)
    assert mask.shape == array.shape
    assert set(np.unique(mask)) == {0, 7}
    path = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)
    np.testing.assert_array_equal(predictor.predict_file(path, tmp_path / "mask.nii.gz").transpose(), mask)
    written = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
    np.testing.assert_allclose(written.affine, AFFINE)
    image = SimpleITK.ReadImage(str(path))
    found = predictor.predict_image(image)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(found).transpose(), mask)
    assert found.GetDirection() == image.GetDirection()
    assert found.GetOrigin() == image.GetOrigin()
    with pytest.raises(PredictionError, match="exists already"):
        predictor.predict_file(path, tmp_path / "mask.nii.gz")


def test_a_leading_axis_is_channels(model: Path, array: np.ndarray) -> None:
    predictor = Predictor(model, device="cpu")
    np.testing.assert_array_equal(predictor.predict(array[None], AFFINE), predictor.predict(array, AFFINE))
    with pytest.raises(PredictionError, match="2 channels"):
        predictor.predict(np.stack([array, array]), AFFINE)
    with pytest.raises(PredictionError, match="2 axes"):
        predictor.predict(array[0], AFFINE)
    with pytest.raises(PredictionError, match="affine"):
        predictor.predict(array, np.zeros((4, 4)))


def test_threads_may_share_it(model: Path, array: np.ndarray) -> None:
    predictor = Predictor([model], device="cpu", mirror=False)
    expected = predictor.predict(array, AFFINE)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(predictor.predict(array, AFFINE))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    for mask in found:
        np.testing.assert_array_equal(mask, expected)


def test_labels_and_channels_are_told(model: Path) -> None:
    predictor = Predictor(str(model), device="cpu")
    assert predictor.labels == {"background": 0, "organ": 7}
    assert predictor.channels == ("MR",)


def test_importing_autoseg_loads_no_torch() -> None:
    code = "import sys, autoseg; assert 'torch' not in sys.modules; autoseg.Predictor; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_speed_labels_and_region_are_told_by_the_model(model: Path, array: np.ndarray) -> None:
    best = Predictor(model, device="cpu").predict(array, AFFINE)
    plain = Predictor(model, device="cpu", mirror=False, step=0.8).predict(array, AFFINE)
    np.testing.assert_array_equal(Predictor(model, device="cpu", speed="fast").predict(array, AFFINE), plain)
    mirrored = Predictor(model, device="cpu", speed="fast", mirror=True, step=0.5).predict(array, AFFINE)
    np.testing.assert_array_equal(mirrored, best)
    np.testing.assert_array_equal(Predictor(model, device="cpu", only=["organ"]).predict(array, AFFINE), best)
    np.testing.assert_array_equal(Predictor(model, device="cpu", roi=True).predict(array, AFFINE), best)
    with pytest.raises(UsageError, match="no label 'liver'"):
        Predictor(model, device="cpu", only=["liver"])
    with pytest.raises(UsageError, match="no speed 'slow'"):
        Predictor(model, device="cpu", speed="slow")


def test_another_engine_gives_the_same_mask(model: Path, array: np.ndarray) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    mask = Predictor(model, device="cpu", precision="float32").predict(array, AFFINE)
    other = Predictor(model, engine="onnx").predict(array, AFFINE)
    assert np.mean(mask != other) < 1e-3
    assert len(np.unique(mask)) > 1


def test_a_model_without_objects_says_so(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="counts no objects"):
        Predictor(model, device="cpu").predict_objects(tmp_path / "image.nii.gz")
