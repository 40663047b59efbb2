"""DICOM-SEG and RTSTRUCT files as labels: which they hold, to which series they belong, and their voxels on its grid.

Each segment and each region of interest is a label of its own, as if it had a file of its own: they may overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.dataset import dicom_seg, rtstruct
from autoseg.dataset.dicom_files import SEGMENTATIONS, STRUCTURE_SET, DicomFile, parsing, read_file
from autoseg.dataset.dicom_settings import own_settings
from autoseg.errors import DatasetError, ReadError
from autoseg.records import Geometry, LabelMap

_FIELDS = (
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
    "SegmentSequence",
    "SegmentationType",
    "MaximumFractionalValue",
    "StructureSetROISequence",
    "ROIContourSequence",
)


@own_settings()
def label_names(path: Path) -> tuple[str, ...]:
    """Names of the labels in a file, each once, in its order. Raises ReadError for another kind of object."""
    file = _read(path)
    with parsing(path):
        found = dicom_seg.segments(file) if file.sop_class in SEGMENTATIONS else rtstruct.regions(file)
    return tuple(dict.fromkeys(found.values()))


@own_settings()
def referenced_series(path: Path) -> tuple[str, ...]:
    """UIDs of the image series that a file of labels says it was drawn on."""
    fields = read_file(path, more=_FIELDS).fields
    with parsing(path):
        return tuple(uid for uid in _references(fields) if uid)


def _references(fields: Any) -> dict[str, None]:
    found: dict[str, None] = {}
    for item in fields.get("ReferencedSeriesSequence") or ():
        found[str(item.get("SeriesInstanceUID", ""))] = None
    for frame in fields.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                found[str(series.get("SeriesInstanceUID", ""))] = None
    return found


def read_named(path: Path, names: Sequence[str], grid: Geometry | None) -> Iterator[tuple[str, LabelMap]]:
    """Each of the named labels as a binary map (Z, Y, X) on the grid of its image, one at a time.

    A name that several segments or regions have means all of them. Raises ReadError where the file lies on another
    grid, and where an RTSTRUCT comes without an image.
    """
    steps = _named(path, names, grid)
    while True:
        with own_settings(), parsing(path):  # not while whoever asked works with a label
            found = next(steps, None)
        if found is None:
            return
        yield found


def _named(path: Path, names: Sequence[str], grid: Geometry | None) -> Iterator[tuple[str, LabelMap]]:
    file = _read(path, pixels=True)
    reader: dicom_seg.SegmentReader | rtstruct.RegionReader
    if file.sop_class in SEGMENTATIONS:
        reader = dicom_seg.SegmentReader(file, grid)
    elif grid is None:
        raise _needs_image(file.path)
    else:
        reader = rtstruct.RegionReader(file, grid)
    numbers = {number: name for number, name in reader.names.items() if name in names}
    for name in names:
        members = [number for number, own in numbers.items() if own == name]
        if not members:
            raise DatasetError(f"has no label {name!r}", where=file.path, remedy=f"It has {_listed(reader.names)}.")
        inside, notes = reader.read(members)
        if len(members) > 1:
            notes = (*notes, f"{len(members)} of its labels are called {name}: together they are one")
        yield name, LabelMap(inside.astype(np.uint8), reader.geometry, notes)


@own_settings()
def own_label_map(path: Path) -> LabelMap:
    """All segments of a DICOM-SEG file on its own grid, with their numbers as values. Raises ReadError."""
    file = _read(path, pixels=True)
    if file.sop_class == STRUCTURE_SET:
        raise _needs_image(path)
    with parsing(path):
        return dicom_seg.own_label_map(file)


def _needs_image(path: Path) -> ReadError:
    return ReadError(
        "holds contours, which need the image that they were drawn on",
        where=path,
        remedy="Keep it beside its series, and give the folder of both.",
    )


def _read(path: Path, pixels: bool = False) -> DicomFile:
    file = read_file(path, pixels=pixels, more=_FIELDS)
    if not file.is_labels:
        raise ReadError(f"holds no labels ({file.modality or 'unknown'})", where=path)
    return file


def _listed(names: dict[int, str]) -> str:
    return ", ".join(dict.fromkeys(names.values())) or "none"
