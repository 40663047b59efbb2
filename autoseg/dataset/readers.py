"""The table of file formats, and reading and writing through it.

A new format is one `Reader` in `READERS`. Readers give arrays in the file's own axes (C, Z, Y, X) = (channel, k, j, i)
and a geometry in RAS+ millimetres; turning axes is not their business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset import itk, nifti, pictures
from autoseg.dataset.geometry import DIFFERENT_GRID_VOXELS, SAME_GRID_VOXELS, corner_distance_mm, smallest_voxel_edge
from autoseg.dataset.voxels import smallest_type
from autoseg.errors import DatasetError, ReadError
from autoseg.records import Geometry, LabelMap, Volume


@dataclass(frozen=True)
class Reader:
    """How files of one format are read and masks written."""

    read_image: Callable[[Path], Volume]
    read_labels: Callable[[Path], LabelMap]
    read_geometry: Callable[[Path], tuple[Geometry, int]]
    write_labels: Callable[[Path, NDArray[np.unsignedinteger], Geometry, Path | None], None]
    mask_ending: str | None = (
        None  # ending of masks, where it is not the image's (JPEG loses values, .mhd is two files)
    )


NIFTI = Reader(nifti.read_image, nifti.read_labels, nifti.read_geometry, nifti.write_labels)
ITK = Reader(itk.read_image, itk.read_labels, itk.read_geometry, itk.write_labels)
PICTURE = Reader(pictures.read_image, pictures.read_labels, pictures.read_geometry, pictures.write_labels)
# JPEG changes values, BMP has no room for more than 255: their masks are PNG
LOSSY = Reader(pictures.read_image, pictures.read_labels, pictures.read_geometry, pictures.refuse_labels, ".png")
TIFF = Reader(
    pictures.read_tiff_image, pictures.read_tiff_labels, pictures.read_tiff_geometry, pictures.write_tiff_labels
)

READERS: dict[str, Reader] = {
    ".nii.gz": NIFTI,
    ".nii": NIFTI,
    ".mha": ITK,
    ".mhd": replace(ITK, write_labels=itk.refuse_labels, mask_ending=".mha"),
    ".nrrd": ITK,
    ".nhdr": replace(ITK, write_labels=itk.refuse_labels, mask_ending=".nrrd"),
    ".png": PICTURE,
    ".bmp": LOSSY,
    ".jpg": LOSSY,
    ".jpeg": LOSSY,
    ".tif": TIFF,
    ".tiff": TIFF,
}


def ending_of(path: Path | str) -> str | None:
    """The longest known ending of a file name, in lower case (".nii.gz"), or None."""
    name = (path if isinstance(path, str) else path.name).lower()
    found = [ending for ending in READERS if name.endswith(ending) and len(name) > len(ending)]
    return max(found, key=len, default=None)


def stem_of(path: Path | str) -> str:
    """The file name without its known ending; all of it where the ending is unknown."""
    name = path if isinstance(path, str) else path.name
    ending = ending_of(name)
    return name if ending is None else name[: -len(ending)]


def mask_ending(image: Path) -> str:
    """The ending of a mask for an image file: the same, or a lossless one where the format loses values."""
    ending = ending_of(image)
    if ending is None:
        raise _unknown(image)
    return READERS[ending].mask_ending or ending


def read_image(paths: Sequence[Path]) -> Volume:
    """The image of one case, (C, Z, Y, X) float32: the channels of all its files, in order.

    Raises ReadError for a file that cannot be read, DatasetError where the grids of the files differ by half a voxel
    or more.
    """
    if not paths:
        raise DatasetError("a case without image files")
    volumes = [_reader(path).read_image(path) for path in paths]
    first = volumes[0]
    if len(volumes) == 1:
        return first
    notes = [f"{path.name}: {note}" for path, volume in zip(paths, volumes, strict=True) for note in volume.notes]
    for path, volume in zip(paths[1:], volumes[1:], strict=True):
        notes.extend(_compare(paths[0], first.geometry, path, volume.geometry))
    return Volume(np.concatenate([volume.image for volume in volumes]), first.geometry, tuple(notes))


def read_labels(path: Path) -> LabelMap:
    """The labels of one case, (Z, Y, X), with the file's own values.

    Integers come in the smallest type that holds them, also from a float file with only whole numbers.
    Raises ReadError.
    """
    return _reader(path).read_labels(path)


def read_geometry(path: Path) -> tuple[Geometry, int]:
    """The grid of a file and its number of channels, from the header alone. Raises ReadError."""
    return _reader(path).read_geometry(path)


def write_labels(path: Path, labels: NDArray[np.generic], geometry: Geometry, like: Path | None = None) -> None:
    """Write a mask atomically, in the smallest unsigned type that holds its largest value.

    Args:
        path: the mask; its ending decides the format.
        labels: (Z, Y, X) integers of 0 and above, in the axes of `geometry`.
        geometry: the grid of the mask.
        like: the image it belongs to. With a file of the same family the mask keeps its header's placement exactly
            (NIfTI: affine, sform and qform with their codes, and units).

    Raises ReadError for an ending that cannot hold a mask, DiskFullError where it does not fit.
    """
    if labels.shape != geometry.shape:
        raise ValueError(f"labels of shape {labels.shape} do not fit a grid of {geometry.shape}")
    if labels.dtype.kind not in "biu" or (labels.size and int(labels.min()) < 0):
        raise ValueError(f"labels must be integers of 0 and above, not {labels.dtype}")
    fitting = labels.astype(smallest_type(0, int(labels.max(initial=0))), copy=False)
    _reader(path).write_labels(path, fitting, geometry, like)


def _reader(path: Path) -> Reader:
    ending = ending_of(path)
    if ending is None:
        raise _unknown(path)
    return READERS[ending]


def _unknown(path: Path) -> ReadError:
    return ReadError("has an ending that no reader knows", where=path, remedy=f"Known are {', '.join(READERS)}.")


def _compare(first_path: Path, first: Geometry, path: Path, geometry: Geometry) -> list[str]:
    """Notes on small differences between two channels; raises DatasetError on large ones."""
    remedy = f"Register and resample it to the grid of {first_path.name}."
    if geometry.shape != first.shape:
        what = f"this channel has shape {geometry.shape}, but {first_path.name} has {first.shape}"
        raise DatasetError(what, where=path, remedy=remedy)
    distance, edge = corner_distance_mm(first, geometry), smallest_voxel_edge(first)
    if distance > DIFFERENT_GRID_VOXELS * edge:
        what = f"this channel lies {distance:.1f} mm away from {first_path.name}"
        raise DatasetError(what, where=path, remedy=remedy)
    if distance > SAME_GRID_VOXELS * edge:
        return [f"{path.name} lies {distance:.3f} mm away from {first_path.name}: less than half a voxel, ignored"]
    return []
