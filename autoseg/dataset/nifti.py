"""NIfTI files, version 1 and 2, compressed or not (told by content, not by name).

The whole file is decompressed at once and checked against its checksum, which is faster than nibabel's seeking reads
and finds truncation wherever it is. nibabel interprets the header.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset import voxels
from autoseg.dataset.claims import refuse_impossible, refuse_too_large
from autoseg.dataset.geometry import skew_notes
from autoseg.dataset.nifti_header import (
    HEADER_BYTES,
    NIFTI_1,
    NIFTI_2,
    Header,
    Layout,
    colour_components,
    parse_header,
    read_layout,
)
from autoseg.dataset.voxels import small_integers, to_float32
from autoseg.errors import ReadError
from autoseg.files import written_aside
from autoseg.records import Geometry, LabelMap, Volume

GZIP_MAGIC = b"\x1f\x8b"

#: Masks are long runs of equal bytes: higher levels cost time and save next to nothing.
COMPRESSION = 3


def read_image(path: Path) -> Volume:
    """Image of one NIfTI file, (C, Z, Y, X) float32; a fourth or fifth dimension, and colours, become channels."""
    layout, stored = _load(path)
    image = to_float32(stored, layout.slope, layout.inter)
    return Volume(image, layout.geometry, (*layout.notes, *skew_notes(layout.geometry)))


def read_labels(path: Path) -> LabelMap:
    """Labels of one NIfTI file, (Z, Y, X); integers in a small type, floats only where there are fractions."""
    layout, stored = _load(path)
    if layout.channels != 1:
        raise ReadError(
            f"holds {layout.channels} volumes, not one label map",
            where=path,
            remedy="Give each voxel one label in a 3D file.",
        )
    return LabelMap(small_integers(stored[0], layout.slope, layout.inter), layout.geometry, layout.notes)


def read_geometry(path: Path) -> tuple[Geometry, int]:
    """Grid and number of channels, from the header alone."""
    layout = read_layout(header_bytes(path), path)
    return layout.geometry, layout.channels


def write_labels(path: Path, labels: NDArray[np.unsignedinteger], geometry: Geometry, like: Path | None) -> None:
    """Write a NIfTI mask; sform, qform, their codes, voxel sizes and units are those of `like`, bit for bit.

    Without `like` (or when it is no NIfTI file) the grid is `geometry`, in mm, scanner coordinates.
    """
    header = header_like(geometry, like)
    header.set_data_dtype(labels.dtype)
    header.set_data_shape(labels.shape[:0:-1] if geometry.flat else labels.shape[::-1])
    header["scl_slope"], header["scl_inter"] = 1, 0
    offset = 544 if isinstance(header, NIFTI_2) else 352
    header["vox_offset"] = offset
    head = header.binaryblock.ljust(offset, b"\0")
    voxels = np.ascontiguousarray(labels, dtype=labels.dtype.newbyteorder(header.endianness)).tobytes()
    _write_bytes(path, head + voxels)


def replace_not_finite(path: Path, out: Path) -> None:
    """Write a copy of an image in which each voxel that is NaN or infinite has the smallest value of its channel.

    Header and all other voxels are the same, bit for bit. Raises ReadError for a file that cannot be read or that has
    a channel without any number.
    """
    layout, stored = _load(path)
    try:
        values = voxels.replace_not_finite(stored, downwards=layout.slope < 0)
    except ValueError as error:
        raise ReadError(str(error), where=path) from error
    head = _content(path, layout.offset)[0][: layout.offset]
    _write_bytes(out, head + np.ascontiguousarray(values).tobytes())


def _write_bytes(path: Path, content: bytes) -> None:
    with written_aside(path) as aside:
        if path.name.lower().endswith(".gz"):
            # no name and no time in it: equal masks are equal bytes
            content = gzip.compress(content, compresslevel=COMPRESSION, mtime=0)
        aside.write_bytes(content)


# ------------------------------------------------------------------------------------------------------- reading


def _load(path: Path) -> tuple[Layout, NDArray[np.generic]]:
    """Layout and stored voxels (C, Z, Y, X), in the file's own type."""
    layout = read_layout(header_bytes(path), path)
    needed = layout.offset + layout.voxel_bytes
    refuse_impossible(path, needed, path.stat().st_size)
    refuse_too_large(path, layout.channels * math.prod(layout.geometry.shape))
    content, packed = _content(path, needed)
    layout = replace(layout, notes=(*layout.notes, *_name_notes(path, packed)))
    if len(content) < needed:
        raise ReadError(
            f"is truncated: the header tells of {needed} bytes, {len(content)} are there",
            where=path,
            remedy="Copy or download the file again.",
        )
    count = layout.voxel_bytes // layout.dtype.itemsize
    flat = np.frombuffer(content, dtype=layout.dtype, count=count, offset=layout.offset)
    z, y, x = layout.geometry.shape
    if colour_components(layout.header):
        return layout, np.moveaxis(flat.reshape(z, y, x, layout.channels), -1, 0)
    return layout, flat.reshape(layout.channels, z, y, x)


