"""Small volumes with a blob of foreground in a frame of zeros."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoseg.records import Case, Dataset, Geometry, LabelMap, Labels, Volume

MakeCase = Callable[..., tuple[Volume, LabelMap]]


@pytest.fixture(scope="session")
def make_case() -> MakeCase:
    def make(seed: int = 0, channels: int = 1, whole_numbers: bool = False) -> tuple[Volume, LabelMap]:
        """Image (C, 10, 12, 14) at 3 × 2 × 1 mm, RAS; zero but for 6 × 8 × 10 voxels; labels 1 and 2 in there."""
        random = np.random.default_rng(seed)
        image = np.zeros((channels, 10, 12, 14), dtype=np.float32)
        content = random.normal(100, 20, (channels, 6, 8, 10)).astype(np.float32)
        image[:, 2:8, 3:11, 1:11] = np.rint(content) if whole_numbers else content
        labels = np.zeros((10, 12, 14), dtype=np.uint8)
        labels[3:6, 4:8, 2:6] = 1
        labels[3:6, 4:8, 6:8] = 2
        geometry = Geometry(shape=(10, 12, 14), affine=((1, 0, 0, -5), (0, 2, 0, 4), (0, 0, 3, 9), (0, 0, 0, 1)))
        return Volume(image, geometry), LabelMap(labels, geometry)

    return make


@pytest.fixture(scope="session")
def names() -> Labels:
    return Labels(names={"background": 0, "organ": 1, "tumor": 2})


@pytest.fixture(scope="session")
def make_dataset(names: Labels) -> Callable[..., Dataset]:
    def make(cases: int, channels: tuple[str, ...] = ("MRI",), labels: Labels | None = None) -> Dataset:
        return Dataset(
            name="small",
            root=Path("small"),
            layout="nnunet",
            channels=channels,
            labels=labels or names,
            cases=tuple(Case(id=f"case_{number}", images=()) for number in range(cases)),
            file_ending=".nii.gz",
        )

    return make
