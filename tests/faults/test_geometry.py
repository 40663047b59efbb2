"""Headers that are skewed, contradictory or wrong, and grids that do not fit one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from autoseg import Predictor
from autoseg.errors import PredictionError

from .builders import AFFINE, Planned, Typed, a_ball, a_dataset, image_of, labels_of, load, save, untrained
from .catalog import fault

PLAN = "plan data --no-probe --workers 1"


def rewrite(path: Path, affine: NDArray[Any]) -> None:
    """Give a file another affine."""
    save(path, load(path), affine)


def rotated(degrees: float) -> NDArray[np.float64]:
    """A rotation about k."""
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn


@fault(
    12,
    "a sheared affine, whose axes are not at right angles",
    "read with a note that says by how many degrees; the mask has the affine of the image, bit for bit",
)
def test_sheared_affines_are_read(here: Path, typed: Typed, model: Path) -> None:
    data = a_dataset(here / "data")
    sheared = rotated(7) @ AFFINE
    sheared[0, 1] += 1e-2
    for path in (image_of(data, 1), labels_of(data, 1)):
        rewrite(path, sheared)
    checked = typed("check data --workers 1")
    assert checked.code == 0
    assert "its axes are not at right angles (0.6 degrees off)" in checked.text
    said = typed("predict", image_of(data, 1), "masks", "--model", model)
    assert said.code == 0
    assert "0.6 degrees off" in said.text
    image, mask = nibabel.load(image_of(data, 1)), nibabel.load(here / "masks" / "case_1.nii.gz")
    assert image.header["srow_x"].tobytes() == mask.header["srow_x"].tobytes()
    assert np.array_equal(image.affine, mask.affine)


@fault(13, "directions that differ by 1e-8 between image and labels", "the same grid, without a word")
def test_rounding_is_no_difference(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data")
    base = rotated(20) @ AFFINE
    for number in range(5):
        rewrite(image_of(data, number), base)
        rewrite(labels_of(data, number), base + 1e-8)
    said = typed("check data --workers 1")
    assert said.code == 0
    assert "apart" not in said.text


@fault(
    14,
    "labels of another shape: 84 slices for 76, or 12x12 for 20x22",
    "refused at plan time with both shapes",
)
def test_other_shapes_are_refused(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data")
    save(labels_of(data, 0), np.zeros((20, 22, 26), np.uint8))
    save(labels_of(data, 1), np.zeros((12, 12, 18), np.uint8))
    said = typed(PLAN)
    assert said.code == 1
    assert "the labels have shape (26, 22, 20) (Z, Y, X), the image (18, 22, 20)" in said.text
    assert "the labels have shape (18, 12, 12) (Z, Y, X), the image (18, 22, 20)" in said.text
    assert not (here / "autoseg-work").exists()


@fault(
    15,
    "labels whose header puts them elsewhere: a far origin, a flipped axis",
    "refused with the distance of the corners in mm, and a picture of both readings; `--trust-voxels` takes them voxel "
    "by voxel",
)
def test_labels_elsewhere_are_shown_and_refused(here: Path, typed: Typed, planned: Planned) -> None:
    data = a_dataset(here / "data")
    far, flipped = AFFINE.copy(), AFFINE.copy()
    far[:3, 3] = (30, 0, -40)
    flipped[1] = (0, -1, 0, 21)
    rewrite(labels_of(data, 1), far)
    rewrite(labels_of(data, 2), flipped)
    refused = typed(PLAN)
    assert refused.code == 1
    assert "image and labels lie up to 50 mm apart" in refused.text
    assert "image and labels lie up to 22 mm apart" in refused.text
    assert "--trust-voxels" in refused.text
    for number in (1, 2):
        picture = here / "autoseg-work" / "report" / "placement" / f"case_{number}.png"
        assert str(picture.relative_to(here)) in refused.text
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert not (here / "autoseg-work" / "plan.json").exists()

    trusted = planned(f"{PLAN} --trust-voxels")
    assert trusted.code == 0
    assert "image and labels lie up to 50 mm apart" in trusted.text
    assert typed("train --epochs 1 --workers 1 --fold 0").code == 0
    summary = json.loads((here / "autoseg-work/runs/default/3d_fullres/fold_0/summary.json").read_text())
    assert not summary["failures"]


@fault(16, "image and labels of different spacing", "the message has the true spacings of both")
def test_spacings_are_told(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data")
    rewrite(labels_of(data, 3), np.diag([2.0, 2.0, 3.0, 1.0]))
    said = typed(PLAN)
    assert said.code == 1
    assert "voxels are 1.5 x 1 x 1 mm in the image and 3 x 2 x 2 mm in the labels" in said.text


@fault(17, "channels of different shapes: 50 slices and 300", "the case is named, with the advice to resample first")
def test_channels_of_different_shapes_are_named(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data", channels=("T1", "T2"))
    save(image_of(data, 2, 1), np.zeros((20, 22, 50), np.float32))
    said = typed(PLAN)
    assert said.code == 1
    assert "this channel has shape (50, 22, 20), but case_2_0000.nii.gz has (18, 22, 20)" in said.text
    checked = typed("check data --workers 1")
    assert "Register and resample it to the grid of case_2_0000.nii.gz" in checked.text


@fault(
    18,
    "a header with a wrong voxel size: a placeholder of 1 mm, micrometres for millimetres",
    "`plan` warns of the case that is much larger or smaller than the others; `predict` refuses a grid that could not "
    "be held, and states both grids",
)
def test_wrong_spacings_are_noticed(here: Path, typed: Typed, model: Path) -> None:
    data = a_dataset(here / "data")
    for path in (image_of(data, 4), labels_of(data, 4)):
        rewrite(path, np.diag([1000.0, 1000.0, 1500.0, 1.0]))
    said = typed(PLAN)
    assert said.code == 0
    assert "WARNING odd-size (1) case_4: its voxels are 1.5e+03 x 1e+03 x 1e+03 mm" in said.text
    refused = typed("predict data/imagesTr masks --model", model)
    assert refused.code == 2
    failures = json.loads((here / "masks" / "failures.json").read_text())
    assert failures.keys() == {"case_4"}
    assert "18x22x20 voxels of 1.5e+03x1e+03x1e+03 mm would become" in failures["case_4"]
    assert len(list(here.glob("masks/case_*"))) == 4


def turned(image: nibabel.Nifti1Image, codes: str) -> nibabel.Nifti1Image:
    """The same image stored along other axes."""
    wanted = nibabel.orientations.axcodes2ornt(tuple(codes))
    return image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), wanted))


@fault(19, "an image stored in another orientation than those of the training", "the same mask in the world")
@pytest.mark.parametrize("codes", ["LPS", "ASR", "IPL"])
def test_orientation_does_not_matter(trained: Path, here: Path, typed: Typed, model: Path, codes: str) -> None:
    straight = nibabel.load(trained / "data" / "imagesTs" / "test_0_0000.nii.gz")
    nibabel.save(straight, here / "straight.nii.gz")
    nibabel.save(turned(straight, codes), here / "turned.nii.gz")
    assert typed("predict straight.nii.gz masks --model", model).code == 0
    assert typed("predict turned.nii.gz masks --model", model).code == 0
    one, other = (nibabel.load(here / "masks" / f"{name}.nii.gz") for name in ("straight", "turned"))
    back = turned(other, "RAS")
    assert np.asarray(one.dataobj).any()
    assert np.array_equal(np.asarray(one.dataobj), np.asarray(back.dataobj))
    assert np.allclose(one.affine, back.affine)


@fault(
    20,
    "an array handed over in another order of axes than that of the training",
    "the interface for programs demands the affine, and turns the array itself",
)
def test_arrays_come_with_their_affine(trained: Path, model: Path) -> None:
    image = nibabel.load(trained / "data" / "imagesTs" / "test_0_0000.nii.gz")
    predictor = Predictor(model, device="cpu")
    straight = predictor.predict(np.asarray(image.dataobj), image.affine)
    other = turned(image, "SAL")
    found = predictor.predict(np.asarray(other.dataobj), other.affine)
    back = turned(nibabel.Nifti1Image(found.astype(np.uint8), other.affine), "RAS")
    assert straight.any()
    assert np.array_equal(straight, np.asarray(back.dataobj))
    with pytest.raises(TypeError):
        predictor.predict(np.asarray(image.dataobj))  # type: ignore[call-arg]
    with pytest.raises(PredictionError, match="4x4 matrix"):
        predictor.predict(np.asarray(image.dataobj), np.eye(3))


@fault(
    21,
    "masks that a viewer shows shifted, because the header was rewritten",
    "affine, codes, shape, spacing and units of the image, bit for bit; in other formats origin and direction",
)
def test_headers_are_kept(here: Path, typed: Typed, model: Path) -> None:
    odd = nibabel.Nifti1Image(a_ball(3)[0], None)
    odd.set_qform(rotated(11) @ AFFINE, code=1)
    odd.set_sform(rotated(11.0001) @ AFFINE, code=4)
    odd.header.set_xyzt_units("mm", "sec")
    nibabel.save(odd, here / "odd.nii.gz")
    image = sitk.GetImageFromArray(a_ball(4)[0].transpose(2, 1, 0))
    image.SetSpacing((0.9, 1.1, 1.7))
    image.SetOrigin((-12.25, 33.1, 7.7))
    image.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    sitk.WriteImage(image, str(here / "other.mha"))
    for name in ("odd.nii.gz", "other.mha"):
        assert typed(f"predict {name} masks --model", model).code == 0
    before, after = nibabel.load(here / "odd.nii.gz").header, nibabel.load(here / "masks" / "odd.nii.gz").header
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y"):
        assert before[field].tobytes() == after[field].tobytes(), field
    for field in ("sform_code", "qform_code", "xyzt_units", "dim", "pixdim"):
        assert before[field].tobytes() == after[field].tobytes(), field
    mask = sitk.ReadImage(str(here / "masks" / "other.mha"))
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(mask, get)() == getattr(image, get)()


@fault(
    22,
    "a trailing axis of one, a 2D NIfTI, a truly four-dimensional image or mask",
    "the axis of one is dropped; 2D is read as a slice; four dimensions are channels if the model has so many, else "
    "refused with advice",
)
def test_further_axes_are_squeezed_or_refused(here: Path, typed: Typed, model: Path) -> None:
    data = a_dataset(here / "data")
    save(image_of(data, 0), load(image_of(data, 0))[..., None])
    save(labels_of(data, 1), load(labels_of(data, 1))[..., None])
    assert typed(PLAN).code == 0
    said = typed("predict", image_of(data, 0), "masks", "--model", model)
    assert said.code == 0
    assert load(here / "masks" / "case_0.nii.gz").squeeze().shape == (20, 22, 18)
    save(labels_of(data, 2), np.stack([load(labels_of(data, 2))] * 3, -1))
    refused = typed("check data --workers 1")
    assert "holds 3 volumes, not one label map" in refused.text
    assert "Give each voxel one label in a 3D file" in refused.text

    images = here / "images"
    save(images / "time.nii.gz", np.stack([a_ball(1)[0]] * 4, -1))
    save(images / "slice.nii.gz", a_ball(1)[0][:, :, 9])
    said = typed("predict images others --model", model)
    assert said.code == 2
    assert "the model needs MR; this case has 4 channels" in said.text
    assert load(here / "others" / "slice.nii.gz").shape == (20, 22)

    both = a_dataset(here / "both", channels=("T1", "T2"))
    assert typed(f"plan {both} --no-probe --workers 1 --work two").code == 0
    assert typed("predict images two-masks --model", untrained(here / "two", here / "two.safetensors")).code == 1
    save(images / "pair.nii.gz", np.stack([a_ball(1)[0]] * 2, -1))
    assert typed("predict images/pair.nii.gz pair --model two.safetensors").code == 0
    assert load(here / "pair" / "pair.nii.gz").shape == (20, 22, 18)


@fault(
    23,
    "a segmentation in several layers (`.seg.nrrd`)",
    "the layers are counted, and it is refused with the way to export one label map",
)
def test_layers_are_counted(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data")
    labels_of(data, 2).unlink()
    layers = np.stack([a_ball(2)[1].transpose(2, 1, 0) == value for value in (1, 2)], -1).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(layers, isVector=True), str(data / "labelsTr" / "case_2.nrrd"))
    said = typed(PLAN)
    assert said.code == 1
    assert "holds 2 layers, not one label map" in said.text
    checked = typed("check data --workers 1")
    assert "Export it as one label map" in checked.text


@fault(24, "a single slice, or fewer slices than the patch", "padded; the mask has the shape of the image")
@pytest.mark.parametrize("slices", [1, 3])
def test_few_slices_are_padded(here: Path, typed: Typed, model: Path, slices: int) -> None:
    save(here / "thin.nii.gz", a_ball(1)[0][:, :, 9 : 9 + slices])
    said = typed("predict thin.nii.gz masks --model", model)
    assert said.code == 0
    assert load(here / "masks" / "thin.nii.gz").shape == (20, 22, slices)


@fault(
    25,
    "an image with thinner slices than the model was trained with",
    "plans of preset `auto` interpolate scores from slice to slice: neighbouring slices of an oblique tube differ",
)
def test_thin_slices_are_no_copies(here: Path, typed: Typed, planned: Planned) -> None:
    data = a_dataset(here / "data", 3)
    for number in range(3):
        for path in (image_of(data, number), labels_of(data, number)):
            rewrite(path, np.diag([0.5, 0.5, 3.0, 1.0]))
    assert planned().code == 0
    by_intensity = untrained(here / "autoseg-work", here / "model.safetensors")
    i, j, k = np.indices((64, 40, 30))
    tube = np.hypot(i - 12 - 1.4 * k, j - 20) < 6  # moves by more than a voxel from slice to slice
    image = 100.0 * tube + np.random.default_rng(0).normal(50, 4, tube.shape)
    save(here / "thin.nii.gz", image.astype(np.float32), np.diag([0.5, 0.5, 1.5, 1.0]))
    assert typed("predict thin.nii.gz masks --model", by_intensity).code == 0
    mask = load(here / "masks" / "thin.nii.gz")
    inner = [k for k in range(2, 27) if mask[:, :, k].any() and mask[:, :, k + 1].any()]
    assert len(inner) > 15
    assert all((mask[:, :, k] != mask[:, :, k + 1]).any() for k in inner)
