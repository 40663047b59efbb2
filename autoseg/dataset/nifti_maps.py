"""Maps of numbers (probabilities, uncertainty) as NIfTI files on the grid of an image, written plane by plane.

Numbers are stored as 16-bit integers with a slope: half the size of float32, read as fractions by every program that
knows NIfTI, and fine enough (1/65535 for probabilities). Half floats are no NIfTI type, and 8 bits would make ties
where labels meet.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.nifti import COMPRESSION, header_bytes, header_like
from autoseg.dataset.nifti_header import NIFTI_2, parse_header
from autoseg.errors import ReadError
from autoseg.files import written_aside
from autoseg.records import Geometry

#: Name of the intent in the header of every map: so that it is known for ours.
STAMP = b"autoseg map"

#: Largest number that is stored.
FULL = 65535


def write_map(
    path: Path,
    values: NDArray[np.uint16] | NDArray[np.float32],
    slope: float,
    geometry: Geometry,
    like: Path | None = None,
) -> None:
    """Write a map, compressed; sform, qform, their codes, voxel sizes and units are those of a mask of the same image.

    Args:
        path: ends in ".nii.gz".
        values: (k, j, i), or (volumes, k, j, i), which makes a file of four dimensions; integers as they are stored,
            or floats of 0 and above as they are meant. May be mapped from disk, since only one plane at a time is
            looked at.
        slope: what stored numbers are multiplied by.
        geometry: the grid.
        like: the image. Where it is no NIfTI file the position comes from `geometry`.
    """
    header = header_like(geometry, like)
    header.set_data_dtype(np.uint16)
    _, depth, height, width = (1, *values.shape)[-4:]
    space = (width, height) if geometry.flat and values.ndim == 3 else (width, height, depth)
    header.set_data_shape((*space, len(values)) if values.ndim == 4 else space)
    if values.ndim == 4:
        header["pixdim"][4] = 1
    header["intent_name"] = STAMP
    header["scl_slope"], header["scl_inter"] = slope, 0
    offset = 544 if isinstance(header, NIFTI_2) else 352
    header["vox_offset"] = offset
    head = header.binaryblock.ljust(offset, b"\0")
    dtype = np.dtype(np.uint16).newbyteorder(header.endianness)
    with written_aside(path) as aside, open(aside, "wb") as file:
        for block in _compressed(head, values, slope, dtype):
            file.write(block)


def is_map(path: Path) -> bool:
    """Whether a file is one that `write_map` wrote."""
    try:
        return bool(parse_header(header_bytes(path), path)["intent_name"].item() == STAMP)
    except ReadError:
        return False


def _compressed(
    head: bytes, values: NDArray[np.uint16] | NDArray[np.float32], slope: float, dtype: np.dtype[np.uint16]
) -> Iterator[bytes]:
    """The bytes of the gzip file, without a name or a time: equal maps are equal bytes."""
    packer = zlib.compressobj(COMPRESSION, wbits=31)
    yield packer.compress(head)
    for plane in values.reshape(-1, *values.shape[-2:]):
        stored = plane if plane.dtype == np.uint16 else np.rint(plane / np.float32(slope)).clip(0, FULL)
        yield packer.compress(np.ascontiguousarray(stored, dtype=dtype).data)
    yield packer.flush()
