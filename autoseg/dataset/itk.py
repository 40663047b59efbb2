"""MetaImage and NRRD files, through SimpleITK (imported when the first one is met: it takes 0.4 s)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset import voxels
from autoseg.dataset.claims import refuse_impossible, refuse_too_large
from autoseg.dataset.compressed import check_compressed
from autoseg.dataset.geometry import LPS_TO_RAS, affine_rows, skew_notes, spans_space
from autoseg.dataset.voxels import small_integers, to_float32
from autoseg.errors import DatasetError, ReadError
from autoseg.files import disk_full, is_disk_full, why_not_written, written_aside
from autoseg.records import Geometry, LabelMap, Volume

#: Endings of MetaImage, the field in which a header tells its dimensions, how far in it is looked for, and their limit.
META = (".mha", ".mhd")
META_DIMENSIONS, META_HEADER, META_MOST = re.compile(rb"NDims\s*[=:]\s*([-+]?\d+)"), 1 << 16, 10

#: Endings of a format without directions, and of one that has them only with a space, which ITK tells by this name.
WITHOUT_DIRECTIONS = (".gipl", ".gipl.gz")
NRRD, NRRD_SPACE = (".nrrd", ".nhdr"), "NRRD_space"


def read_image(path: Path) -> Volume:
    """Image of one file, (C, Z, Y, X) float32; components or a fourth dimension become channels."""
    stored, geometry = _load(path)
    return Volume(to_float32(stored), geometry, skew_notes(geometry))


def read_labels(path: Path) -> LabelMap:
    """Labels of one file, (Z, Y, X); integers in a small type, floats only where there are fractions."""
    stored, geometry = _load(path)
    if stored.shape[0] != 1:
        raise ReadError(
            f"holds {stored.shape[0]} layers, not one label map",
            where=path,
            remedy="Export it as one label map (in 3D Slicer: a labelmap node, or collapse the segmentation's layers).",
        )
    return LabelMap(small_integers(stored[0]), geometry)


def read_geometry(path: Path) -> tuple[Geometry, int]:
    """Grid and number of channels, from the header alone."""
    reader = _header(path)
    size, components = reader.GetSize(), int(reader.GetNumberOfComponents())
    placed = _is_placed(path, reader)
    geometry = _geometry(size, reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection(), path, placed)
    return geometry, components * (int(size[3]) if len(size) == 4 else 1)


def write_labels(
    path: Path,
    labels: NDArray[np.unsignedinteger],
    geometry: Geometry,
    like: Path | None,
    fields: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write a mask on `geometry`, or on exactly the grid of `like` where that is a file of this family.

    `fields` go into the header of an NRRD file.
    """
    sitk = _simple_itk()
    image = sitk.GetImageFromArray(labels[0] if geometry.flat else labels)
    spacing, origin, direction = _placement(geometry) if like is None else _placement_like(like, geometry)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    for name, value in fields.items():
        image.SetMetaData(name, value)
    with written_aside(path) as aside:
        _write(image, aside, path, labels.nbytes)


def volume_of_image(image: Any) -> Volume:
    """A SimpleITK image in memory as if it had been read from a file."""
    stored, geometry = _content(image, Path("image"))
    return Volume(to_float32(stored), geometry)


def mask_like_image(labels: NDArray[np.integer], image: Any) -> Any:
    """A mask (Z, Y, X) as a SimpleITK image on the grid of another."""
    flat = image.GetDimension() == 2
    mask = _simple_itk().GetImageFromArray(labels[0] if flat else labels)
    count = 2 if flat else 3
    mask.SetSpacing(image.GetSpacing()[:count])
    mask.SetOrigin(image.GetOrigin()[:count])
    dimension = image.GetDimension()
    direction = np.asarray(image.GetDirection()).reshape(dimension, dimension)[:count, :count]
    mask.SetDirection(direction.ravel().tolist())
    return mask


