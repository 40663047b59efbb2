"""What a NIfTI header says: grid, affine in mm, number type, scaling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from autoseg.dataset.geometry import VOXEL_EDGES_MM, affine_rows, corner_distance_mm, smallest_voxel_edge, spans_space
from autoseg.errors import ReadError
from autoseg.records import Geometry, Shape

Header = Any  # nibabel's header classes have no annotations
NIFTI_1: Any = nib.Nifti1Header
NIFTI_2: Any = nib.Nifti2Header

HEADER_BYTES = 540  # of version 2
LEAST_BYTES = 348  # of version 1
FARTHEST_OFFSET = 1 << 40  # bytes, before the voxels
#: Millimetres in NIfTI's spatial units (codes 1 metre, 2 mm, 3 micrometre); 0 is unknown and taken as mm.
UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
UNIT_NAMES = {1: "metres", 3: "micrometres"}

COLOURS = {128: 3, 2304: 4}  # NIfTI's RGB24 and RGBA32 data types -> components


@dataclass(frozen=True)
class Layout:
    """Where the voxels of a NIfTI file are and what they mean."""

    header: Header
    geometry: Geometry
    channels: int
    dtype: np.dtype[np.generic]
    offset: int
    slope: float
    inter: float
    notes: tuple[str, ...]

    @property
    def voxel_bytes(self) -> int:
        """Bytes of all voxels."""
        z, y, x = self.geometry.shape
        return z * y * x * self.channels * self.dtype.itemsize


def parse_header(head: bytes, path: Path) -> Header:
    """nibabel's header of either version, from the first HEADER_BYTES bytes of a file. Raises ReadError."""
    if len(head) < LEAST_BYTES:
        raise ReadError(
            f"has {len(head)} bytes, fewer than the header of a NIfTI file ({LEAST_BYTES})",
            where=path,
            remedy="Copy or download the file again.",
        )
    for kind, size in ((NIFTI_1, LEAST_BYTES), (NIFTI_2, HEADER_BYTES)):
        if len(head) < size:
            continue
        try:
            header = kind(head[:size], check=False)
        except (WrapStructError, HeaderDataError, ValueError):
            continue
        if int(header["sizeof_hdr"]) == size and bytes(header["magic"].item()).startswith((b"n+", b"ni")):
            return header
    raise ReadError(
        "is not a NIfTI file, whatever its name says",
        where=path,
        remedy="Convert it, or remove it from the folder.",
    )


def read_layout(head: bytes, path: Path) -> Layout:
    """The layout of a file, from its first HEADER_BYTES bytes. Raises ReadError."""
    header = parse_header(head, path)
    if bytes(header["magic"].item()).startswith(b"ni"):
        raise ReadError(
            "is the header of a two-file NIfTI image (.hdr and .img)",
            where=path,
            remedy="Convert it to a single .nii.gz file.",
        )
    shape, channels = _grid(header, path)
    matrix, placed, notes = _affine(header, shape, path)
    count = int(header["dim"][0])
    geometry = Geometry(shape=shape, affine=affine_rows(matrix), flat=count == 2, placed=placed)
    notes += _form_notes(header, geometry)
    dtype = _dtype(header, path)
    slope, inter = _scaling(header)
    offset = _offset(header, path)
    return Layout(header, geometry, channels, dtype, offset, slope, inter, notes)


def _offset(header: Header, path: Path) -> int:
    """Where the voxels begin, in bytes; a float in version 1."""
    told = float(header["vox_offset"])
    if not 0 <= told < FARTHEST_OFFSET:  # nor NaN
        raise ReadError(f"its header puts the voxels at byte {told:g}", where=path, remedy="Correct the header.")
    return max(int(told), 544 if isinstance(header, NIFTI_2) else 352)


def colour_components(header: Header) -> int:
    """Components of a colour type (3 or 4); 0 for plain numbers."""
    return COLOURS.get(int(header["datatype"]), 0)


def _grid(header: Header, path: Path) -> tuple[Shape, int]:
    """Shape (Z, Y, X) and number of channels."""
    count = int(header["dim"][0])
    sizes = [int(size) for size in header["dim"][1 : count + 1]] if 1 <= count <= 7 else []
    if len(sizes) < 2 or min(sizes) < 1:
        raise ReadError(f"its header tells of an impossible shape {sizes}", where=path)
    x, y, *more = sizes
    z, *further = more or [1]
    beyond = [size for size in further if size > 1]
    if len(beyond) > 1:
        raise ReadError(
            f"has {count} dimensions {tuple(sizes)}: which of them are channels is unclear",
            where=path,
            remedy="Store at most one dimension beside the three of space.",
        )
    return (z, y, x), (beyond[0] if beyond else 1) * (colour_components(header) or 1)


