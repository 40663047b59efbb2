"""Masks as RTSTRUCT: a region of interest for each label, as contours in the slices of its series."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg import __version__
from autoseg.arrays.labels import encode
from autoseg.dataset.colours import colour_of
from autoseg.dataset.dicom_files import STRUCTURE_SET
from autoseg.dataset.dicom_settings import load_pydicom, own_settings
from autoseg.dataset.dicom_slices import Slice
from autoseg.files import written_aside
from autoseg.interop.contours import Polygon, outlines
from autoseg.interop.dicom_source import MAKER, Source, read_source
from autoseg.records import Case, Geometry, Labels

#: Fields of patient and study that an object of the same study repeats.
_SHARED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)
#: Those of them that have to be there, empty if need be (type 2).
_NEVER_ABSENT = tuple(name for name in _SHARED if name != "StudyDescription")

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"


@own_settings()
def write_rtstruct(path: Path, mask: NDArray[np.integer], geometry: Geometry, case: Case, labels: Labels) -> None:  # noqa: ARG001
    """Write a mask (Z, Y, X) of a DICOM series as RTSTRUCT.

    Raises DatasetError where the series has nothing to refer to.
    """
    source = read_source(case.images[0])
    structures = _structure_set(source)
    indices = encode(mask, labels)
    pydicom = load_pydicom()
    regions, contours, observations = [], [], []
    for number, (name, members) in enumerate(labels.foreground.items(), start=1):
        regions.append(_region(pydicom, number, name, source))
        inside = np.isin(indices, members)
        colour = colour_of(name, labels.values[members[0]])
        contours.append(_contours(pydicom, number, colour, inside, source))
        observation = pydicom.Dataset()
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType, observation.ROIInterpreter = "", ""
        observations.append(observation)
    structures.StructureSetROISequence = regions
    structures.ROIContourSequence = contours
    structures.RTROIObservationsSequence = observations
    with written_aside(path) as aside:
        structures.save_as(aside, enforce_file_format=True)


def _structure_set(source: Source) -> Any:
    """An RTSTRUCT object without regions."""
    pydicom = load_pydicom()
    now = datetime.datetime.now()
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = EXPLICIT_LITTLE_ENDIAN
    made.SpecificCharacterSet = "ISO_IR 192"
    for name in _SHARED:
        if name in source.first:
            setattr(made, name, source.first.get(name))
        elif name in _NEVER_ABSENT:
            setattr(made, name, "")
    made.SOPClassUID, made.SOPInstanceUID = STRUCTURE_SET, pydicom.uid.generate_uid(prefix=None)
    made.InstanceCreationDate = made.SeriesDate = made.StructureSetDate = now.strftime("%Y%m%d")
    made.InstanceCreationTime = made.SeriesTime = made.StructureSetTime = now.strftime("%H%M%S")
    made.Modality, made.SeriesInstanceUID, made.SeriesNumber = "RTSTRUCT", pydicom.uid.generate_uid(prefix=None), 101
    made.SeriesDescription, made.OperatorsName, made.InstanceNumber = "Segmentation made by autoseg", "", 1
    made.Manufacturer = made.ManufacturerModelName = MAKER
    made.SoftwareVersions = __version__
    made.StructureSetLabel, made.StructureSetName = "AUTOSEG", "autoseg"
    made.ApprovalStatus = "UNAPPROVED"
    made.ReferencedFrameOfReferenceSequence = [_frame_of_reference(pydicom, source)]
    return made


def _frame_of_reference(pydicom: Any, source: Source) -> Any:
    """Frame of reference, study, series and every image, nested as the standard has them."""
    series = pydicom.Dataset()
    series.SeriesInstanceUID = source.first.SeriesInstanceUID
    series.ContourImageSequence = [_reference(pydicom, one, source) for one in source.slices]
    study = pydicom.Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = DETACHED_STUDY, source.first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = pydicom.Dataset()
    frame.FrameOfReferenceUID = source.first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _reference(pydicom: Any, one: Slice, source: Source) -> Any:
    image = source.headers[one.file]
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    if int(image.get("NumberOfFrames") or 1) > 1:
        item.ReferencedFrameNumber = one.frame + 1
    return item


def _region(pydicom: Any, number: int, name: str, source: Source) -> Any:
    region = pydicom.Dataset()
    region.ROINumber, region.ROIName = number, name
    region.ReferencedFrameOfReferenceUID = source.first.FrameOfReferenceUID
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    return region


def _contours(
    pydicom: Any, number: int, colour: tuple[int, int, int], inside: NDArray[np.bool_], source: Source
) -> Any:
    found = pydicom.Dataset()
    found.ROIDisplayColor, found.ReferencedROINumber = list(colour), number
    sequence = []
    for one, plane in zip(source.slices, inside, strict=True):
        for polygon in outlines(plane):
            contour = pydicom.Dataset()
            contour.ContourImageSequence = [_reference(pydicom, one, source)]
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(polygon)
            contour.ContourData = _coordinates(polygon, one)
            sequence.append(contour)
    if sequence:
        found.ContourSequence = sequence
    return found


def _coordinates(polygon: Polygon, one: Slice) -> list[str]:
    """Coordinates in mm, as texts of at most 16 letters, at exactly the place of the slice."""
    x, y = polygon[:, :1], polygon[:, 1:]
    along = np.asarray(one.rows_along) * one.pixel[1], np.asarray(one.columns_along) * one.pixel[0]
    points = np.asarray(one.position) + x * along[0] + y * along[1]
    return [f"{value:.4f}" for value in points.ravel()]
