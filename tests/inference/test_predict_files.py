from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from inference_builders import expected_mask, make_configuration, make_header, phantom, threshold_tensors

from autoseg.dataset import mask_writers
from autoseg.dataset.mask_writers import mask_path
from autoseg.errors import PredictionError, ReadError
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import LoadedModel, build_model
from autoseg.records import Case


@pytest.fixture
def model() -> LoadedModel:
    header = make_header(make_configuration())
    return build_model(header, threshold_tensors(header), torch.device("cpu"), "float32")


def test_masks_keep_grid_and_name(model: LoadedModel, write_image: Callable[..., Path], tmp_path: Path) -> None:
    affine = np.array([[0, -1, 0, 5], [0, 0, 1, -3], [1, 0, 0, 2], [0, 0, 0, 1]], dtype=float)
    path = write_image("patient_7_0000.nii.gz", affine=affine)
    (outcome,) = predict_cases(model, [Case(id="patient_7", images=(path,))], tmp_path / "masks")
    assert outcome.unwrap() == tmp_path / "masks" / "patient_7.nii.gz"
    mask = nibabel.load(outcome.unwrap())
    np.testing.assert_array_equal(mask.affine, affine)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected_mask(phantom()))
    assert set(outcome.seconds) == {"read", "network", "write"}


def test_one_bad_case_stops_nothing(model: LoadedModel, write_image: Callable[..., Path], tmp_path: Path) -> None:
    cases = []
    for index in range(6):
        path = write_image(f"case{index}.nii.gz")
        if index == 2:
            path.write_bytes(path.read_bytes()[:200])
        if index == 4:
            write_image(f"case{index}.nii.gz", np.where(phantom() > 2, 3e38, phantom()))
        cases.append(Case(id=f"case{index}", images=(path,)))
    cases.append(Case(id="gone", images=(tmp_path / "gone.nii.gz",)))
    outcomes = list(predict_cases(model, cases, tmp_path / "masks"))
    assert [outcome.case.id for outcome in outcomes] == [case.id for case in cases]
    assert [outcome.error is None for outcome in outcomes] == [True, True, False, True, False, True, False]
    assert isinstance(outcomes[2].error, ReadError)
    assert "case2" in str(outcomes[2].error)
    assert isinstance(outcomes[4].error, PredictionError)
    assert "case4" in str(outcomes[4].error)
    with pytest.raises(ReadError):
        outcomes[6].unwrap()
    written = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert written == [f"case{index}.nii.gz" for index in (0, 1, 3, 5)]


def test_unexpected_errors_are_outcomes_too(
    model: LoadedModel, write_image: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError if len(asked) % 2 else KeyError("lost")

    asked: list[int] = []
    monkeypatch.setattr(mask_writers, "write_labels", lambda *args: (asked.append(1), broken(*args)))
    cases = [Case(id=f"c{index}", images=(write_image(f"c{index}.nii.gz"),)) for index in range(2)]
    first, second = predict_cases(model, cases, tmp_path / "masks")
    assert "memory ran out" in str(first.error)
    assert "unexpected KeyError" in str(second.error)


def test_an_old_mask_is_replaced(model: LoadedModel, write_image: Callable[..., Path], tmp_path: Path) -> None:
    case = Case(id="a", images=(write_image("a.nii.gz"),))
    path = mask_path(case, tmp_path)
    path.write_bytes(b"old")
    (outcome,) = predict_cases(model, [case], tmp_path)
    assert nibabel.load(outcome.unwrap()).shape == phantom().shape


def test_stopping_early_leaves_no_thread(model: LoadedModel, write_image: Callable[..., Path], tmp_path: Path) -> None:
    cases = [Case(id=f"c{index}", images=(write_image(f"c{index}.nii.gz"),)) for index in range(5)]
    outcomes = predict_cases(model, cases, tmp_path / "masks")
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("autoseg-")]
    assert list(predict_cases(model, [], tmp_path / "masks")) == []
