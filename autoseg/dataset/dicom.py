"""DICOM series as images: found by their UID, ordered by where their slices lie, in the units of their modality.

The path of a series is a folder that holds one series, or any file of a series: then all files of that folder with
the same SeriesInstanceUID belong to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.claims import refuse_too_large
from autoseg.dataset.dicom_files import DicomFile, is_dicom, read_file
from autoseg.dataset.dicom_frames import has_places, slices_of, vector
from autoseg.dataset.dicom_labels import own_label_map
from autoseg.dataset.dicom_pixels import stored_frames
from autoseg.dataset.dicom_settings import own_settings
from autoseg.dataset.dicom_slices import Slice, Stack, stack
from autoseg.dataset.listing import visible_files, visible_folders
from autoseg.dataset.voxels import to_float32
from autoseg.errors import ReadError
from autoseg.records import Geometry, LabelMap, Volume

#: Endings that no DICOM file has: folders of many such files are not opened one by one.
OTHER_FILES = (".gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".jpg", ".tif", ".tiff", ".json", ".txt", ".csv", ".tsv")

#: Said of X-rays that store bright as dark.
INVERTED = "stored with black and white exchanged (MONOCHROME1): turned so that larger values are brighter"


def holds_dicom(folder: Path) -> bool:
    """Whether DICOM files of any kind lie directly in a folder."""
    return folder.is_dir() and any(_may_be_dicom(path) for path in visible_files(folder))


def is_series_folder(folder: Path) -> bool:
    """Whether DICOM images lie directly in a folder; a file that cannot be parsed may be one."""
    return folder.is_dir() and any(_may_be_image(path) for path in visible_files(folder) if _may_be_dicom(path))


def _may_be_image(path: Path) -> bool:
    try:
        return read_file(path).is_image
    except ReadError:
        return True


@dataclass(frozen=True)
class Found:
    """A series, or an object with labels, found in a folder."""

    path: Path  # for the readers: the folder where the series is alone in it, else its first file
    folder: Path
    series: str  # its UID
    modality: str
    files: int
    labels: bool  # whether it holds labels instead of intensities
    localizer: bool  # whether it has nothing but scouts


def find_series(root: Path, above: tuple[Path, ...] = ()) -> list[Found]:
    """All series of images and objects with labels in a folder and the folders in it, by folder and file name.

    `above` are the folders that it lies in: a link back to one of them is not followed.
    """
    found: list[Found] = []
    files, broken = [], False
    for path in visible_files(root):
        try:
            files += [read_file(path)] if _may_be_dicom(path) else []
        except ReadError:
            broken = True  # it is named when the folder is read
    if broken and not files:
        found.append(Found(root, root, "", "?", 0, labels=False, localizer=False))
    images: dict[str, list[DicomFile]] = {}
    for file in files:
        if file.is_labels:
            found.append(Found(file.path, root, file.series, file.modality, 1, labels=True, localizer=False))
        elif file.is_image:
            images.setdefault(file.series, []).append(file)
    scans = [uid for uid, members in images.items() if not all(file.is_localizer for file in members)]
    for uid, members in images.items():
        path = root if [uid] == (scans or list(images)) else members[0].path
        only_scouts = uid not in scans
        found.append(Found(path, root, uid, members[0].modality, len(members), labels=False, localizer=only_scouts))
    for folder in visible_folders(root):
        if folder.resolve() not in above:
            found += find_series(folder, (*above, root.resolve()))
    return found


def _may_be_dicom(path: Path) -> bool:
    # the index of a medium is DICOM too, but describes other files
    return path.name.upper() != "DICOMDIR" and path.suffix.lower() not in OTHER_FILES and is_dicom(path)


@dataclass(frozen=True)
class Series:
    """The files of one series, without its scouts."""

    files: tuple[DicomFile, ...]
    localizers: int = 0  # left out


def series_at(path: Path) -> Series:
    """The series at a path. Raises ReadError where there is none, or several to choose from."""
    if path.is_dir():
        files = [read_file(one) for one in visible_files(path) if _may_be_dicom(one)]
        images = [file for file in files if file.is_image]
        if not images:
            kinds = ", ".join(sorted({file.modality or "?" for file in files})) or "no DICOM file"
            raise ReadError(f"holds no series of images ({kinds})", where=path)
        found = {file.series for file in images if not file.is_localizer} or {file.series for file in images}
        if len(found) > 1:
            raise ReadError(
                f"holds {len(found)} series", where=path, remedy="Name a file of the one that is meant, or sort them."
            )
        (series,) = found
    else:
        first = read_file(path)
        if not first.is_image:
            raise ReadError(f"holds no image ({first.modality or 'unknown'})", where=path)
        series = first.series
        images = [read_file(one) for one in visible_files(path.parent) if _may_be_dicom(one)]
    chosen = [file for file in images if file.is_image and file.series == series]
    scan = [file for file in chosen if not file.is_localizer]
    return Series(tuple(scan or chosen), len(chosen) - len(scan) if scan else 0)


def series_stack(path: Path) -> Stack:
    """The slices of a series in order, and their grid. Raises ReadError."""
    return _stack(series_at(path), path)


def files_of(path: Path) -> tuple[Path, ...]:
    """The files on which the image at a path depends, without opening them."""
    return tuple(visible_files(path if path.is_dir() else path.parent))


def read_geometry(path: Path) -> tuple[Geometry, int]:
    """Grid and number of channels, from the headers alone."""
    series = series_at(path)
    channels = _channels(series.files[0])
    if _is_flat(series):
        return _flat(series.files[0])[0], channels
    return _stack(series, path).geometry, channels


def read_image(path: Path) -> Volume:
    """The image of a series, (C, Z, Y, X) float32, rescaled (to Hounsfield units in CT) slice by slice."""
    series = series_at(path)
    if _is_flat(series):
        return _read_flat(series.files[0])
    found = _stack(series, path)
    shape = (_channels(series.files[0]), *found.geometry.shape)
    refuse_too_large(path, math.prod(shape))
    image = np.empty(shape, dtype=np.float32)
    by_file: dict[Path, list[tuple[int, Slice]]] = {}
    for number, one in enumerate(found.slices):
        by_file.setdefault(one.file, []).append((number, one))
    inverted = False
    for file, wanted in by_file.items():
        whole = read_file(file, pixels=True)
        frames, turned = _upright(whole, stored_frames(whole))
        inverted |= turned
        for number, one in wanted:
            stored = frames[one.frame]
            stored = stored[None] if stored.ndim == 2 else np.moveaxis(stored, -1, 0)
            image[:, number] = to_float32(stored[:, None], one.slope, one.intercept)[:, 0]
    notes = [*found.notes, *([INVERTED] if inverted else [])]
    if series.localizers:
        notes.append(f"{series.localizers} localizer images (scouts) are left out")
    return Volume(image, found.geometry, tuple(notes))


def read_labels(path: Path) -> LabelMap:
    """The labels of a DICOM-SEG file on its own grid, (Z, Y, X): its segment numbers. Raises ReadError."""
    return own_label_map(path)


def refuse_labels(path: Path, labels: NDArray[np.unsignedinteger], geometry: Geometry, like: Path | None) -> None:  # noqa: ARG001
    """Refuse to write a mask as plain DICOM: a DICOM-SEG needs its series and label names."""
    raise ReadError("a mask cannot be written as DICOM here", where=path, remedy="Name the mask .nii.gz.")


# -------------------------------------------------------------------------------------------------------- pieces


def _channels(file: DicomFile) -> int:
    return int(file.fields.get("SamplesPerPixel") or 1)


def _is_flat(series: Series) -> bool:
    return len(series.files) == 1 and not has_places(series.files[0])


@own_settings()
def _stack(series: Series, path: Path) -> Stack:
    return stack([one for file in series.files for one in slices_of(file)], path, _same_pixels)


def _upright(file: DicomFile, frames: NDArray[np.generic]) -> tuple[NDArray[np.generic], bool]:
    """Frames in which larger means brighter."""
    if str(file.fields.get("PhotometricInterpretation", "")) != "MONOCHROME1":
        return frames, False
    top = (1 << int(file.fields.get("BitsStored") or 8)) - 1
    if int(file.fields.get("PixelRepresentation") or 0):
        top = -1  # of two's complement: the smallest becomes the largest
    return np.asarray(top - frames.astype(np.int64)), True


def _same_pixels(a: Slice, b: Slice) -> bool:
    if (a.slope, a.intercept) != (b.slope, b.intercept):
        return False
    first, second = (stored_frames(read_file(one.file, pixels=True))[one.frame] for one in (a, b))
    return bool(np.array_equal(first, second))


def _flat(file: DicomFile) -> tuple[Geometry, tuple[str, ...]]:
    """The grid of a single image without a place in the patient."""
    if file.frames > 1:
        raise ReadError(
            f"holds {file.frames} frames, but not where each of them lies",
            where=file.path,
            remedy="Convert it to a stack of images first.",
        )
    fields = file.fields
    pixel = vector(fields.get("PixelSpacing"), 2) or vector(fields.get("ImagerPixelSpacing"), 2)
    usable = len(pixel) == 2 and min(pixel) > 0 and bool(np.isfinite(pixel).all())
    row, column = pixel if usable else (1.0, 1.0)
    affine = ((column, 0.0, 0.0, 0.0), (0.0, row, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    geometry = Geometry(shape=(1, int(fields.Rows), int(fields.Columns)), affine=affine, flat=True)
    return geometry, () if usable else ("it tells no pixel size: 1 mm is assumed",)


def _read_flat(file: DicomFile) -> Volume:
    geometry, notes = _flat(file)
    refuse_too_large(file.path, _channels(file) * math.prod(geometry.shape))
    whole = read_file(file.path, pixels=True)
    frames, turned = _upright(whole, stored_frames(whole))
    stored = frames if frames.ndim == 3 else np.moveaxis(frames[0], -1, 0)
    slope, intercept = (whole.fields.get(name) for name in ("RescaleSlope", "RescaleIntercept"))
    image = to_float32(stored[:, None], float(1 if slope is None else slope), float(intercept or 0))
    return Volume(image, geometry, (*notes, *((INVERTED,) if turned else ())))
