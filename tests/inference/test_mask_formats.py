"""From DICOM series to masks in every format, through the command's own story, with a network that is a threshold."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_builders import SECRETS, pydicom, write_series
from inference_builders import LABELS, make_configuration, make_header, threshold_tensors

from autoseg.dataset.dicom_labels import label_names, read_named
from autoseg.dataset.readers import read_image, read_labels
from autoseg.errors import PredictionError, UsageError
from autoseg.interop.mask_formats import MASK_FORMATS
from autoseg.model_file import write_model
from autoseg.pipeline.predict import predict
from autoseg.progress import SilentProgress
from autoseg.records import PredictSettings

SHAPE = (10, 20, 16)


class Told(SilentProgress):
    """Keeps all that is said."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, text: str) -> None:
        self.text += f"{text}\n"

    def warn(self, text: str) -> None:
        self.text += f"{text}\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    header = make_header(make_configuration())
    write_model(tmp_path / "model.safetensors", header, threshold_tensors(header))
    return tmp_path / "model.safetensors"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two series, and one with a gap; values 0, 1.6 and 4 after rescaling."""
    stored = np.zeros(SHAPE, np.int16)
    stored[2:7, 4:14, 3:12], stored[4:6, 6:9, 5:9] = 16, 40

    def scaled(image: object, number: int) -> None:
        image.RescaleSlope, image.RescaleIntercept = 0.1, 0  # type: ignore[attr-defined]

    for name in ("A", "B", "gap"):
        write_series(tmp_path / "scans" / name / "CT", stored, name=name, spacing=(1.0, 1.0, 1.0), change=scaled)
    files = (tmp_path / "scans" / "gap" / "CT").iterdir()
    next(path for path in files if pydicom.dcmread(path).ImagePositionPatient[2] == 104.0).unlink()
    return tmp_path / "scans"


def run(scans: Path, masks: Path, model: Path, **options: object) -> tuple[Told, object]:
    told = Told()
    settings = PredictSettings(mirror=False)
    report = predict(scans, masks, models=(model,), device="cpu", settings=settings, progress=told, **options)  # type: ignore[arg-type]
    return told, report


def test_every_format_holds_the_same_mask(scans: Path, model: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    for name in MASK_FORMATS:
        told, report = run(scans, masks, model, mask_format=name)
        assert sorted(report.masks) == ["A", "B"]  # type: ignore[attr-defined]
        assert "has gaps" in report.failures["gap"]  # type: ignore[attr-defined]
        assert not [secret for secret in SECRETS.values() if secret in told.text]
    mask = read_labels(masks / "A.nii.gz")
    assert mask.geometry == read_image([scans / "A" / "CT"]).geometry
    assert set(np.unique(mask.labels)) == {0, 1, 4}
    np.testing.assert_array_equal(read_labels(masks / "A.seg.nrrd").labels, mask.labels)
    for ending in (".seg.dcm", ".rtstruct.dcm"):
        path = masks / f"A{ending}"
        assert label_names(path) == tuple(LABELS.foreground)
        for label, found in read_named(path, label_names(path), mask.geometry):
            np.testing.assert_array_equal(found.labels > 0, mask.labels == LABELS.names[label])
    assert "grey" in (masks / "labels.ctbl").read_text(encoding="utf-8")
    for path in masks.glob("*.json"):
        assert not [secret for secret in SECRETS.values() if secret in path.read_text(encoding="utf-8")]


def test_a_second_run_does_nothing_and_another_format_loses_nothing(scans: Path, model: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    run(scans, masks, model, mask_format="dicom-seg")
    _, again = run(scans, masks, model, mask_format="dicom-seg")
    assert sorted(again.skipped) == ["A", "B"]  # type: ignore[attr-defined]
    run(scans, masks, model, mask_format="nrrd")
    _, back = run(scans, masks, model, mask_format="dicom-seg")  # ours, though made before: replaced, not refused
    assert sorted(back.masks) == ["A", "B"]  # type: ignore[attr-defined]
    (masks / "A.seg.nrrd").write_bytes(b"mine")
    with pytest.raises(PredictionError, match=r"A\.seg\.nrrd: not written by autoseg"):
        run(scans, masks, model, mask_format="nrrd")


def test_a_changed_slice_makes_the_mask_anew(scans: Path, model: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    run(scans / "A", masks, model)
    image = pydicom.dcmread(path := next((scans / "A" / "CT").iterdir()))
    image.PixelData = b"\1" * len(image.PixelData)
    image.save_as(path)
    _, again = run(scans / "A", masks, model)
    assert sorted(again.written) == ["CT"]  # type: ignore[attr-defined]


def test_chosen_labels_are_the_only_ones_in_the_file(scans: Path, model: Path, tmp_path: Path) -> None:
    shutil.rmtree(scans / "gap")
    settings = PredictSettings(mirror=False, labels=("white",))
    predict(
        scans, tmp_path / "masks", models=(model,), device="cpu", settings=settings, mask_format="rtstruct",
        progress=Told(),
    )  # fmt: skip
    assert label_names(tmp_path / "masks" / "A.rtstruct.dcm") == ("white",)


def test_dicom_masks_of_other_images_are_refused_before_the_model_is_loaded(model: Path, tmp_path: Path) -> None:
    from autoseg.dataset.readers import write_labels
    from autoseg.records import Geometry

    grid = Geometry(shape=(4, 5, 6), affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))
    write_labels(tmp_path / "image.nii.gz", np.zeros((4, 5, 6), np.uint8), grid)
    with pytest.raises(UsageError, match="no DICOM series"):
        run(tmp_path / "image.nii.gz", tmp_path / "masks", model, mask_format="rtstruct")
    with pytest.raises(UsageError, match="no such format"):
        run(tmp_path / "image.nii.gz", tmp_path / "masks", model, mask_format="stl")
    assert not (tmp_path / "masks").exists()
