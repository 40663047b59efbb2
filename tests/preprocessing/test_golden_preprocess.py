"""Agreement with what nnU-Net 2.8.1 made of real volumes, and the same answer from all 48 orientations."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autoseg.arrays.resample import resample_image
from autoseg.arrays.resample_labels import resample_labels
from autoseg.preprocessing.case import to_image_space, to_network_space
from autoseg.records import Geometry, IntensityStatistics, LabelMap, Labels, Preparation, PreparedCase, Volume

RESAMPLED = [
    f"resample_{volume}_{kind}"
    for volume in ("openkbp", "spinalcord", "spinalcord_down")
    for kind in ("image", "label", "scores")
]
PREPARED = [
    (data, case, configuration)
    for data, cases in (
        ("004", ("hippocampus_003", "hippocampus_210", "hippocampus_367")),
        ("503", ("pt_020", "pt_022")),
    )
    for case in cases
    for configuration in ("2d", "3d_fullres")
]
FOLDERS = {"004": "Task04_Hippocampus", "503": "Dataset503_OpenKBP_HN_CT"}
PLANS = {"004": "Dataset004_Hippocampus", "503": "Dataset503_OpenKBP_HN_CT"}


def load(path: Path) -> tuple[np.ndarray, Geometry]:
    image = nibabel.load(path)
    stored = np.asarray(image.dataobj).T
    return stored, Geometry(shape=stored.shape, affine=tuple(tuple(row) for row in image.affine.tolist()))


def load_volume(path: Path) -> Volume:
    stored, geometry = load(path)
    return Volume(np.ascontiguousarray(stored, dtype=np.float32)[None], geometry)


def check(array: np.ndarray, folder: Path, name: str) -> None:
    """The recorded shape, statistics and voxels: intensities within 1e-5 of their spread, labels all equal."""
    index = {entry["name"]: entry for entry in json.loads((folder / "index.json").read_text(encoding="utf-8"))}
    recorded = np.load(folder / f"{name}.npz")
    values = array[tuple(recorded["voxels"].T)]
    entry = index[name]
    assert array.shape == tuple(entry["shape"])
    if np.issubdtype(array.dtype, np.integer):
        np.testing.assert_array_equal(values, recorded["values"])
        assert array.mean(dtype=np.float64) == pytest.approx(entry["mean"], abs=1e-9)
    else:
        assert np.abs(values - recorded["values"]).max() < 1e-5 * entry["std"]
        assert array.mean(dtype=np.float64) == pytest.approx(entry["mean"], abs=1e-5 * entry["std"])
    assert array.min() == pytest.approx(entry["min"], abs=1e-4 * entry["std"])
    assert array.max() == pytest.approx(entry["max"], abs=1e-4 * entry["std"])


@pytest.mark.parametrize("name", RESAMPLED)
def test_resampling_equals_nnunet(name, shared):
    folder = shared / "golden" / "preprocess"
    entry = next(e for e in json.loads((folder / "index.json").read_text(encoding="utf-8")) if e["name"] == name)
    grids = tuple(entry["target_shape"]), tuple(entry["source_spacing"]), tuple(entry["target_spacing"])
    if name.endswith("label"):
        labels, _ = load(shared / "data" / entry["source_label"])
        check(resample_labels(labels.astype(np.int16), *grids)[None], folder, name)
    else:
        image = load_volume(shared / "data" / entry["source_image"]).image
        check(resample_image(image, *grids, 3 if name.endswith("image") else 1), folder, name)


def preparation_of(plans: dict, configuration: str) -> Preparation:
    chosen = plans["configurations"][configuration]
    spacing = tuple(chosen["spacing"])
    properties = plans["foreground_intensity_properties_per_channel"]["0"]
    fields = ("mean", "median", "std", "min", "max", "percentile_00_5", "percentile_99_5")
    return Preparation(
        axis_order=tuple(plans["transpose_forward"]),
        spacing=spacing if len(spacing) == 3 else (None, *spacing),
        normalization=tuple(chosen["normalization_schemes"]),
        use_mask_for_normalization=tuple(chosen["use_mask_for_norm"]),
        intensities=(IntensityStatistics(**{field: properties[field] for field in fields}),),
        labels=Labels(names={"background": 0, **{f"label_{value}": value for value in range(1, 8)}}),
    )


@pytest.mark.parametrize(("data", "case", "configuration"), PREPARED)
def test_prepared_cases_equal_nnunet(data, case, configuration, shared):
    raw = shared / "data" / FOLDERS[data]
    plans = json.loads((shared / "golden" / "fingerprints" / f"{PLANS[data]}_nnUNetPlans.json").read_text("utf-8"))
    image = raw / "imagesTr" / (f"{case}.nii.gz" if data == "004" else f"{case}_0000.nii.gz")
    label_map = LabelMap(*load(raw / "labelsTr" / f"{case}.nii.gz"))
    prepared = to_network_space(case, load_volume(image), label_map, preparation_of(plans, configuration))
    folder = shared / "golden" / "preprocess"
    check(prepared.image, folder, f"prepared_{data}_{case}_{configuration}_image")
    check(prepared.labels[None], folder, f"prepared_{data}_{case}_{configuration}_label")


NAMES = Labels(names={"background": 0, "dim": 3, "bright": 7})


def prepared_orientation(path: Path) -> PreparedCase:
    statistics = IntensityStatistics(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
    return to_network_space(
        "volume",
        load_volume(path),
        None,
        Preparation(
            spacing=(2.2, 1.7, 2.9),
            axis_order=(2, 0, 1),
            normalization=("ZScoreNormalization",),
            use_mask_for_normalization=(True,),
            intensities=(statistics,),
            labels=NAMES,
        ),
    )


def test_all_48_orientations_of_a_real_volume_agree(shared):
    paths = sorted((shared / "data" / "orientations").glob("*.nii.gz"))
    assert len(paths) == 48
    first = prepared_orientation(shared / "data" / "orientations" / "RAS.nii.gz")
    # labels that depend on the image, smooth enough to be resampled: two thresholds
    scores = np.stack([np.zeros_like(first.image[0]), first.image[0] - 0.2, 2 * first.image[0] - 0.9])
    masks = set()
    for path in paths:
        prepared = prepared_orientation(path)
        np.testing.assert_array_equal(prepared.image, first.image)
        mask = to_image_space(scores, prepared.placement, NAMES)
        stored, _ = load(path)
        assert mask.shape == stored.shape
        world = nibabel.as_closest_canonical(nibabel.Nifti1Image(mask.T, prepared.placement.geometry.matrix))
        masks.add(np.asarray(world.dataobj).tobytes() + np.round(world.affine, 3).tobytes())
    assert len(masks) == 1
    assert set(np.unique(mask)) == {0, 3, 7}
