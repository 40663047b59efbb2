from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from inference_builders import Threshold, phantom

from autoseg.networks import catalog


@pytest.fixture(autouse=True)
def threshold_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.NETWORKS, "threshold", Threshold)


@pytest.fixture
def write_image(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, array: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
        path = tmp_path / "images" / name
        path.parent.mkdir(exist_ok=True)
        data = phantom() if array is None else array
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
        return path

    return write
