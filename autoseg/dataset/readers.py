"""The table of file formats, and reading and writing through it.

A new format is one `Reader` in `READERS`. Readers give arrays in the file's own axes (C, Z, Y, X) = (channel, k, j, i)
and a geometry in RAS+ millimetres; turning axes is not their business.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset import dicom, dicom_labels, itk, nifti, pictures, tiff
from autoseg.dataset.dicom_files import is_dicom
from autoseg.dataset.geometry import DIFFERENT_GRID_VOXELS, SAME_GRID_VOXELS, corner_distance_mm, smallest_voxel_edge
from autoseg.dataset.tiff_spacing import UNTOLD_NOTE
from autoseg.dataset.voxels import smallest_type
from autoseg.errors import DatasetError, ReadError
from autoseg.records import Case, Geometry, LabelMap, Volume


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
    parts_of_images: bool = False  # whether a file is a part of an image, as a slice of a DICOM series is
    read_named: ReadNamed | None = None  # for files that hold several named labels
    # (file, copy): an image without NaN and infinite voxels, where the format can be written again without loss
    replace_not_finite: Callable[[Path, Path], None] | None = None
    tells_grid: Callable[[Path], bool] | None = None  # whether a file tells its voxel size; None: all do
    beside: Callable[[Path], tuple[Path, ...]] | None = None  # other files that tell of one
    # bytes that a file's numbers take until they are an image's, from the header; None: eight a number
    decoded_bytes: Callable[[Path], int] | None = None


#: (file, names of labels in it, grid of the image or None) -> each name with its binary label map.
ReadNamed = Callable[[Path, Sequence[str], Geometry | None], Iterator[tuple[str, LabelMap]]]

NIFTI = Reader(
    nifti.read_image,
    nifti.read_labels,
    nifti.read_geometry,
    nifti.write_labels,
    replace_not_finite=nifti.replace_not_finite,
)
ITK = Reader(
    itk.read_image,
    itk.read_labels,
    itk.read_geometry,
    itk.write_labels,
    replace_not_finite=itk.replace_not_finite,
)
# a header whose voxels lie in another file: two files cannot be put in place at once
ITK_HEADER = replace(ITK, write_labels=itk.refuse_labels, replace_not_finite=None)
PICTURE = Reader(
    pictures.read_image,
    pictures.read_labels,
    pictures.read_geometry,
    pictures.write_labels,
    decoded_bytes=pictures.decoded_bytes,
)
# JPEG changes values, BMP has no room for more than 255: their masks are PNG
LOSSY = replace(PICTURE, write_labels=pictures.refuse_labels, mask_ending=".png")
TIFF = Reader(
    tiff.read_image,
    tiff.read_labels,
    tiff.read_geometry,
    tiff.write_labels,
    replace_not_finite=tiff.replace_not_finite,
    tells_grid=tiff.tells_grid,
    beside=tiff.files_beside,
    decoded_bytes=tiff.decoded_bytes,
)

#: A path of this kind is a folder with a series, or any file of a series.
DICOM = Reader(
    dicom.read_image,
    dicom.read_labels,
    dicom.read_geometry,
    dicom.refuse_labels,
    ".nii.gz",
    parts_of_images=True,
    read_named=dicom_labels.read_named,
)

READERS: dict[str, Reader] = {
    ".nii.gz": NIFTI,
    ".nii": NIFTI,
    ".mha": ITK,
    ".mhd": replace(ITK_HEADER, mask_ending=".mha"),
    ".nrrd": ITK,
    ".nhdr": replace(ITK_HEADER, mask_ending=".nrrd"),
    ".seg.nrrd": ITK,  # 3D Slicer's name for label maps
    # GIPL has no directions, so masks go where they have
    ".gipl": replace(ITK, write_labels=itk.refuse_gipl, mask_ending=".mha"),
    ".gipl.gz": replace(ITK, write_labels=itk.refuse_gipl, mask_ending=".mha"),
    ".png": PICTURE,
    ".bmp": LOSSY,
    ".jpg": LOSSY,
    ".jpeg": LOSSY,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".dcm": DICOM,
    ".ima": DICOM,
    ".seg.dcm": DICOM,  # masks of ours
    ".rtstruct.dcm": DICOM,
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
    return reader_of(image).mask_ending or ending_of(image) or ""


def read_image(paths: Sequence[Path]) -> Volume:
    """The image of one case, (C, Z, Y, X) float32: the channels of all its files, in order.

    Raises ReadError for a file that cannot be read, DatasetError where the grids of the files differ by half a voxel
    or more.
    """
    if not paths:
        raise DatasetError("a case without image files")
    volumes = [reader_of(path).read_image(path) for path in paths]
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
    return reader_of(path).read_labels(path)


def read_geometry(path: Path) -> tuple[Geometry, int]:
    """The grid of a file and its number of channels, from the header alone. Raises ReadError."""
    return reader_of(path).read_geometry(path)


def decoded_bytes(paths: Sequence[Path]) -> int | None:
    """Bytes that an image's numbers take beside the image while it is read; None where its header does not tell.

    Raises ReadError.
    """
    if len(paths) != 1:  # images of one channel each, which are joined
        return None
    tell = reader_of(paths[0]).decoded_bytes
    return None if tell is None else tell(paths[0])


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
    reader_of(path).write_labels(path, fitting_type(labels), geometry, like)


def replace_not_finite(path: Path, out: Path) -> None:
    """Write a copy of an image in which each voxel that is NaN or infinite has the smallest value of its channel.

    Raises ReadError for a format that is not written again, or a channel without any number.
    """
    reader = reader_of(path)
    if reader.replace_not_finite is None:
        raise ReadError("images of this format are not written again", where=path)
    reader.replace_not_finite(path, out)


def fitting_type(labels: NDArray[np.generic]) -> NDArray[np.unsignedinteger]:
    """Labels in the smallest unsigned type that holds the largest."""
    if labels.dtype.kind not in "biu" or (labels.size and int(labels.min()) < 0):
        raise ValueError(f"labels must be integers of 0 and above, not {labels.dtype}")
    return labels.astype(smallest_type(0, int(labels.max(initial=0))), copy=False)


def reader_of(path: Path) -> Reader:
    """The reader for a path: by its ending, or DICOM's for folders and for files that are DICOM whatever their name.

    Raises ReadError.
    """
    ending = ending_of(path)
    if ending is not None and not path.is_dir():
        return READERS[ending]
    if path.is_dir() or is_dicom(path):
        return DICOM
    raise ReadError("has an ending that no reader knows", where=path, remedy=f"Known are {', '.join(READERS)}.")


def is_series(path: Path) -> bool:
    """Whether an image is a DICOM series: a folder, or a file of it."""
    return path.is_dir() or is_part_of_image(path)


def is_part_of_image(path: Path) -> bool:
    """Whether a file is one of those that make an image, as a slice of a DICOM series is."""
    ending = ending_of(path)
    return READERS[ending].parts_of_images if ending is not None else path.is_file() and is_dicom(path)


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that the image or labels at a path are made of: all of the folder, for a DICOM series."""
    reader = reader_of(path)
    if path.is_dir() or reader.parts_of_images:
        return dicom.files_of(path)
    return (path,) if reader.beside is None else (path, *reader.beside(path))


