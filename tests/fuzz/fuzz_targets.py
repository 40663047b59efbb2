"""What strangers' files are read by, and sound files to begin from: for the fuzzers.

A target writes bytes to a file and reads it as the commands do. It may raise AutosegError and nothing else.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
from safetensors.torch import save

from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_geometry, read_image, read_labels
from autoseg.errors import AutosegError
from autoseg.inference.predictor import load_models
from autoseg.model_file import HEADER_KEY, count_parameters, read_header, read_model
from autoseg.pipeline.plan import plan
from autoseg.pipeline.plans import read_plan
from autoseg.progress import SilentProgress
from autoseg.seals import sealed, unsealed
from autoseg.workspace import Workspace

TESTS = Path(__file__).resolve().parents[1]
EXAMPLE_DATA = TESTS.parent / "example_data"


@dataclass(frozen=True)
class Target:
    """One kind of file."""

    name: str  # of the file, in a folder of its own
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    is_json: bool = False

    def feed(self, folder: Path, content: bytes) -> bool:
        """Whether the content was taken; everything but an error of ours escapes."""
        path = folder / self.name
        path.write_bytes(content)
        try:
            self.read(path)
        except AutosegError:
            return False
        return True


def _read_volume(path: Path) -> None:
    for read in (read_geometry, read_labels, lambda file: read_image([file])):
        try:
            read(path)
        except AutosegError:
            continue


def _nifti() -> list[bytes]:
    sheared = np.array([[1, 0.1, 0, 3], [0, 1.5, 0, -2], [0, 0, 2, 1], [0, 0, 0, 1.0]])
    rng = np.random.default_rng(0)
    made = []
    for kind, shape, dtype in (
        (nib.Nifti1Image, (3, 4, 2), np.uint8),
        (nib.Nifti1Image, (3, 4, 2, 2), np.int16),
        (nib.Nifti1Image, (3, 4, 2), np.float32),
        (nib.Nifti2Image, (2, 2, 2), np.float64),
    ):
        image = kind(rng.integers(0, 3, shape).astype(dtype), sheared)
        made.append(image.to_bytes())
    big = nib.Nifti1Image(np.ones((2, 3, 2), np.int16), np.eye(4), nib.Nifti1Header(endianness=">"))
    colours = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    return [*made, big.to_bytes(), nib.Nifti1Image(colours, np.eye(4)).to_bytes()]


def _compressed_nifti() -> list[bytes]:
    return [gzip.compress(content, mtime=0) for content in _nifti()]


def _of_itk(ending: str) -> Callable[[], list[bytes]]:
    def made() -> list[bytes]:
        found = []
        rng = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"seed{ending}"
            for shape, dtype in (((2, 4, 3), np.uint8), ((4, 3), np.int16), ((2, 4, 3), np.float32)):
                for compress in (False, True):
                    image = sitk.GetImageFromArray(rng.integers(0, 3, shape).astype(dtype))
                    image.SetSpacing([1.5] * len(shape))
                    sitk.WriteImage(image, str(path), compress)
                    found.append(path.read_bytes())
        return found

    return made


def _dataset_json() -> list[bytes]:
    decathlon = {
        "name": "two", "description": "", "modality": {"0": "MRI", "1": "T2"},
        "labels": {"0": "background", "1": "left", "2": "right"}, "numTraining": 1, "numTest": 0,
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}], "test": [],
    }  # fmt: skip
    raw = {
        "channel_names": {"0": "CT"}, "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        "regions_class_order": [1, 2], "numTraining": 2, "file_ending": ".nii.gz",
        "annotated": {"a": ["whole"]}, "licence": None,
    }  # fmt: skip
    listed = {
        "channel_names": ["CT"], "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz", "numTraining": 1,
        "dataset": {"a": {"images": ["images/a.nii.gz"], "label": "labels/a.nii.gz"}},
    }  # fmt: skip
    return [json.dumps(record).encode() for record in (decathlon, raw, listed)]


def _read_dataset(path: Path) -> None:
    for folder, names in (("imagesTr", ("a_0000.nii.gz", "a.nii.gz")), ("labelsTr", ("a.nii.gz",))):
        place = path.parent / folder
        if not place.is_dir():
            place.mkdir()
            for name in names:
                (place / name).write_bytes(_compressed_nifti()[0])
    dataset = open_dataset(path.parent)
    root = path.parent.resolve()
    outside = [file for case in dataset.cases for file in case.images if root not in Path(file).resolve().parents]
    assert not outside, outside


@cache
def _planned() -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        work = Workspace(Path(folder))
        plan(EXAMPLE_DATA, work, probe=False, workers=1, progress=SilentProgress())
        return work.plan().read_bytes(), work.fingerprint.read_bytes()


def _model_files() -> list[bytes]:
    return [path.read_bytes() for path in sorted((TESTS / "data_formats").glob("*.safetensors"))]


def _read_model(path: Path) -> None:
    read_header(path)
    count_parameters(path)
    read_model(path)
    load_models([path], torch.device("cpu"), "float32")


def _model_headers() -> list[bytes]:
    return [read_header(TESTS / "data_formats" / "format_2_folds.safetensors").model_dump_json().encode()]


def _read_sealed_header(path: Path) -> None:
    """A header that somebody changed on purpose, with the checksum that belongs to it."""
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    if not isinstance(record, dict):
        return
    _, members = read_model(TESTS / "data_formats" / "format_2_folds.safetensors")
    tensors = {f"{member}/{name}": tensor for member, entries in members.items() for name, tensor in entries.items()}
    file = path.with_suffix(".safetensors")
    try:
        file.write_bytes(save(tensors, metadata={HEADER_KEY: sealed(unsealed(record), tensors)}))
    except (UnicodeEncodeError, ValueError):  # a text that no file can hold
        return
    _read_model(file)


TARGETS: dict[str, Target] = {
    "nifti": Target("image.nii", _nifti, _read_volume),
    "nifti_gz": Target("image.nii.gz", _compressed_nifti, _read_volume),
    "nrrd": Target("image.nrrd", _of_itk(".nrrd"), _read_volume),
    "mha": Target("image.mha", _of_itk(".mha"), _read_volume),
    "gipl": Target("image.gipl", _of_itk(".gipl"), _read_volume),
    "model": Target("model.safetensors", _model_files, _read_model),
    "model_header": Target("header.json", _model_headers, _read_sealed_header, is_json=True),
    "dataset_json": Target("dataset.json", _dataset_json, _read_dataset, is_json=True),
    "plan_json": Target("plan.json", lambda: [_planned()[0]], lambda path: read_plan(Workspace(path.parent)), True),
}