def header_bytes(path: Path) -> bytes:
    """The first bytes of the file, decompressed if need be."""
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise ReadError(f"cannot be opened ({error.strerror or error})", where=path) from error
    if not start:
        raise ReadError("is empty (0 bytes)", where=path, remedy="Copy or download the file again.")
    if not start.startswith(GZIP_MAGIC):
        return start[:HEADER_BYTES]
    try:
        return zlib.decompressobj(wbits=31).decompress(start, HEADER_BYTES)
    except zlib.error as error:
        raise _damaged(path, error) from error


def _content(path: Path, needed: int) -> tuple[bytes, bool]:
    """The file's bytes, at most `needed` of them, and whether they were compressed (then the checksum is verified)."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ReadError(f"cannot be read ({error.strerror or error})", where=path) from error
    if not raw.startswith(GZIP_MAGIC):
        return raw, False
    parts, missing, size = [], needed, len(raw)
    try:
        while raw.startswith(GZIP_MAGIC) and missing > 0:  # parallel compressors write several members
            member = zlib.decompressobj(wbits=31)
            part = member.decompress(raw, missing)
            parts.append(part)
            missing -= len(part)
            rest = member.unconsumed_tail
            while not member.eof:  # to the checksum, keeping nothing
                skipped = member.decompress(rest, 1 << 20)
                if not skipped and not member.eof and not member.unconsumed_tail:
                    raise ReadError(
                        f"is truncated: the header tells of {needed} bytes, its {size} compressed bytes end too early",
                        where=path,
                        remedy="Copy or download the file again.",
                    )
                rest = member.unconsumed_tail
            raw = member.unused_data
    except zlib.error as error:
        raise _damaged(path, error) from error
    return parts[0] if len(parts) == 1 else b"".join(parts), True


def _name_notes(path: Path, packed: bool) -> tuple[str, ...]:
    """A note where the name says something else than the content, which counts."""
    if packed == path.name.lower().endswith(".gz"):
        return ()
    if packed:
        return ("it is compressed, although its name does not end in .gz",)
    return ("it is not compressed, although its name ends in .gz",)


def _damaged(path: Path, error: Exception) -> ReadError:
    return ReadError(
        f"is damaged: its compressed data cannot be unpacked ({error})",
        where=path,
        remedy="Copy or download the file again.",
    )


# ------------------------------------------------------------------------------------------------------- writing


def header_like(geometry: Geometry, like: Path | None) -> Header:
    """The header of a file on the grid of an image: placed as `like` is, bit for bit, if that is a NIfTI file."""
    if like is not None and _is_nifti(like):
        header = parse_header(header_bytes(like), like).copy()
        for text in ("descrip", "aux_file", "intent_name"):  # may tell of a person, and speak of the image
            header[text] = b""
        for number in ("intent_code", "intent_p1", "intent_p2", "intent_p3", "cal_min", "cal_max"):
            header[number] = 0
        return header
    kind = NIFTI_1 if max(geometry.shape) < 2**15 else NIFTI_2
    header = kind()
    header.set_data_shape(geometry.shape[::-1])
    header.set_xyzt_units("mm")
    header.set_qform(geometry.matrix, code=1, strip_shears=True)
    header.set_sform(geometry.matrix, code=1)
    return header


def _is_nifti(path: Path) -> bool:
    try:
        parse_header(header_bytes(path), path)
    except ReadError:
        return False
    return True


def nifti_bytes(values: NDArray[np.float32] | NDArray[np.int32], geometry: Geometry) -> bytes:
    """A whole NIfTI file, uncompressed, of (k, j, i) numbers on a grid: for programs that read from memory."""
    header = header_like(geometry, None)
    header.set_data_dtype(values.dtype)
    header.set_data_shape(values.shape[::-1])
    header["scl_slope"], header["scl_inter"] = 1, 0
    offset = 544 if isinstance(header, NIFTI_2) else 352
    header["vox_offset"] = offset
    content = np.ascontiguousarray(values).astype(values.dtype.newbyteorder(header.endianness), copy=False)
    head: bytes = header.binaryblock.ljust(offset, b"\0")
    return head + content.tobytes()
