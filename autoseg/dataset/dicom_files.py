"""DICOM files: which are there, what kind of object each is, and their fields as plain values.

Only the fields named here are ever looked at, and none of them tells of the patient. pydicom is an extra, imported
when the first DICOM file is met.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.dataset.dicom_settings import load_pydicom, own_settings
from autoseg.errors import ReadError

#: A DICOM file has these four bytes after a preamble of 128.
MAGIC, MAGIC_OFFSET = b"DICM", 128

DEFLATED = "1.2.840.10008.1.2.1.99"
PIXEL_DATA = 0x7FE00010

#: Most bytes that a deflated file may unpack to. Its pixels are checked against its own header besides.
MOST_INFLATED = 1 << 30

#: SOP classes of objects that hold labels.
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
#: Modalities of objects that have pixels, but are no images.
NO_IMAGES = ("SEG", "RTDOSE", "RTIMAGE", "PR", "SR", "KO")

SEGMENTATIONS = (SEGMENTATION, LABEL_MAP_SEGMENTATION)

#: Fields by which images at one place may differ: names that a person knows.
VARIANTS = {
    "EchoTime": "echo time",
    "TemporalPositionIdentifier": "temporal position",
    "TriggerTime": "trigger time",
    "DiffusionBValue": "b-value",
    "AcquisitionNumber": "acquisition",
    "ContentTime": "time",
}

#: What tells how the numbers of the frames are stored.
PIXEL_FIELDS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)

_FIELDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "FrameOfReferenceUID",
    *PIXEL_FIELDS,
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *VARIANTS,
)


_WHOLE_NUMBERS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PlanarConfiguration",
)


@dataclass(frozen=True)
class DicomFile:
    """One file: what it is, and its fields (a pydicom Dataset of those in `_FIELDS` alone)."""

    path: Path
    syntax: str  # transfer syntax UID
    fields: Any

    @property
    def sop_class(self) -> str:
        """Kind of object, a UID."""
        return str(self.fields.get("SOPClassUID", ""))

    @property
    def series(self) -> str:
        """UID of the series that it belongs to."""
        return str(self.fields.get("SeriesInstanceUID", ""))

    @property
    def modality(self) -> str:
        """CT, MR, PT, …"""
        return str(self.fields.get("Modality", "")).strip()

    @property
    def is_labels(self) -> bool:
        """Whether it holds labels (DICOM-SEG or RTSTRUCT)."""
        return self.sop_class in (*SEGMENTATIONS, STRUCTURE_SET)

    @property
    def is_image(self) -> bool:
        """Whether it holds pixels that are intensities."""
        return bool(self.fields.get("Rows")) and self.modality not in NO_IMAGES and not self.is_labels

    @property
    def is_localizer(self) -> bool:
        """Whether it is a scout, which shows where the scan lies and is no part of it."""
        kinds = self.fields.get("ImageType") or ()
        return "LOCALIZER" in ([kinds] if isinstance(kinds, str) else [str(kind) for kind in kinds])

    @property
    def frames(self) -> int:
        """Number of frames; 1 in all but multi-frame objects."""
        return int(self.fields.get("NumberOfFrames") or 1)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its content."""
    try:
        with open(path, "rb") as file:
            return file.read(MAGIC_OFFSET + 4)[MAGIC_OFFSET:] == MAGIC
    except OSError:
        return False


@own_settings()
def read_file(path: Path, *, pixels: bool = False, more: Sequence[str] = ()) -> DicomFile:
    """The fields of one file, with its pixels or `more` fields if asked for.

    Raises ReadError for what is no DICOM file or is broken. Nothing is unpacked beyond MOST_INFLATED bytes.
    """
    pydicom = load_pydicom()
    if not path.is_file():
        raise ReadError("does not exist", where=path)
    if not is_dicom(path):
        raise ReadError("is not a DICOM file", where=path, remedy="Convert it, or remove it from the folder.")
    wanted = [*_FIELDS, *more, *(["PixelData"] if pixels else [])]
    tags = [pydicom.datadict.tag_for_keyword(name) for name in wanted]
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if syntax == DEFLATED:
            fields = _inflated(path, pydicom, meta, pixels, tags)
        else:
            fields = pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=tags)
        found = DicomFile(path, syntax, fields)
        _interpret(found)
    except ReadError:
        raise
    except Exception as error:  # a parser meets broken files in more ways than it has errors for
        raise damaged(path, f"it cannot be parsed ({type(error).__name__})") from error
    return found


def _interpret(file: DicomFile) -> None:
    """Look at every field once: pydicom interprets them when asked, and damage should show while the file is known."""
    for tag in list(file.fields.keys()):
        _ = file.fields[tag]
    for name in _WHOLE_NUMBERS:
        if file.fields.get(name) is not None:
            int(file.fields.get(name))
    _ = file.is_image, file.is_localizer, file.frames


#: What reading a field of the wrong kind or number raises, in pydicom and in arithmetic on it.
_WRONG_FIELDS = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    EOFError,
    struct.error,
)


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Name the file where a field is not what it should be.

    pydicom interprets fields when they are asked for, so a damaged one shows wherever it is used first. Around code
    that reads fields only.
    """
    try:
        yield
    except _WRONG_FIELDS as error:
        raise damaged(path, f"a field cannot be read ({type(error).__name__})") from error


def damaged(path: Path, why: str) -> ReadError:
    """The error for a file whose content contradicts itself."""
    return ReadError(f"is damaged: {why}", where=path, remedy="Copy or export the file again.")


def _inflated(path: Path, pydicom: Any, meta: Any, pixels: bool, tags: list[int]) -> Any:
    """The fields of a deflated file; pydicom itself would unpack it without a bound."""
    raw = path.read_bytes()
    member = zlib.decompressobj(-zlib.MAX_WBITS)
    content = member.decompress(raw[_end_of_meta(raw, path) :], MOST_INFLATED)
    if member.unconsumed_tail:
        raise ReadError(f"unpacks to more than {MOST_INFLATED >> 20} MB", where=path, remedy="Store it uncompressed.")

    def stop(tag: int, _vr: str | None, _length: int) -> bool:
        return not pixels and int(tag) >= PIXEL_DATA

    fields = pydicom.filereader.read_dataset(
        io.BytesIO(content), is_implicit_VR=False, is_little_endian=True, stop_when=stop, specific_tags=tags
    )
    fields.file_meta = meta
    return fields


def _end_of_meta(raw: bytes, path: Path) -> int:
    """Where the file meta information ends: its first element tells its length."""
    head = raw[MAGIC_OFFSET + 4 : MAGIC_OFFSET + 16]
    if head[:6] != b"\x02\0\0\0UL":
        raise ReadError("is damaged: its meta information has no length", where=path, remedy="Copy it again.")
    return MAGIC_OFFSET + 16 + int.from_bytes(head[8:12], "little")
