"""RTSTRUCT files: contours in the planes of an image as voxels of its grid.

A voxel is inside where its centre is inside of an odd number of contours of the region in its slice. So holes come out
however they were drawn: as contours of their own, or through a keyhole (a channel without width).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.claims import refuse_too_large
from autoseg.dataset.dicom_files import DicomFile, damaged
from autoseg.dataset.geometry import LPS_TO_RAS
from autoseg.errors import ReadError
from autoseg.records import Geometry

#: Contours that enclose an area; points and open lines do not.
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")

#: How far, in slices, a contour may lie from the centre of its slice, and its points from one plane.
OFF_SLICE, OFF_PLANE = 0.4, 0.25


def regions(file: DicomFile) -> dict[int, str]:
    """Number and name of each region of interest. Raises ReadError where there is none."""
    found: dict[int, str] = {}
    for item in file.fields.get("StructureSetROISequence") or ():
        number = int(item.get("ROINumber", 0))
        found[number] = str(item.get("ROIName", "")).strip() or f"region_{number}"
    if not found:
        raise ReadError("holds no region of interest", where=file.path)
    drawn = {
        int(item.get("ReferencedROINumber", 0))
        for item in file.fields.get("ROIContourSequence") or ()
        if item.get("ContourSequence")
    }
    return {number: name for number, name in found.items() if number in drawn}


class RegionReader:
    """The regions of one file on the grid of the image that they were drawn on."""

    def __init__(self, file: DicomFile, grid: Geometry) -> None:
        self.file = file
        self.geometry = grid
        refuse_too_large(file.path, int(np.prod(grid.shape)))
        self.names = regions(file)
        self._to_indices = np.linalg.inv(grid.matrix) @ LPS_TO_RAS

    def read(self, numbers: list[int]) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
        """Voxels (Z, Y, X) of these regions together, and notes on contours that were left out."""
        inside = np.zeros(self.geometry.shape, dtype=np.bool_)
        outside = other = 0
        for number in numbers:
            planes: dict[int, list[NDArray[np.float64]]] = {}
            for kind, points in self._contours(number):
                if kind not in CLOSED:
                    other += 1
                    continue
                plane, polygon = self._in_plane(points)
                if 0 <= plane < self.geometry.shape[0]:
                    planes.setdefault(plane, []).append(polygon)
                else:
                    outside += 1
            for plane, polygons in planes.items():
                inside[plane] |= fill(polygons, (self.geometry.shape[1], self.geometry.shape[2]))
        notes = []
        if outside:
            notes.append(f"{outside} contours lie above or below the image: left out")
        if other:
            notes.append(f"{other} contours are points or open lines, which enclose nothing: left out")
        return inside, tuple(notes)

    def _contours(self, number: int) -> list[tuple[str, NDArray[np.float64]]]:
        """Kind and points (N, 3) in LPS mm of the contours of a region."""
        found = []
        for item in self.file.fields.get("ROIContourSequence") or ():
            if int(item.get("ReferencedROINumber", 0)) != number:
                continue
            for contour in item.get("ContourSequence") or ():
                values = _numbers(contour)
                if values is None or values.size % 3 or not np.isfinite(values).all():
                    raise damaged(self.file.path, f"a contour of {self.names[number]} is no list of points")
                if values.size:
                    found.append((str(contour.get("ContourGeometricType", "")), values.reshape(-1, 3)))
        return found

    def _in_plane(self, points: NDArray[np.float64]) -> tuple[int, NDArray[np.float64]]:
        """Slice (k) and polygon (N, 2) of indices (i, j). Raises ReadError for a contour across slices."""
        indices = points @ self._to_indices[:3, :3].T + self._to_indices[:3, 3]
        heights = indices[:, 2]
        middle = float(heights.mean())
        if np.ptp(heights) > 2 * OFF_PLANE or abs(middle - round(middle)) > OFF_SLICE:
            raise ReadError(
                f"a contour does not lie in a slice of the image (between slices {heights.min():.2f} and "
                f"{heights.max():.2f})",
                where=self.file.path,
                remedy="Is it of another series, or drawn on resampled images?",
            )
        return round(middle), indices[:, :2]


def _numbers(contour: Any) -> NDArray[np.float64] | None:
    """The coordinates of a contour; None where they are no numbers."""
    element = contour.get_item("ContourData")
    value = () if element is None else element.value
    # as bytes, before pydicom makes an object of each number: that would take most of the time
    parts = value.split(b"\\") if isinstance(value, bytes) and value.strip() else value or ()
    try:
        return np.asarray(parts, dtype=np.float64)
    except ValueError:
        return None


def fill(polygons: list[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (Y, X) whose centres lie inside of an odd number of polygons (N, 2) of (x, y) in pixels.

    A centre on an edge belongs to the side of larger x and y, so that neighbours share no pixel.
    """
    rows, columns = size
    ends = np.concatenate([np.concatenate([one, np.roll(one, -1, axis=0)], axis=1) for one in polygons])
    x0, y0, x1, y1 = ends.T
    low, high = np.minimum(y0, y1), np.maximum(y0, y1)
    first = np.clip(np.ceil(low), 0, rows).astype(np.int64)
    last = np.clip(np.ceil(high), 0, rows).astype(np.int64)  # not included
    counts = np.maximum(last - first, 0)
    edge = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    crossing = x0[edge] + (row - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.clip(np.ceil(crossing), 0, columns).astype(np.int64)
    turns = np.zeros((rows, columns + 1), dtype=np.int64)
    np.add.at(turns, (row, column), 1)
    return np.asarray(np.cumsum(turns, axis=1)[:, :columns] % 2 == 1)
