"""DICOM files that tests write themselves: series of slices with a patient's name that must not show anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"

#: What no message, log or mask may tell.
SECRETS = {"PatientName": "Doe^Johanna", "PatientID": "ID-4711-secret", "PatientBirthDate": "19561103"}

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
OBLIQUE = ((0.8, 0.6, 0.0), (0.0, 0.0, -1.0))

Change = Callable[[Any, int], None]


def uid(text: str) -> str:
    """The same UID for the same text."""
    return str(pydicom.uid.generate_uid(entropy_srcs=[text]))


def sample(shape: tuple[int, int, int] = (6, 10, 12), seed: int = 0) -> np.ndarray:
    """Stored numbers (Z, Y, X), smooth enough to look at and different everywhere."""
    z, y, x = np.indices(shape)
    return (100 * z + 10 * y + x + np.random.default_rng(seed).integers(0, 5, shape)).astype(np.int16)


def write_series(
    folder: Path,
    stored: np.ndarray | None = None,
    *,
    name: str = "series",
    modality: str = "CT",
    spacing: tuple[float, float, float] = (2.5, 0.7, 0.8),
    origin: tuple[float, float, float] = (-30.0, 20.0, 100.0),
    directions: tuple[tuple[float, float, float], tuple[float, float, float]] = AXIAL,
    step: Sequence[float] | None = None,
    change: Change | None = None,
    ending: str = ".dcm",
) -> Path:
    """A series of one file per slice, named so that their order is not that of their positions.

    `spacing` is (Z, Y, X) in mm; `step` from slice to slice (x, y, z) is the normal unless given. `change` may alter
    each dataset, given its number along the normal.
    """
    stored = sample() if stored is None else stored
    folder.mkdir(parents=True, exist_ok=True)
    row, column = (np.asarray(direction) for direction in directions)
    along = np.cross(row, column) * spacing[0] if step is None else np.asarray(step)
    order = np.random.default_rng(len(stored)).permutation(len(stored))
    for number, pixels in enumerate(stored):
        image = dataset(pixels, name, modality, instance=f"{name}-{number}")
        image.ImagePositionPatient = [float(f"{value:.6f}") for value in np.asarray(origin) + number * along]
        image.ImageOrientationPatient = [*row.tolist(), *column.tolist()]
        image.PixelSpacing = [spacing[1], spacing[2]]
        image.SliceThickness = spacing[0]
        image.InstanceNumber = int(order[number]) + 1
        if change is not None:
            change(image, number)
        save(image, folder / f"IM{order[number]:04d}{ending}")
    return folder


def dataset(pixels: np.ndarray, name: str, modality: str, instance: str) -> Any:
    """One image without a place."""
    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = EXPLICIT
    image.SOPClassUID = CT_IMAGE if modality == "CT" else MR_IMAGE
    image.SOPInstanceUID = uid(instance)
    image.StudyInstanceUID = uid(f"study of {name}")
    image.SeriesInstanceUID = uid(name)
    image.FrameOfReferenceUID = uid(f"frame of {name}")
    image.Modality = modality
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for field, value in SECRETS.items():
        setattr(image, field, value)
    image.PatientSex, image.AccessionNumber, image.StudyID = "F", "", "1"
    image.StudyDate, image.StudyTime, image.SeriesNumber = "20240101", "120000", 3
    image.ReferringPhysicianName, image.Manufacturer, image.PatientPosition = "", "none", "HFS"
    image.PositionReferenceIndicator, image.AcquisitionNumber = "", 1
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 1
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    if modality == "CT":
        image.RescaleType, image.KVP = "HU", "120"
    image.PixelData = np.ascontiguousarray(pixels.astype("<i2")).tobytes()
    return image


def save(image: Any, path: Path) -> None:
    image.save_as(path, enforce_file_format=True)


def expected_affine(
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    directions: tuple[tuple[float, float, float], tuple[float, float, float]],
) -> np.ndarray:
    """From indices (i, j, k) to RAS+ mm, written out by hand from DICOM's PS3.3 C.7.6.2.1.1."""
    row, column = (np.asarray(direction) for direction in directions)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = row * spacing[2], column * spacing[1]
    matrix[:3, 2], matrix[:3, 3] = np.cross(row, column) * spacing[0], origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix
