from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.arrays.quantiles import channel_quantiles
from autoseg.dataset.geometry import affine_rows
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_image
from autoseg.fingerprint.case import measure_case
from autoseg.fingerprint.likeness import Unlike, unlike_grid, unlike_intensities
from autoseg.fingerprint.training_data import training_data
from autoseg.records import (
    CaseFingerprint,
    Fingerprint,
    Geometry,
    IntensityStatistics,
    Labels,
    TrainingData,
    Volume,
)

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LABELS = Labels(names={"background": 0, "organ": 1, "tumour": 2})
STATISTICS = IntensityStatistics(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
CT, MR = "CTNormalization", "ZScoreNormalization"


def fingerprint_of(cases: list[CaseFingerprint], channels: tuple[str, ...] = ("CT",)) -> Fingerprint:
    return Fingerprint(
        dataset="made up",
        channels=channels,
        labels=LABELS,
        cases=tuple(cases),
        intensities=(STATISTICS,) * len(channels),
        median_relative_size_after_cropping=1.0,
        labels_with_entries=3,
        cases_declared=len(cases),
    )


def geometry(spacing: tuple[float, float, float] = (3, 1, 1), shape: tuple[int, int, int] = (20, 64, 64)) -> Geometry:
    return Geometry(shape=shape, affine=affine_rows(np.diag([*spacing[::-1], 1.0])))


def ct(seed: int, shape: tuple[int, int, int] = (10, 24, 24)) -> np.ndarray:
    """Air, a body of soft tissue, a little bone."""
    random = np.random.default_rng(seed)
    image = np.full(shape, -1000.0) + random.normal(0, 10, shape)
    image[:, 5:-5, 5:-5] = random.normal(40 + 5 * random.normal(), 30, image[:, 5:-5, 5:-5].shape)
    image[:, 8:11, 8:11] = random.normal(700, 100, image[:, 8:11, 8:11].shape)
    return image.astype(np.float32)


def case(number: int, *images: np.ndarray) -> CaseFingerprint:
    image = np.stack(images)
    grid = geometry(shape=image.shape[1:])
    return measure_case(f"case_{number}", Volume(image, grid), None, LABELS).fingerprint


@pytest.fixture(scope="module")
def ct_data() -> TrainingData:
    return training_data(fingerprint_of([case(seed, ct(seed)) for seed in range(8)]))


def kinds(found: list[Unlike]) -> list[str]:
    return [entry.kind for entry in found]


def test_nothing_of_a_single_case_is_kept(ct_data: TrainingData) -> None:
    text = ct_data.model_dump_json()
    assert "case_" not in text
    assert ct_data.cases == 8


def test_volumes_are_of_the_cases_that_have_the_label() -> None:
    base = case(0, ct(0))
    counts = [{"organ": 1000, "tumour": 0}, {"organ": 3000, "tumour": 10}, {"organ": 2000, "tumour": 0}]
    cases = [base.model_copy(update={"voxels_per_label": entry}) for entry in counts]
    cases.append(base.model_copy(update={"voxels_per_label": {"organ": 9000}, "annotated": ("organ",)}))
    found = training_data(fingerprint_of(cases)).labels
    assert found["organ"].volume_ml == pytest.approx((3.0, 7.5, 27.0))
    assert (found["organ"].cases, found["organ"].drawn) == (4, 4)
    assert (found["tumour"].cases, found["tumour"].drawn) == (1, 3)


def test_a_pixel_is_a_millimetre_thick() -> None:
    """As in the volumes of masks, which these are held against."""
    flat = Geometry(shape=(1, 8, 9), affine=((2.0, 0, 0, 0), (0, 0.5, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0)), flat=True)
    update = {"spacing": flat.spacing, "orientation": "flat", "voxels_per_label": {"organ": 1000}}
    found = training_data(fingerprint_of([case(0, ct(0)).model_copy(update=update)])).labels
    assert found["organ"].volume_ml[0] == pytest.approx(1000 * flat.voxel_ml) == pytest.approx(1.0)


def test_grids_like_those_of_training(ct_data: TrainingData) -> None:
    assert unlike_grid(ct_data, geometry(shape=(10, 24, 24)), stored_axes=True) == []


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (geometry((3, 0.4, 1), (10, 60, 24)), ["spacing"]),
        (geometry((3, 1, 1), (30, 24, 24)), ["field of view"]),
        (geometry((7, 1, 1), (5, 24, 24)), ["spacing"]),
        (geometry((3, 1, 1), (10, 11, 24)), ["field of view"]),
    ],
)
def test_other_grids(ct_data: TrainingData, grid: Geometry, expected: list[str]) -> None:
    assert kinds(unlike_grid(ct_data, grid, stored_axes=False)) == expected


