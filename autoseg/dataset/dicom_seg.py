"""DICOM segmentations (binary, fractional and label maps): segments as voxels of a grid.

A file holds frames for those slices on which a segment lies, in any order. Each frame tells its place, so frames are
put where they belong in the image's grid, whichever way round they are stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.claims import refuse_too_large
from autoseg.dataset.dicom_files import LABEL_MAP_SEGMENTATION, DicomFile, damaged
from autoseg.dataset.dicom_frames import slices_of
from autoseg.dataset.dicom_pixels import stored_frames
from autoseg.dataset.dicom_slices import Slice
from autoseg.dataset.geometry import LPS_TO_RAS, affine_rows
from autoseg.dataset.voxels import small_integers
from autoseg.errors import ReadError
from autoseg.records import Geometry, LabelMap

#: How far, in voxels, pixels of a frame may lie from voxels of the image.
OFF_GRID = 0.25


def segments(file: DicomFile) -> dict[int, str]:
    """Number and name of each segment but the background of a label map. Raises ReadError."""
    found: dict[int, str] = {}
    for item in file.fields.get("SegmentSequence") or ():
        number = int(item.get("SegmentNumber", 0))
        if number > 0:
            found[number] = str(item.get("SegmentLabel", "")).strip() or f"segment_{number}"
    if not found:
        raise damaged(file.path, "it describes no segment")
    return found


class SegmentReader:
    """The segments of one file on the grid of an image, or on its own."""

    def __init__(self, file: DicomFile, grid: Geometry | None) -> None:
        self.file = file
        self.names = segments(file)
        self._slices = slices_of(file)
        self.geometry = own_grid(self._slices, file) if grid is None else grid
        refuse_too_large(file.path, int(np.prod(self.geometry.shape)))
        self._frames = _inside(file, stored_frames(file))
        self._numbers = _segment_of_frame(file)
        self._inverse = np.linalg.inv(self.geometry.matrix)

    def read(self, numbers: list[int]) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
        """Voxels (Z, Y, X) of these segments together."""
        inside = np.zeros(self.geometry.shape, dtype=np.bool_)
        for number, one in enumerate(self._slices):
            if self._numbers is not None and self._numbers[number] not in numbers:
                continue
            frame = self._frames[number]
            drawn = np.isin(frame, numbers) if self._numbers is None else frame > 0
            rows, columns = np.nonzero(drawn)
            if rows.size:
                inside[self._places(one, rows, columns)] = True
        return inside, ()

    def _places(self, one: Slice, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> tuple[NDArray[np.intp], ...]:
        """Indices (k, j, i) in the grid of pixels of a frame."""
        steps = np.stack([np.asarray(one.rows_along) * one.pixel[1], np.asarray(one.columns_along) * one.pixel[0]])
        world = np.asarray(one.position) + np.stack([columns, rows], axis=1) @ steps  # LPS
        ras = world * np.diag(LPS_TO_RAS)[:3]
        exact = ras @ self._inverse[:3, :3].T + self._inverse[:3, 3]
        nearest = np.rint(exact)
        if np.abs(exact - nearest).max() > OFF_GRID:
            raise ReadError(
                "its frames lie on another grid than the image",
                where=self.file.path,
                remedy="Resample the segmentation to the grid of the image it belongs to.",
            )
        found = nearest[:, ::-1].astype(np.intp)
        if (found < 0).any() or (found >= self.geometry.shape).any():
            raise ReadError("has voxels outside the image", where=self.file.path, remedy="Is it of another series?")
        return found[:, 0], found[:, 1], found[:, 2]


def own_label_map(file: DicomFile) -> LabelMap:
    """All segments on the file's own grid, with their numbers as values. Raises ReadError where they overlap."""
    reader = SegmentReader(file, None)
    labels = np.zeros(reader.geometry.shape, dtype=np.uint16)
    for number, name in reader.names.items():
        inside, _ = reader.read([number])
        if labels[inside].any():
            other = reader.names[int(labels[inside].max())]
            raise ReadError(
                f"its segments {other} and {name} overlap, so it is no single label map",
                where=file.path,
                remedy="Keep it beside its series: in a dataset, labels may overlap.",
            )
        labels[inside] = number
    return LabelMap(small_integers(labels), reader.geometry)


def own_grid(slices: list[Slice], file: DicomFile) -> Geometry:
    """The grid that the frames of a file lie on; slices between them may have no frame."""
    first = slices[0]
    row, column = np.asarray(first.rows_along), np.asarray(first.columns_along)
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    positions = np.array([one.position for one in slices])
    order = np.argsort(positions @ normal, kind="stable")
    heights = (positions @ normal)[order]
    apart = np.diff(heights)
    apart = apart[apart > 1e-3]
    spacing = float(apart.min()) if apart.size else first.thickness or 1.0
    if first.thickness and np.abs(apart / first.thickness - np.rint(apart / first.thickness)).max(initial=0) < 0.05:
        spacing = first.thickness  # slices without a frame lie between
    count = round((heights[-1] - heights[0]) / spacing)
    off = (heights - heights[0]) / spacing
    if np.abs(off - np.rint(off)).max() > OFF_GRID:
        raise damaged(file.path, "its frames are not equally far apart")
    step = (positions[order[-1]] - positions[order[0]]) / count if count else normal * spacing
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = row * first.pixel[1], column * first.pixel[0], step
    matrix[:3, 3] = positions[order[0]]
    return Geometry(shape=(count + 1, *first.size), affine=affine_rows(LPS_TO_RAS @ matrix))


def _inside(file: DicomFile, frames: NDArray[np.generic]) -> NDArray[np.generic]:
    """Frames with 0 outside: more than half of the largest value is inside where shares are stored."""
    if str(file.fields.get("SegmentationType", "BINARY")) != "FRACTIONAL":
        return frames
    largest = int(file.fields.get("MaximumFractionalValue") or 255)
    return np.asarray(frames.astype(np.float32) > largest / 2)


def _segment_of_frame(file: DicomFile) -> list[int] | None:
    """The segment that each frame shows; None in a label map, whose pixels tell."""
    if file.sop_class == LABEL_MAP_SEGMENTATION or str(file.fields.get("SegmentationType", "")) == "LABELMAP":
        return None
    shared = list(file.fields.get("SharedFunctionalGroupsSequence") or [])[:1]
    return [_segment(file, [group, *shared]) for group in file.fields.PerFrameFunctionalGroupsSequence]


def _segment(file: DicomFile, groups: list[Any]) -> int:
    for group in groups:
        items = group.get("SegmentIdentificationSequence")
        if items:
            return int(items[0].get("ReferencedSegmentNumber", 0))
    raise damaged(file.path, "a frame does not tell its segment")
