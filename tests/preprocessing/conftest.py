"""Builders of small synthetic cases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from autoseg.records import Geometry, IntensityStatistics, LabelMap, Labels, Preparation, Volume

STATISTICS = IntensityStatistics(
    mean=50.0, median=50.0, std=30.0, min=-100.0, max=300.0, percentile_00_5=-50.0, percentile_99_5=200.0
)
NAMES = Labels(names={"background": 0, "shell": 5, "core": 200})


def make_geometry(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    permutation: tuple[int, int, int] = (0, 1, 2),
    signs: tuple[int, int, int] = (1, 1, 1),
    flat: bool = False,
) -> Geometry:
    """File axes (i, j, k) along the world axes `permutation`; shape and spacing in array order (k, j, i)."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for file_axis, world_axis in enumerate(permutation):
        affine[world_axis, file_axis] = signs[file_axis] * spacing[2 - file_axis]
    return Geometry(shape=shape, affine=tuple(tuple(row) for row in affine.tolist()), flat=flat)


def make_preparation(**changes: object) -> Preparation:
    """z-scores at 1 mm for labels NAMES, with changes."""
    settings: dict[str, object] = {
        "spacing": (1.0, 1.0, 1.0),
        "normalization": ("ZScoreNormalization",),
        "use_mask_for_normalization": (False,),
        "intensities": (STATISTICS,),
        "labels": NAMES,
    }
    return Preparation(**(settings | changes))


def make_case(geometry: Geometry, channels: int = 1, seed: int = 0) -> tuple[Volume, LabelMap]:
    """An ellipsoid with a core in noise, zero outside a larger ellipsoid."""
    generator = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in geometry.shape]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt((z - 0.1) ** 2 + (y + 0.05) ** 2 + x**2)
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    labels[radius < 0.6] = 5
    labels[radius < 0.35] = 200
    body = 100 + 50 * (labels > 0) + generator.normal(0, 10, size=(channels, *geometry.shape))
    image = np.where(radius < 0.9, body, 0).astype(np.float32)
    return Volume(image, geometry), LabelMap(labels, geometry)


@pytest.fixture
def geometry() -> Callable[..., Geometry]:
    return make_geometry


@pytest.fixture
def preparation() -> Callable[..., Preparation]:
    return make_preparation


@pytest.fixture
def case() -> Callable[..., tuple[Volume, LabelMap]]:
    return make_case
