"""The series that a DICOM mask belongs to, with all that its objects have to repeat of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.dataset.dicom import series_stack
from autoseg.dataset.dicom_settings import load_pydicom, own_settings
from autoseg.dataset.dicom_slices import Slice
from autoseg.dataset.readers import is_series
from autoseg.errors import DatasetError, UsageError
from autoseg.records import Case, Labels

#: Who made an object, in its own fields.
MAKER = "autoseg"

#: Longest name of a segment or region (value representation LO).
LONGEST_NAME = 64


@dataclass(frozen=True)
class Source:
    """A series: its slices in the order of the mask, and the whole header of each file."""

    slices: tuple[Slice, ...]
    headers: dict[Path, Any]  # pydicom datasets without pixels

    @property
    def first(self) -> Any:
        """The header of the first slice."""
        return self.headers[self.slices[0].file]


@own_settings()
def read_source(path: Path) -> Source:
    """The series at a path. Raises ReadError; DatasetError where it lacks what a mask has to refer to."""
    pydicom = load_pydicom()
    slices = series_stack(path).slices
    files = dict.fromkeys(one.file for one in slices)
    headers = {file: pydicom.dcmread(file, stop_before_pixels=True) for file in files}
    for file, header in headers.items():
        header.decode()  # names are written again in another character set
        lacking = [
            name for name in ("FrameOfReferenceUID", "StudyInstanceUID", "SOPInstanceUID") if not header.get(name)
        ]
        if lacking:
            raise DatasetError(
                f"has no {', '.join(lacking)}, so nothing can refer to it",
                where=file,
                remedy="Write its masks with --format nifti or nrrd.",
            )
    return Source(slices, headers)


def require_series(cases: Sequence[Case], labels: Labels) -> None:
    """Raise UsageError where an image is no DICOM series, and DatasetError where a name is too long."""
    load_pydicom()
    others = [case for case in cases if not is_series(case.images[0])]
    if others:
        raise UsageError(
            "DICOM masks refer to the series that they were made from, and this image is no DICOM series",
            where=others[0].images[0],
            remedy="Give folders of DICOM files, or write --format nifti or nrrd.",
        )
    long = [name for name in labels.foreground if len(name) > LONGEST_NAME]
    if long:
        raise UsageError(f"the label name {long[0]!r} is longer than the {LONGEST_NAME} letters that DICOM allows")
