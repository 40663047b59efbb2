"""TIFF files: pictures, and stacks of slices, which are volumes.

A picture is one plane with pixels of 1 mm, as PNG is; a stack has the voxel size that is told (`tiff_spacing`), else
1 mm. tifffile is imported when the first such file is met.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset import voxels
from autoseg.dataset.claims import TIFF_RATIO, refuse_impossible, refuse_too_large
from autoseg.dataset.pictures import ALPHA_NOTE, DECODING_ERRORS, IDENTITY, flat_geometry, one_of, unreadable
from autoseg.dataset.tiff_spacing import spacing_file, stack_spacing
from autoseg.dataset.voxels import small_integers, to_float32
from autoseg.errors import ReadError
from autoseg.files import written_aside
from autoseg.records import Geometry, LabelMap, Volume


def read_image(path: Path) -> Volume:
    """Image of one TIFF, (C, Z, Y, X) float32; pages are slices, colours channels."""
    stored, geometry, notes = _load(path)
    return Volume(to_float32(stored), geometry, notes)


def read_labels(path: Path) -> LabelMap:
    """Labels of one TIFF, (Z, Y, X)."""
    stored, geometry, notes = _load(path)
    if stored.shape[0] > 1:
        stored = one_of(np.moveaxis(stored, 0, -1), path)[None]
    return LabelMap(small_integers(stored[0]), geometry, notes)


def read_geometry(path: Path) -> tuple[Geometry, int]:
    """Grid and number of channels, from the header alone."""
    with _opened(path) as file:
        shape, axes = _axes(file, path)
        sizes = dict(zip(axes, shape, strict=True))
        return _grid(sizes, path, file)[0], sizes.get("C", 1) - _has_alpha(file)


def decoded_bytes(path: Path) -> int:
    """Bytes that the numbers of a TIFF take until they are numbers of an image, from the header alone.

    Of a float, which can be NaN, the image is copied where one has to be replaced.
    """
    with _opened(path) as file:
        shape, _ = _axes(file, path)
        stored: np.dtype[np.generic] = np.dtype(file.series[0].dtype)
        return math.prod(shape) * max(stored.itemsize, 4 if stored.kind == "f" else 1)


def tells_grid(path: Path) -> bool:
    """Whether a TIFF tells its voxel size; a picture is no volume, and has pixels of 1 mm whatever it tells."""
    with _opened(path) as file:
        return "Z" not in _axes(file, path)[1] or stack_spacing(path, file)[0] is not None


def files_beside(path: Path) -> tuple[Path, ...]:
    """The file with the voxel size of a TIFF, if there is one."""
    beside = spacing_file(path)
    return () if beside is None else (beside,)


def write_labels(path: Path, labels: NDArray[np.unsignedinteger], geometry: Geometry, like: Path | None) -> None:  # noqa: ARG001
    """Write a mask as TIFF, one page per slice, losslessly compressed; OME-XML tells the voxel size, if any did."""
    import tifffile

    told = not geometry.flat and geometry.affine != IDENTITY
    with written_aside(path) as aside:
        tifffile.imwrite(
            aside,
            labels[0] if geometry.flat else labels,
            compression="zlib",
            photometric="minisblack",
            ome=told,
            metadata=_ome(labels, geometry) if told else None,
        )


def _ome(labels: NDArray[np.unsignedinteger], geometry: Geometry) -> dict[str, Any]:
    """What OME-XML is to say. Its identifier follows from the labels, so that equal masks are equal files."""
    sizes = {
        f"PhysicalSize{axis}{end}": value
        for axis, size in zip("ZYX", geometry.spacing, strict=True)
        for end, value in (("", size), ("Unit", "mm"))
    }
    content = hashlib.sha256(np.ascontiguousarray(labels).data).hexdigest()
    return {"axes": "ZYX", "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, content)), **sizes}


def replace_not_finite(path: Path, out: Path) -> None:
    """Write a copy of a TIFF in which each voxel that is NaN or infinite has the smallest value of its channel.

    Every other byte is the same, since only those voxels are written over in the copy. Raises ReadError for a file
    that cannot be read, is compressed, or has a channel without any number.
    """
    import tifffile

    stored = _load(path)[0]
    try:
        values = voxels.replace_not_finite(stored)
    except ValueError as error:
        raise ReadError(str(error), where=path) from error
    with written_aside(out) as aside:
        shutil.copyfile(path, aside)
        with _opened(path) as file:
            axes = _axes(file, path)[1]
        try:
            held = tifffile.memmap(aside, mode="r+", series=0)
        except ValueError as error:  # pages that are compressed, or not in one piece
            raise ReadError("compressed TIFFs are not written again", where=path) from error
        absent = tuple(place for place, axis in enumerate("CZYX") if axis not in axes)
        kept = "".join(axis for axis in "CZYX" if axis in axes)
        changed = np.transpose(values.squeeze(axis=absent), [kept.index(axis) for axis in axes])
        held[...] = changed.reshape(held.shape)
        held.flush()
        del held


def _opened(path: Path) -> Any:
    import tifffile

    if not path.is_file():
        raise ReadError("does not exist", where=path)
    try:
        return tifffile.TiffFile(path)
    except (tifffile.TiffFileError, *DECODING_ERRORS) as error:
        raise unreadable(path, error) from error


def _axes(file: Any, path: Path) -> tuple[tuple[int, ...], str]:
    """Shape of the first series and its axes as letters of Z, Y, X and C, each at most once."""
    try:
        series = file.series[0]
    except DECODING_ERRORS as error:
        raise unreadable(path, error) from error
    kept = [(size, axis) for size, axis in zip(series.shape, series.axes, strict=True) if size > 1 or axis in "YX"]
    # tifffile: S samples, C channels; Q other, I image sequence, T time and Z depth are slices
    axes = "".join({"S": "C", "Q": "Z", "I": "Z", "T": "Z"}.get(axis, axis) for _, axis in kept)
    if sorted(axes) not in (sorted("YX"), sorted("YXC"), sorted("YXZ"), sorted("YXZC")):
        raise ReadError(f"has axes {series.axes} of {series.shape}, which cannot be told apart", where=path)
    return tuple(int(size) for size, _ in kept), axes


def _grid(sizes: dict[str, int], path: Path, file: Any) -> tuple[Geometry, tuple[str, ...]]:
    """The grid of a picture or a stack, and a note where a size had to be assumed."""
    if "Z" not in sizes:
        return flat_geometry(sizes["Y"], sizes["X"]), ()
    told, note = stack_spacing(path, file)
    z, y, x = told or (1.0, 1.0, 1.0)
    affine = ((x, 0.0, 0.0, 0.0), (0.0, y, 0.0, 0.0), (0.0, 0.0, z, 0.0), (0.0, 0.0, 0.0, 1.0))
    geometry = Geometry(shape=(sizes["Z"], sizes["Y"], sizes["X"]), affine=affine, placed=False)
    return geometry, () if note is None else (note,)


def _load(path: Path) -> tuple[NDArray[np.generic], Geometry, tuple[str, ...]]:
    """Stored voxels (C, Z, Y, X), grid, and notes on it."""
    with _opened(path) as file:
        shape, axes = _axes(file, path)
        refuse_impossible(path, math.prod(shape) * file.series[0].dtype.itemsize, path.stat().st_size, TIFF_RATIO)
        refuse_too_large(path, math.prod(shape))
        geometry, notes = _grid(dict(zip(axes, shape, strict=True)), path, file)
        alpha = _has_alpha(file)
        try:
            stored = np.asarray(file.asarray(series=0)).reshape(shape)
        except DECODING_ERRORS as error:
            raise unreadable(path, error) from error
    if stored.dtype.kind not in "biuf":
        raise ReadError(f"holds values of type {stored.dtype}, not plain numbers", where=path)
    for axis in "ZC":
        if axis not in axes:
            stored, axes = stored[None], axis + axes
    stored = np.transpose(stored, [axes.index(axis) for axis in "CZYX"])
    if not alpha:
        return stored, geometry, notes
    hidden = stored[-1].min() < (np.iinfo(stored.dtype).max if stored.dtype.kind in "iu" else 1)
    return stored[:-1], geometry, (*notes, ALPHA_NOTE) if hidden else notes


def _has_alpha(file: Any) -> bool:
    """Whether the last of its colours tells how a picture is shown, and nothing that was measured (as in PNG)."""
    page = file.series[0].keyframe
    return page.samplesperpixel > 1 and tuple(page.extrasamples)[-1:] in ((1,), (2,))