def image_of(case: Case) -> Path | None:
    """What the labels of a case were drawn on; references to score against come without."""
    return case.images[0] if case.images else None


def read_labels_on(path: Path, image: Path | None) -> LabelMap:
    """The labels of one file; where it tells no voxel size, they lie on the grid of the image, if the shapes agree."""
    found = read_labels(path)
    return found if image is None or tells_grid(path) else on_grid(found, read_geometry(image)[0])


def tells_grid(path: Path) -> bool:
    """Whether a file tells its voxel size, as all formats do but TIFF."""
    told = reader_of(path).tells_grid
    return told is None or told(path)


def on_grid(label_map: LabelMap, geometry: Geometry) -> LabelMap:
    """The labels of a file that tells no voxel size on the grid of another; as they are where the shapes differ."""
    if label_map.geometry.shape != geometry.shape:
        return label_map
    return replace(label_map, geometry=geometry, notes=tuple(note for note in label_map.notes if note != UNTOLD_NOTE))


def read_named_labels(
    files: Sequence[tuple[str, Path]], image: Path | None = None
) -> Iterator[tuple[str, Path, LabelMap]]:
    """Each of (label name, file) with its voxels, one at a time; `image` is the image that they were drawn on.

    In files of most formats all values above 0 mean the label. Raises ReadError.
    """
    for path, group in itertools.groupby(files, key=lambda entry: entry[1]):
        names, reader = [name for name, _ in group], reader_of(path)
        if reader.read_named is None:
            yield from ((name, path, read_labels_on(path, image)) for name in names)
        else:
            grid = None if image is None else read_geometry(image)[0]
            yield from ((name, path, found) for name, found in reader.read_named(path, names, grid))


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
