"""Compressed voxels of MetaImage, NRRD and GIPL files, checked before ITK reads them.

ITK takes a damaged stream of a MetaImage file for good and hands out whatever was in memory, and does not look at
the checksums of the others. So the stream is unpacked here once, keeping nothing.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import BinaryIO

from autoseg.errors import ReadError

#: Headers are text of a few lines; nothing that is longer is one.
_LONGEST_HEADER = 1 << 20

#: Files of slices in MetaImage, "slice%03d.raw 1 40 1". ITK hands it to printf, which any other pattern crashes.
_FILE_PATTERN = re.compile(r"[^%]*%(0?\d{1,2})?d[^%]*")

_ZLIB, _GZIP = 15, 31  # zlib's names for the two wrappings
_BLOCK = 1 << 20
_GIPL_HEADER = 256


def check_compressed(path: Path, expected: int) -> None:
    """Raise ReadError where the voxels of a .mha, .mhd, .nrrd or .gipl.gz file do not unpack to `expected` bytes.

    Files that are not compressed, and those whose voxels are spread over several files, are left to ITK.
    """
    name = path.name.lower()
    try:
        with open(path, "rb") as file:
            if name.endswith((".mha", ".mhd")):
                _check_meta_image(file, path, expected)
            elif name.endswith(".nrrd"):
                _check_nrrd(file, path, expected)
            elif name.endswith(".gipl.gz"):
                _check_stream(file, path, _GIPL_HEADER + expected, _GZIP)
    except OSError as error:
        raise ReadError(f"cannot be read ({error.strerror or error})", where=path) from error


def _check_meta_image(file: BinaryIO, path: Path, expected: int) -> None:
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = file.readline(_LONGEST_HEADER)
        if not line:
            return  # no header that ends: ITK says so
        key, _, value = line.decode("utf-8", "replace").partition("=")
        fields[key.strip()] = value.strip()
    if "%" in fields["ElementDataFile"] and not _FILE_PATTERN.fullmatch(fields["ElementDataFile"]):
        raise ReadError("its ElementDataFile names no file", where=path, remedy="Correct the header, or remove it.")
    if fields.get("CompressedData", "False").lower() != "true":
        return
    if "CompressedDataSize" not in fields:
        raise ReadError(
            "does not tell the size of its compressed data (CompressedDataSize)",
            where=path,
            remedy="Save it again, without compression or with another program.",
        )
    place = fields["ElementDataFile"]
    if place == "LOCAL":
        _check_stream(file, path, expected, _ZLIB)
    elif (path.parent / place).is_file():
        with open(path.parent / place, "rb") as beside:
            _check_stream(beside, path, expected, _ZLIB)


def _check_nrrd(file: BinaryIO, path: Path, expected: int) -> None:
    encoding = ""
    while True:
        line = file.readline(_LONGEST_HEADER)
        if not line:
            return
        text = line.decode("utf-8", "replace").strip()
        if not text:
            break
        key, _, value = text.partition(":")
        if key.strip().lower() == "encoding":
            encoding = value.strip().lower()
        if key.strip().lower() in ("line skip", "lineskip", "byte skip", "byteskip"):
            return
    if encoding in ("gzip", "gz"):
        _check_stream(file, path, expected, _GZIP)


def _check_stream(file: BinaryIO, path: Path, expected: int, wrapping: int) -> None:
    """Unpack to the end, block by block. Raises ReadError."""
    unpacked = 0
    unpacker = zlib.decompressobj(wrapping)
    try:
        while not unpacker.eof and unpacked <= expected:
            packed = unpacker.unconsumed_tail or file.read(_BLOCK)
            if not packed:
                raise _damaged(path, f"its compressed data end after {unpacked} of {expected} bytes")
            unpacked += len(unpacker.decompress(packed, _BLOCK))
    except zlib.error as error:
        raise _damaged(path, f"its compressed data cannot be unpacked ({error})") from error
    if unpacked != expected:
        raise _damaged(path, f"its compressed data are not the {expected} bytes that its header tells of")


def _damaged(path: Path, why: str) -> ReadError:
    return ReadError(f"is damaged: {why}", where=path, remedy="Copy or download the file again.")
