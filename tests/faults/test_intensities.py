"""Channels that are missing, too many, empty or not what their name says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .builders import Changed, Planned, Typed, a_ball, a_dataset, image_of, load, save, untrained
from .catalog import fault

PLAN = "plan data --no-probe --workers 1"


@fault(
    26,
    "a case to predict that lacks a channel",
    "it fails by name, with the channels that the model needs and those that are there; the others are done",
)
def test_missing_channels_are_named(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data", 3, channels=("FLAIR", "T1"))
    assert typed(PLAN).code == 0
    model = untrained(here / "autoseg-work", here / "model.safetensors")
    image_of(data, 1, 0).unlink()
    said = typed("predict data/imagesTr masks --model", model)
    assert said.code == 2
    failures = json.loads((here / "masks" / "failures.json").read_text())
    assert failures.keys() == {"case_1"}
    assert "the model needs FLAIR, T1; this case has only T1, and lacks FLAIR" in failures["case_1"]
    assert "conv" not in said.text
    assert sorted(path.name for path in here.glob("masks/case*")) == ["case_0.nii.gz", "case_2.nii.gz"]


@fault(
    27,
    "a colour picture, or a NIfTI of three components, where the model has one channel",
    "named, with the number of components",
)
def test_components_are_counted(here: Path, typed: Typed, model: Path) -> None:
    images = here / "images"
    images.mkdir()
    for mode in ("RGB", "RGBA"):
        Image.new(mode, (24, 20), 80).save(images / f"{mode}.png")
    coloured = np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(coloured, np.eye(4)), images / "colours.nii.gz")
    save(images / "grey.nii.gz", a_ball(1)[0])
    said = typed("predict images masks --model", model)
    assert said.code == 2
    failures = json.loads((here / "masks" / "failures.json").read_text())
    counts = {"RGB": 3, "RGBA": 3, "colours": 3}
    assert failures.keys() == counts.keys()
    for name, count in counts.items():
        assert f"the model needs MR; this case has {count} channels" in failures[name]
    assert (here / "masks" / "grey.nii.gz").exists()


@fault(
    28,
    "an image that is zero, or has one value, everywhere",
    "no division by zero: a warning, and an empty mask; `check` warns of it in a dataset",
)
def test_constant_images_give_empty_masks(here: Path, typed: Typed, planned: Planned, model: Path) -> None:
    images = here / "images"
    for value in (0, 700):
        save(images / f"all_{value}.nii.gz", np.full((20, 22, 18), value, np.float32))
    said = typed("predict images masks --model", model)
    assert said.code == 0
    for value in (0, 700):
        assert f"all_{value}: it has the value {value} everywhere: nothing can be found in it" in said.text
        assert not load(here / "masks" / f"all_{value}.nii.gz").any()

    data = a_dataset(here / "data", channels=("T1", "T2"))
    save(image_of(data, 1, 1), np.zeros((20, 22, 18), np.float32))
    checked = typed("check data --workers 1")
    assert checked.code == 0
    assert "channel 1 has the same value 0 everywhere" in checked.text
    assert planned().code == 0
    assert typed("train --epochs 1 --workers 1").code == 0


@fault(
    29,
    "voxels that are NaN or infinite",
    "counted: refused in training; in an image to predict replaced by the smallest value, with a note",
)
def test_voxels_that_are_no_numbers_are_counted(here: Path, typed: Typed, model: Path) -> None:
    data = a_dataset(here / "data")
    image = load(image_of(data, 2)).astype(np.float32)
    image[:2, 0, 0] = np.nan
    image[5, 5, 5] = np.inf
    save(image_of(data, 2), image)
    refused = typed(PLAN)
    assert refused.code == 1
    assert "channel 0 has 3 voxels that are not numbers (NaN or infinite)" in refused.text
    said = typed("predict", image_of(data, 2), "masks", "--model", model)
    assert said.code == 0
    assert "3 voxels are not numbers (NaN or infinite)" in said.text
    assert "replaced by its smallest value" in said.text
    assert load(here / "masks" / "case_2.nii.gz").any()


@fault(
    30,
    "a CT without negative values, as one shifted by 1024",
    "a warning that the intensities are unlike the training, in the console and in `predictions.json`",
)
def test_shifted_intensities_are_warned_of(here: Path, typed: Typed, planned: Planned) -> None:
    def as_ct(_number: int, image: NDArray[Any], labels: NDArray[Any]) -> Changed:
        scaled = image * 2 - 100
        scaled[:3] = -1000
        return scaled.astype(np.int16), labels

    data = a_dataset(here / "data", channels=("CT",), change=as_ct)
    assert planned().code == 0
    assert typed("train --epochs 1 --workers 1").code == 0
    images = here / "images"
    usual = load(image_of(data, 0))
    save(images / "usual.nii.gz", usual)
    save(images / "shifted.nii.gz", usual + 1024)
    said = typed("predict images masks")
    assert said.code == 0
    assert "shifted: intensities unlike training" in said.text
    assert "usual: intensities unlike training" not in said.text
    told = json.loads((here / "masks" / "predictions.json").read_text())["masks"]
    assert "intensities unlike training" in json.dumps(told["shifted"])
    assert "unlike training" not in json.dumps(told["usual"])


@fault(
    31,
    "PET that is called CT, or any other normalization that does not go with the channel",
    "`plan` prints the normalization of each channel with its evidence, and warns where values speak against the name",
)
def test_normalization_is_shown_with_its_evidence(here: Path, typed: Typed) -> None:
    def as_pet(_number: int, image: NDArray[Any], labels: NDArray[Any]) -> Changed:
        return (np.clip(image, 0, None) / 40).astype(np.float32), labels

    a_dataset(here / "data", channels=("CT",), change=as_pet)
    said = typed(PLAN)
    assert said.code == 0
    assert "By channel name (CT: CTNormalization)" in said.text
    assert "WARNING" in said.text
    assert "CT" in said.text.partition("WARNING")[2]
