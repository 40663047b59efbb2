"""Stored numbers of the frames of one DICOM file.

Uncompressed pixels are taken as they lie in the file. Compressed ones are decoded by GDCM within SimpleITK, from a
copy that holds the pixels alone: so no field can make it rescale the numbers by rules of its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.claims import refuse_impossible
from autoseg.dataset.dicom_files import PIXEL_FIELDS, DicomFile, damaged, parsing
from autoseg.dataset.dicom_settings import load_pydicom, own_settings
from autoseg.errors import ReadError

#: Implicit and explicit little endian, deflated, explicit big endian.
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
BIG_ENDIAN = "1.2.840.10008.1.2.2"

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_SECONDARY_CAPTURE_FRAMES = "1.2.840.10008.5.1.4.1.1.7.3"


@own_settings()
def stored_frames(file: DicomFile) -> NDArray[np.generic]:
    """Stored numbers of all frames, (F, Y, X) or (F, Y, X, C); `file` was read with its pixels.

    Raises ReadError where the header tells of more than there is, and for a compression that cannot be decoded.
    """
    with parsing(file.path):
        return _stored_frames(file)


def _stored_frames(file: DicomFile) -> NDArray[np.generic]:
    fields = file.fields
    rows, columns, samples = int(fields.Rows), int(fields.Columns), int(fields.get("SamplesPerPixel") or 1)
    bits = int(fields.get("BitsAllocated") or 16)
    if "PixelData" not in fields:
        raise damaged(file.path, "it has no pixels")
    content: bytes = fields.PixelData
    if file.syntax not in UNCOMPRESSED:
        refuse_impossible(file.path, file.frames * rows * columns * samples * max(bits // 8, 1), len(content))
        return _decoded(file)
    shape = (file.frames, rows, columns, samples)
    count = file.frames * rows * columns * samples
    if len(content) * 8 < count * bits:
        what = f"the header tells of {-(-count * bits // 8)} bytes of pixels, {len(content)} are there"
        raise damaged(file.path, what)
    if bits == 1:
        stored: NDArray[np.generic] = np.unpackbits(
            np.frombuffer(content, dtype=np.uint8), count=count, bitorder="little"
        )
    else:
        stored = np.frombuffer(content, dtype=_type(file, bits), count=count)
        stored = _used_bits(stored, int(fields.get("BitsStored") or bits), bits)
    if samples > 1 and int(fields.get("PlanarConfiguration") or 0) == 1:
        return np.moveaxis(stored.reshape(file.frames, samples, rows, columns), 1, -1)
    return stored.reshape(shape) if samples > 1 else stored.reshape(shape[:3])


def _type(file: DicomFile, bits: int) -> np.dtype[np.generic]:
    if bits not in (8, 16, 32):
        raise ReadError(f"stores {bits} bits a pixel, which cannot be read", where=file.path)
    kind = "i" if int(file.fields.get("PixelRepresentation") or 0) else "u"
    return np.dtype(f"{'>' if file.syntax == BIG_ENDIAN else '<'}{kind}{bits // 8}")


def _used_bits(stored: NDArray[np.generic], used: int, bits: int) -> NDArray[np.generic]:
    """Without the bits above those in use, in which old files keep overlays."""
    if not 1 <= used < bits:
        return stored
    native = stored.astype(stored.dtype.newbyteorder("="))
    spare = native.dtype.type(bits - used)
    return np.asarray((native << spare) >> spare)


def _decoded(file: DicomFile) -> NDArray[np.generic]:
    pydicom = load_pydicom()
    import SimpleITK as sitk

    alone = pydicom.Dataset()
    for name in PIXEL_FIELDS:
        if name in file.fields:
            setattr(alone, name, getattr(file.fields, name))
    alone.SOPClassUID = _SECONDARY_CAPTURE if file.frames == 1 else _SECONDARY_CAPTURE_FRAMES
    alone.SOPInstanceUID = pydicom.uid.generate_uid()
    alone["PixelData"] = file.fields["PixelData"]
    alone.file_meta = pydicom.dataset.FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = file.syntax
    with tempfile.TemporaryDirectory(prefix="autoseg-") as folder:
        path = Path(folder) / "pixels.dcm"
        try:
            alone.save_as(path, enforce_file_format=True)
            image: Any = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
        except (RuntimeError, ValueError, OSError) as error:
            name = pydicom.uid.UID(file.syntax).name
            raise ReadError(
                f"its compression ({name}) could not be decoded",
                where=file.path,
                remedy="Uncompress the series first, for example with gdcmconv --raw or dcmdjpeg.",
            ) from error
    stored: NDArray[np.generic] = sitk.GetArrayFromImage(image)
    return stored.reshape(file.frames, *stored.shape[-3 if image.GetNumberOfComponentsPerPixel() > 1 else -2 :])