def test_axes_are_compared_by_anatomy(ct_data: TrainingData) -> None:
    """A file whose first axis runs along the body has its 3 mm there, and only a model of stored axes minds."""
    matrix = np.array([[0, 0, -1, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
    turned = Geometry(shape=(24, 24, 10), affine=affine_rows(matrix))
    assert unlike_grid(ct_data, turned, stored_axes=False) == []
    (found,) = unlike_grid(ct_data, turned, stored_axes=True)
    assert found.kind == "orientation"
    assert "SAL" in found.what
    assert "RAS" in found.what


@pytest.mark.parametrize(
    "spoil",
    [
        lambda image: image + 1024,
        lambda image: np.maximum(image, 0),
        lambda image: image / 10,
        lambda image: -image,
        lambda image: (np.clip(image, -160, 240) + 160) / 400 * 255,
    ],
    ids=["shifted", "no negative values", "other slope", "inverted", "windowed to 8 bits"],
)
def test_ct_numbers_that_are_none(ct_data: TrainingData, spoil: object) -> None:
    image = ct(100)
    assert unlike_intensities(ct_data, channel_quantiles(image[None]), ["CT"], [CT]) == []
    spoilt = spoil(image).astype(np.float32)[None]  # type: ignore[operator]
    (found,) = unlike_intensities(ct_data, channel_quantiles(spoilt), ["CT"], [CT])
    assert found.kind == "intensities"
    assert "voxels are below" in found.what


def test_brightness_counts_only_where_the_model_sees_it(ct_data: TrainingData) -> None:
    quantiles = channel_quantiles(ct(100)[None] * np.float32(7) + np.float32(50))
    assert kinds(unlike_intensities(ct_data, quantiles, ["CT"], [CT])) == ["intensities"]
    assert unlike_intensities(ct_data, quantiles, ["CT"], [MR]) == []


def test_an_image_without_contrast(ct_data: TrainingData) -> None:
    (found,) = unlike_intensities(ct_data, channel_quantiles(np.full((1, 4, 5, 6), 7.0, np.float32)), ["MR"], [MR])
    assert "one value" in found.what


def test_swapped_channels_are_named() -> None:
    pet = [np.abs(np.random.default_rng(seed).normal(1, 0.3, (10, 24, 24))).astype(np.float32) for seed in range(9)]
    cases = [case(seed, ct(seed), pet[seed]) for seed in range(8)]
    data = training_data(fingerprint_of(cases, ("CT", "PET")))
    right, wrong = np.stack([ct(8), pet[8]]), np.stack([pet[8], ct(8)])
    schemes = [CT, "NoNormalization"]
    assert unlike_intensities(data, channel_quantiles(right), ["CT", "PET"], schemes) == []
    (found,) = unlike_intensities(data, channel_quantiles(wrong), ["CT", "PET"], schemes)
    assert found.kind == "channels"
    assert "CT looks as PET did" in found.what


def test_what_is_not_known_is_not_held_against_an_image() -> None:
    data = TrainingData(cases=5)
    assert unlike_grid(data, geometry(), stored_axes=True) == []
    assert unlike_intensities(data, channel_quantiles(ct(1)[None]), ["CT"], [CT]) == []


@pytest.mark.skipif(not DATA.exists(), reason="the shared data are not here")
@pytest.mark.parametrize(
    ("name", "scheme", "limit"),
    [("Task04_Hippocampus", MR, 3), pytest.param("Dataset503_OpenKBP_HN_CT", CT, 1, marks=pytest.mark.slow)],
)
def test_training_cases_are_not_unlike_one_another(name: str, scheme: str, limit: int) -> None:
    """Each case against the ranges of all others: of hundreds next to none may be told of."""
    dataset = open_dataset(DATA / name)
    cases, grids = [], []
    for entry in dataset.cases:
        volume = read_image(entry.images)
        cases.append(measure_case(entry.id, volume, None, dataset.labels).fingerprint)
        grids.append(volume.geometry)
    told = []
    for number, (left_out, grid) in enumerate(zip(cases, grids, strict=True)):
        data = training_data(fingerprint_of([*cases[:number], *cases[number + 1 :]], dataset.channels))
        told += unlike_grid(data, grid, stored_axes=True)
        told += unlike_intensities(data, left_out.quantiles, dataset.channels, [scheme] * len(dataset.channels))
    assert len(told) <= limit, told