def _dtype(header: Header, path: Path) -> np.dtype[np.generic]:
    if colour_components(header):
        return np.dtype(np.uint8)
    try:
        dtype: np.dtype[np.generic] = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise ReadError(f"its header names an unknown data type ({error})", where=path) from error
    if dtype.kind not in "iuf":
        raise ReadError(f"holds values of type {dtype}, not plain numbers", where=path, remedy="Convert it to numbers.")
    return dtype


def _scaling(header: Header) -> tuple[float, float]:
    """Slope and intercept; NIfTI's "no scaling" (slope 0 or not finite) becomes 1 and 0."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope) or not np.isfinite(inter):
        return 1.0, 0.0
    return slope, inter


def _affine(header: Header, shape: Shape, path: Path) -> tuple[NDArray[np.float64], bool, tuple[str, ...]]:
    """Affine to RAS+ mm: the sform if it is set and usable, else the qform, else the voxel sizes alone.

    With it whether it tells of a place in space, which voxel sizes alone do not, and notes.
    """
    notes: tuple[str, ...] = ()
    candidates: list[tuple[str, Callable[[Header], NDArray[np.float64] | None]]] = []
    if int(header["sform_code"]) > 0:
        candidates.append(("sform", _sform))
    if int(header["qform_code"]) > 0:
        candidates.append(("qform", _qform))
    candidates.append(("voxel sizes", _base))
    for name, form in candidates:
        found = form(header)
        matrix = None if found is None else _with_slice_axis(found, shape)
        if matrix is not None and spans_space(matrix):
            placed = name != "voxel sizes"
            if not placed:
                notes += ("it has no position in space (no sform, no qform): its axes are taken as R, A, S",)
            in_mm, notes = _in_mm(matrix, header, notes)
            return in_mm, placed, notes
        notes += (f"its {name} is not usable",)
    raise ReadError(
        f"its header gives no usable voxel size (grid {shape[::-1]}, pixdim {header['pixdim'][1:4].tolist()})",
        where=path,
        remedy="Correct the header.",
    )


def _in_mm(
    matrix: NDArray[np.float64], header: Header, notes: tuple[str, ...]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    unit = int(header["xyzt_units"]) & 7
    scale = UNIT_MM.get(unit, 1.0)
    if scale == 1.0:
        return matrix, notes
    scaled = matrix.copy()
    scaled[:3] *= scale
    return scaled, (*notes, f"its unit is {UNIT_NAMES[unit]}: lengths were converted to mm")


def _with_slice_axis(matrix: NDArray[np.float64], shape: Shape) -> NDArray[np.float64]:
    """The affine of a single slice, given a slice axis (1 unit, along the normal) where the header has none."""
    if shape[0] != 1 or np.any(matrix[:3, 2]) or not (np.abs(matrix[:3, :2]) <= VOXEL_EDGES_MM[1]).all():
        return matrix
    completed = matrix.copy()
    normal = np.cross(matrix[:3, 0], matrix[:3, 1])
    completed[:3, 2] = normal / max(float(np.linalg.norm(normal)), 1e-12)
    return completed


def _sform(header: Header) -> NDArray[np.float64]:
    return np.asarray(header.get_sform(), dtype=np.float64)


def _qform(header: Header) -> NDArray[np.float64] | None:
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError):  # a quaternion longer than 1
        return None


def _base(header: Header) -> NDArray[np.float64]:
    return np.diag([*(abs(float(size)) for size in header["pixdim"][1:4]), 1.0])


def _form_notes(header: Header, geometry: Geometry) -> tuple[str, ...]:
    """A note where sform and qform are both set and put the grid elsewhere."""
    if int(header["sform_code"]) <= 0 or int(header["qform_code"]) <= 0:
        return ()
    qform = _qform(header)
    if qform is None or not spans_space(qform):
        return ()
    in_mm, _ = _in_mm(qform, header, ())
    other = geometry.model_copy(update={"affine": affine_rows(in_mm)})
    distance = corner_distance_mm(geometry, other)
    if distance <= 0.5 * smallest_voxel_edge(geometry):
        return ()
    return (f"its sform and qform differ by {distance:.1f} mm: the sform is used",)
