"""Builders of small dataset folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

SaveNifti = Callable[..., Path]


def _save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.T, np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def save_nifti() -> SaveNifti:
    """Write an array (Z, Y, X) as NIfTI: save_nifti(path, array, affine=identity)."""
    return _save_nifti


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """A small dataset: make_dataset({"imagesTr": [names], …}, {dataset.json content} or None)."""

    def build(files: dict[str, list[str]], record: dict[str, object] | None = None) -> Path:
        root = tmp_path / "data"
        for folder, names in files.items():
            for name in names:
                is_label = "label" in folder or "mask" in folder or "seg" in name
                array = np.zeros((4, 5, 6), np.uint8 if is_label else np.int16)
                array[1:3, 1:3, 1:4] = 1
                array[2, 2, 2] = 3 if is_label else 50
                _save_nifti(root / folder / name, array)
        if record is not None:
            root.mkdir(parents=True, exist_ok=True)
            (root / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
        return root

    return build
