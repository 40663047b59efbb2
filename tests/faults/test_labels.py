"""Label values that are odd, labels that are rare, and datasets that are small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from autoseg.evaluation.summary import read_summary

from .builders import (
    LABELS,
    Change,
    Changed,
    Planned,
    Typed,
    a_ball,
    a_dataset,
    declare,
    image_of,
    labels_of,
    load,
    save,
    untrained,
)
from .catalog import fault

PLAN = "plan data --no-probe --workers 1"
TRAIN = "train --epochs 1 --workers 1"


def drawn(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Change:
    """A change of the labels of every case."""
    return lambda _number, image, labels: (image, change(labels))


@fault(
    32,
    "labels stored as 14.0; one value above those that are declared",
    "whole numbers are taken as such; the undeclared value is named with its file and number of voxels",
)
def test_whole_floats_are_taken_and_strangers_named(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data", change=drawn(lambda labels: labels.astype(np.float64)))
    assert typed(PLAN).code == 0
    wrong = load(labels_of(data, 3))
    wrong[:2, 0, 0] = 25
    save(labels_of(data, 3), wrong)
    checked = typed("check data --workers 1")
    assert checked.code == 2
    assert "case_3.nii.gz: undeclared label values 25 (2 voxels); declared are 0 to 2" in checked.text


@fault(
    33,
    "masks of 0 and 255; masks that were interpolated, or saved as JPEG",
    "255 is taken as the label, with a note; the others are refused, with the number of values",
)
def test_255_is_a_label_and_gradients_are_not(here: Path, typed: Typed, planned: Planned) -> None:
    one = {"background": 0, "ball": 1}
    data = a_dataset(here / "data", labels=one, change=drawn(lambda labels: ((labels > 0) * 255).astype(np.uint8)))
    checked = typed("check data --workers 1")
    assert checked.code == 0
    assert "its value 255 is taken as label 1 (ball)" in checked.text
    assert planned().code == 0
    assert typed(TRAIN).code == 0
    scores = read_summary(here / "autoseg-work/runs/default/3d_fullres/fold_0/summary.json")
    assert scores.labels["ball"].cases == 1
    (data / "dataset.json").unlink()
    undeclared = typed("plan data --no-probe --workers 1 --work other")
    assert undeclared.code == 0
    assert "label_255 = 255" in undeclared.text

    a_dataset(here / "smooth", labels=one, change=lambda _k, image, _labels: (image, image.clip(0, 255).astype("u1")))
    refused = typed("plan smooth --no-probe --workers 1 --work refused")
    assert refused.code == 1
    assert "distinct undeclared values: the labels look interpolated, or compressed with loss" in refused.text


@fault(34, "the image was saved as the labels", "“the labels look like an image”, with their range")
def test_images_are_no_labels(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data")
    save(labels_of(data, 2), (load(image_of(data, 2)) * 10 - 1024).astype(np.int16))
    said = typed(PLAN)
    assert said.code == 1
    assert "case_2: the labels look like an image" in said.text
    assert "distinct values from -" in said.text


@fault(
    35,
    "label values with gaps, such as 0, 2, 5 and 200",
    "counted on inside, and restored in the masks",
)
def test_values_with_gaps_come_back(here: Path, typed: Typed, planned: Planned) -> None:
    table = np.array([0, 7, 200], np.uint8)
    data = a_dataset(
        here / "data", labels={"background": 0, "ball": 7, "core": 200}, change=drawn(lambda labels: table[labels])
    )
    assert planned().code == 0
    assert typed(TRAIN).code == 0
    model = untrained(here / "autoseg-work", here / "model.safetensors")
    assert typed("predict data/imagesTr masks --model", model).code == 0
    found = np.unique(np.concatenate([load(here / "masks" / f"case_{k}.nii.gz").ravel() for k in range(5)]))
    assert set(found) <= {0, 7, 200}
    assert set(found) > {0}
    assert typed("evaluate masks", data / "labelsTr").code == 0


@fault(
    36,
    "cases without any label; a label that only a few cases have",
    "they are trained on; folds are made so that every training part has every label; a label that no held-out case "
    "has is said to be not evaluable there",
)
def test_rare_labels_are_spread_and_told_of(here: Path, typed: Typed, planned: Planned) -> None:
    def rare(number: int, image: NDArray[Any], labels: NDArray[Any]) -> Changed:
        return image, labels * 0 if number == 0 else np.minimum(labels, 1 if number not in (1, 2) else 2)

    a_dataset(here / "data", change=rare)
    assert planned().code == 0
    folds = json.loads((here / "autoseg-work" / "splits.json").read_text())
    for fold in folds:
        assert {"case_1", "case_2"} & set(fold["train"])
    number = next(k for k, fold in enumerate(folds) if set(fold["val"]) <= {"case_3", "case_4"})
    said = typed(f"{TRAIN} --fold {number}")
    assert said.code == 0
    assert f"Held-out cases of fold {number}" in said.text
    assert "core never occurs in any reference here: its scores say nothing" in said.text


@fault(37, "more than 255 label values, or huge ones", "the type of the masks is as wide as it needs to be")
def test_masks_are_as_wide_as_their_values(here: Path, typed: Typed, planned: Planned) -> None:
    table = np.array([0, 300, 70_000], np.int32)
    values = {"background": 0, "a": 300, "b": 70_000}
    a_dataset(here / "data", labels=values, change=drawn(lambda labels: table[labels]))
    assert planned().code == 0
    assert typed(TRAIN).code == 0
    model = untrained(here / "autoseg-work", here / "model.safetensors")
    assert typed("predict data/imagesTr masks --model", model).code == 0
    masks = [nibabel.load(here / "masks" / f"case_{k}.nii.gz") for k in range(5)]
    found = {value for mask in masks for value in np.unique(np.asarray(mask.dataobj)).tolist()}
    assert found <= {0, 300, 70_000}
    assert 70_000 in found
    assert {mask.get_data_dtype() for mask in masks} <= {np.dtype("u1"), np.dtype("u2"), np.dtype("u4")}


@fault(
    38,
    "regions from which the label values cannot be told again; regions in an ensemble",
    "refused at plan time, with the values; an ensemble writes the same values as each of its models",
)
def test_regions_must_be_decodable(here: Path, typed: Typed, planned: Planned) -> None:
    regions = {"background": 0, "whole": [1, 2], "core": [2]}
    data = a_dataset(here / "data", labels={"background": 0, "whole": [1, 2]})
    refused = typed(PLAN)
    assert refused.code == 1
    assert "a mask could not tell these values of the label files apart" in refused.text
    declare(data, labels=regions, regions_class_order=[1, 2])
    assert planned().code == 0
    models = [untrained(here / "autoseg-work", here / f"m{seed}.safetensors", seed=seed) for seed in (1, 2)]
    copies = [models[0], untrained(here / "autoseg-work", here / "again.safetensors", seed=1)]
    assert typed("predict data/imagesTr alone --model", models[0]).code == 0
    assert typed("predict data/imagesTr twice --model", copies[0], "--model", copies[1]).code == 0
    assert typed("predict data/imagesTr both --model", models[0], "--model", models[1]).code == 0
    for number in range(5):
        alone, twice, both = (load(here / name / f"case_{number}.nii.gz") for name in ("alone", "twice", "both"))
        assert np.array_equal(alone, twice)
        assert set(np.unique(both)) <= {0, 1, 2}
    assert any(load(here / "alone" / f"case_{k}.nii.gz").any() for k in range(5))


@fault(
    39,
    "slices drawn in part, the rest marked to be ignored",
    "they are trained on; what nobody drew has no part in the loss",
)
def test_sparse_slices_are_trained_on(here: Path, typed: Typed, planned: Planned) -> None:
    for number in range(4):
        image, labels = a_ball(number, (32, 32, 18))
        sparse = np.full((32, 32), 3, np.uint8)
        sparse[:, 12:15] = labels[:, 12:15, 9]
        for folder, array in (("imagesTr", image[:, :, 9].clip(0, 255).astype(np.uint8)), ("labelsTr", sparse)):
            (here / "data" / folder).mkdir(parents=True, exist_ok=True)
            channel = "_0000" if folder == "imagesTr" else ""
            Image.fromarray(array).save(here / "data" / folder / f"case_{number}{channel}.png")
    declare(here / "data", channel_names={"0": "photo"}, labels={**LABELS, "ignore": 3}, file_ending=".png")
    assert planned().code == 0
    said = typed(f"{TRAIN} --configuration 2d")
    assert said.code == 0
    assert typed("predict data/imagesTr masks").code == 0
    masks = [np.asarray(Image.open(path)) for path in here.glob("masks/*.png")]
    assert {mask.shape for mask in masks} == {(32, 32)}
    assert {value for mask in masks for value in np.unique(mask)} <= {0, 1, 2}


@fault(
    40,
    "a dataset of one, two or four cases; more folds than cases",
    "as many folds as there are cases; a single case is trained on and nothing held out; too many folds are refused "
    "with the largest number",
)
@pytest.mark.parametrize("cases", [1, 2, 4])
def test_few_cases_are_enough(here: Path, typed: Typed, planned: Planned, cases: int) -> None:
    a_dataset(here / "data", cases)
    said = planned()
    assert said.code == 0
    folds = json.loads((here / "autoseg-work" / "splits.json").read_text())
    assert len(folds) == cases
    trained = typed(TRAIN)
    assert trained.code == 0
    run = here / "autoseg-work/runs/default/3d_fullres/fold_0"
    assert (run / "model.safetensors").exists()
    if cases == 1:
        assert folds == [{"train": ["case_0"], "val": []}]
        assert "a single case: nothing can be held out to score" in said.text
        assert not (run / "summary.json").exists()
    else:
        assert all(len(fold["val"]) == 1 for fold in folds)
        refused = typed(f"plan data --no-probe --workers 1 --work more --folds {cases + 3}")
        assert refused.code == 1
        assert f"Ask for at most {cases}" in refused.text