def replace_not_finite(path: Path, out: Path) -> None:
    """Write a copy of an image in which each voxel that is NaN or infinite has the smallest value of its channel.

    Placement, type, fields of the header and all other voxels are the same. Raises ReadError for a file that cannot
    be read or that has a channel without any number.
    """
    sitk = _simple_itk()
    reader = _header(path)
    _check_claims(reader, path)
    image = reader.Execute()
    stored: NDArray[np.generic] = sitk.GetArrayFromImage(image)
    components = image.GetNumberOfComponentsPerPixel() > 1
    channels = np.moveaxis(stored, -1, 0) if components else stored if image.GetDimension() == 4 else stored[None]
    try:
        values = voxels.replace_not_finite(channels)
    except ValueError as error:
        raise ReadError(str(error), where=path) from error
    whole = np.moveaxis(values, 0, -1) if components else values.reshape(stored.shape)
    copy = sitk.GetImageFromArray(whole, isVector=components)
    copy.CopyInformation(image)
    for name in image.GetMetaDataKeys():
        copy.SetMetaData(name, image.GetMetaData(name))
    with written_aside(out) as aside:
        _write(copy, aside, out, values.nbytes)


def refuse_labels(path: Path, labels: NDArray[np.unsignedinteger], geometry: Geometry, like: Path | None) -> None:  # noqa: ARG001
    """Refuse to write a mask as two files, which cannot be put in place at once."""
    raise ReadError("masks are written as one file", where=path, remedy="Name the mask .mha or .nrrd.")


def refuse_gipl(path: Path, labels: NDArray[np.unsignedinteger], geometry: Geometry, like: Path | None) -> None:  # noqa: ARG001
    """Refuse to write a mask as GIPL, which has no place for the directions of the axes."""
    raise ReadError("a GIPL mask would lose its orientation", where=path, remedy="Name the mask .mha or .nii.gz.")


def _simple_itk() -> Any:
    import SimpleITK

    return SimpleITK


# ------------------------------------------------------------------------------------------------------- reading


