"""From the fields of DICOM files to slices: single-frame objects, and enhanced ones with all frames in one file."""

from __future__ import annotations

from typing import Any

import numpy as np

from autoseg.dataset.dicom_files import VARIANTS, DicomFile, damaged, parsing
from autoseg.dataset.dicom_slices import Slice, Vector
from autoseg.errors import ReadError


def has_places(file: DicomFile) -> bool:
    """Whether its frames have a place in the patient: X-ray and ultrasound images have none."""
    fields = file.fields
    return "ImagePositionPatient" in fields or "PerFrameFunctionalGroupsSequence" in fields


def slices_of(file: DicomFile) -> list[Slice]:
    """The frames of one file with their places. Raises ReadError where one has none, or no pixel size."""
    with parsing(file.path):
        return _slices(file)


def _slices(file: DicomFile) -> list[Slice]:
    if "ModalityLUTSequence" in file.fields:
        raise ReadError(
            "its values go through a lookup table, which cannot be read",
            where=file.path,
            remedy="Export it with rescale slope and intercept, or convert it to NIfTI.",
        )
    if "PerFrameFunctionalGroupsSequence" not in file.fields:
        if file.frames > 1:
            raise ReadError(
                f"holds {file.frames} frames, but not where each of them lies",
                where=file.path,
                remedy="Convert it to NIfTI with a program that knows this kind of object.",
            )
        return [_slice(file, 0, [file.fields])]
    shared = list(file.fields.get("SharedFunctionalGroupsSequence") or [])[:1]
    groups = list(file.fields.PerFrameFunctionalGroupsSequence)
    if len(groups) != file.frames:
        raise damaged(file.path, f"it has {file.frames} frames, and describes {len(groups)}")
    return [_slice(file, number, [group, *shared, file.fields]) for number, group in enumerate(groups)]


def _slice(file: DicomFile, frame: int, sources: list[Any]) -> Slice:
    try:
        position = vector(_found(sources, "ImagePositionPatient", "PlanePositionSequence"), 3)
        directions = vector(_found(sources, "ImageOrientationPatient", "PlaneOrientationSequence"), 6)
        pixel = vector(_found(sources, "PixelSpacing", "PixelMeasuresSequence"), 2)
        slope = _found(sources, "RescaleSlope", "PixelValueTransformationSequence")
        intercept = _found(sources, "RescaleIntercept", "PixelValueTransformationSequence")
        scaling = vector((1.0 if slope in (None, "") else slope, 0.0 if intercept in (None, "") else intercept), 2)
        thickness = _found(sources, "SpacingBetweenSlices", "PixelMeasuresSequence")
        thickness = thickness or _found(sources, "SliceThickness", "PixelMeasuresSequence")
    except (TypeError, ValueError) as error:
        raise damaged(file.path, "its position, orientation, pixel size or rescaling is no number") from error
    if len(position) != 3 or len(directions) != 6 or len(pixel) != 2:
        raise ReadError(
            "tells no position, orientation or pixel size",
            where=file.path,
            remedy="Export the series again with its geometry.",
        )
    unit = np.linalg.norm(np.reshape(directions, (2, 3)), axis=1)
    if not np.isfinite([*position, *directions, *pixel, *scaling]).all() or min(pixel) <= 0:
        raise damaged(file.path, "its geometry is not finite, or its pixels have no size")
    if np.abs(unit - 1).max() > 0.01 or abs(np.dot(directions[:3], directions[3:])) > 0.01:
        raise damaged(file.path, "its directions are no unit vectors at right angles")
    return Slice(
        file=file.path,
        frame=frame,
        instance=str(file.fields.get("SOPInstanceUID", "")),
        position=_three(position),
        rows_along=_three(directions[:3]),
        columns_along=_three(directions[3:]),
        pixel=(pixel[0], pixel[1]),
        size=(int(file.fields.Rows), int(file.fields.Columns)),
        slope=scaling[0],
        intercept=scaling[1],
        thickness=abs(float(thickness)) if thickness else None,
        variants={told: str(file.fields.get(name, "")) for name, told in VARIANTS.items()},
    )


def _found(sources: list[Any], name: str, group: str) -> Any:
    """A field of the first source that has it, itself or in its functional group."""
    for source in sources:
        if name in source:
            return source.get(name)
        items = source.get(group)
        if items and name in items[0]:
            return items[0].get(name)
    return None


def vector(value: Any, count: int) -> tuple[float, ...]:
    """Numbers of a field; empty where there are not so many."""
    if value is None or isinstance(value, str) or not hasattr(value, "__len__") or len(value) != count:
        return ()
    return tuple(float(entry) for entry in value)


def _three(values: tuple[float, ...]) -> Vector:
    return values[0], values[1], values[2]
