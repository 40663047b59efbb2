"""A small synthetic dataset, and a work folder planned on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autoseg.pipeline.plan import plan
from autoseg.progress import SilentProgress
from autoseg.workspace import Workspace


def write_case(root: Path, name: str, seed: int, images: str = "imagesTr", labels: str = "labelsTr") -> None:
    rng = np.random.default_rng(seed)
    shape = (20 + seed % 3, 22, 18)
    grid = np.indices(shape).astype(float)
    centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    radius = rng.uniform(4, 6)
    inside = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(0)) < radius
    image = (100 * inside + rng.normal(50, 10, shape)).astype(np.float32)
    affine = np.diag([1.0, 1.0, 1.5, 1.0])
    (root / images).mkdir(parents=True, exist_ok=True)
    (root / labels).mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(image, affine), root / images / f"{name}_0000.nii.gz")
    nibabel.save(nibabel.Nifti1Image(inside.astype(np.uint8), affine), root / labels / f"{name}.nii.gz")


def write_dataset(root: Path, cases: int = 6, tests: int = 1) -> Path:
    for number in range(cases):
        write_case(root, f"case_{number:02d}", number)
    for number in range(tests):
        write_case(root, f"test_{number:02d}", 100 + number, "imagesTs", "labelsTs")
    declaration = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "ball": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(declaration))
    return root


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    """`write_dataset`, for fixtures that live longer than a test."""
    return write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


@pytest.fixture
def planned(dataset: Path, tmp_path: Path) -> Workspace:
    work = Workspace(tmp_path / "work")
    plan(dataset, work, device="cpu", probe=False, workers=0, progress=SilentProgress())
    return work