def _header(path: Path) -> Any:
    sitk = _simple_itk()
    if not path.is_file():
        raise ReadError("does not exist", where=path)
    if path.stat().st_size == 0:
        raise ReadError("is empty (0 bytes)", where=path, remedy="Copy or download the file again.")
    _refuse_dimensions(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    return reader


def _refuse_dimensions(path: Path) -> None:
    """Refuse a MetaImage of fewer dimensions than none, or more than ITK has room for: reading it ends the process."""
    if not path.name.lower().endswith(META):
        return
    with open(path, "rb") as file:
        told = META_DIMENSIONS.findall(file.read(META_HEADER))
    for digits in told:
        if len(digits) > 9 or not 0 <= int(digits) <= META_MOST:
            said = digits[:20].decode("ascii")
            raise ReadError(f"its header tells of {said} dimensions", where=path, remedy="Correct the field NDims.")


def _load(path: Path) -> tuple[NDArray[np.generic], Geometry]:
    """Stored voxels (C, Z, Y, X) and grid."""
    reader = _header(path)
    _check_claims(reader, path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    return _content(image, path)


def _check_claims(reader: Any, path: Path) -> None:
    """Refuse headers that claim more than there can be, and damage: ITK would ask for the memory, and see no damage."""
    voxels = math.prod(reader.GetSize()) * int(reader.GetNumberOfComponents())
    bits = re.search(r"(\d+)-bit", _simple_itk().GetPixelIDValueAsString(reader.GetPixelID()))
    claimed = voxels * (int(bits[1]) // 8 if bits else 1)
    if not path.name.lower().endswith((".mhd", ".nhdr")):  # whose voxels are in another file
        refuse_impossible(path, claimed, path.stat().st_size)
    refuse_too_large(path, voxels)
    check_compressed(path, claimed)


def _content(image: Any, path: Path) -> tuple[NDArray[np.generic], Geometry]:
    """Voxels (C, Z, Y, X) and grid of an image in memory; `path` names it in errors."""
    stored: NDArray[np.generic] = _simple_itk().GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        stored = np.moveaxis(stored, -1, 0)
        if image.GetDimension() == 4:
            raise ReadError("has components and a fourth dimension", where=path, remedy="Store a file per channel.")
    elif image.GetDimension() < 4:
        stored = stored[None]  # (1, ..., Y, X)
    if image.GetDimension() == 2:
        stored = stored[:, None]  # (C, 1, Y, X)
    placed = _is_placed(path, image)
    geometry = _geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection(), path, placed)
    return stored, geometry


def _geometry(
    size: tuple[int, ...],
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
    direction: tuple[float, ...],
    path: Path,
    placed: bool,
) -> Geometry:
    count = len(size)
    if count not in (2, 3, 4):
        raise ReadError(f"has {count} dimensions", where=path, remedy="Two, three, or three and channels can be read.")
    space = min(count, 3)
    cosines = np.asarray(direction, dtype=np.float64).reshape(count, count)[:space, :space]
    matrix = np.eye(4)
    with np.errstate(invalid="ignore"):  # what is no finite number is refused below
        matrix[:space, :space] = cosines * np.asarray(spacing[:space])
    matrix[:space, 3] = origin[:space]
    if not spans_space(matrix):
        raise ReadError(f"its header gives no usable voxel size ({spacing})", where=path, remedy="Correct the header.")
    shape = (int(size[2]) if space == 3 else 1, int(size[1]), int(size[0]))
    return Geometry(shape=shape, affine=affine_rows(LPS_TO_RAS @ matrix), flat=count == 2, placed=placed)


def _is_placed(path: Path, header: Any) -> bool:
    """Whether a file, of which ITK's image or reader is given, says how its axes lie in the body."""
    name = path.name.lower()
    if name.endswith(NRRD):
        return bool(header.HasMetaDataKey(NRRD_SPACE))
    return not name.endswith(WITHOUT_DIRECTIONS)


def _unreadable(path: Path, error: Exception) -> ReadError:
    return ReadError(f"cannot be read ({_reason(error)})", where=path, remedy="Copy or export the file again.")


def _reason(error: Exception) -> str:
    """The last line of ITK's message, which is the one that speaks of the file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("ITK ERROR: ")[:200] if lines else "no reason given"


# ------------------------------------------------------------------------------------------------------- writing


def _write(image: Any, aside: Path, path: Path, size: int) -> None:
    """Write an image of `size` bytes beside its place `path`. Raises DiskFullError, DatasetError."""
    try:
        _simple_itk().WriteImage(image, str(aside), useCompression=True)
    except RuntimeError as error:
        cause = why_not_written(path.parent, size)  # ITK does not tell a full disk from other faults
        if cause is not None and is_disk_full(cause):
            raise disk_full(path, cause=cause) from error
        raise DatasetError(f"it cannot be written ({_reason(error)})", where=path) from error


def _placement(geometry: Geometry) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """ITK's spacing, origin and direction of a grid."""
    count = 2 if geometry.flat else 3
    matrix = (LPS_TO_RAS @ geometry.matrix)[:, [*range(count), 3]]
    sizes = np.linalg.norm(matrix[:3, :count], axis=0)
    cosines = matrix[:count, :count] / sizes
    return tuple(sizes.tolist()), tuple(matrix[:count, count].tolist()), tuple(cosines.ravel().tolist())


def _placement_like(like: Path, geometry: Geometry) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """The same, copied from the header of `like` so that not even rounding changes it."""
    try:
        reader = _header(like)
    except ReadError:
        return _placement(geometry)
    count = 2 if geometry.flat else 3
    if tuple(reader.GetSize()[:count]) != geometry.shape[::-1][:count]:
        return _placement(geometry)
    direction = np.asarray(reader.GetDirection()).reshape(reader.GetDimension(), -1)[:count, :count]
    return tuple(reader.GetSpacing()[:count]), tuple(reader.GetOrigin()[:count]), tuple(direction.ravel().tolist())
