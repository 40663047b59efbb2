"""Outlines of binary masks as polygons, such that filling them by pixel centres gives the mask back exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]  # (N, 2): (x, y) in pixels, closed without repeating the first point


def outlines(mask: NDArray[np.bool_]) -> list[Polygon]:
    """One polygon for each connected part of a slice (Y, X).

    They run half-way between pixel centres. A hole is joined to its part by a keyhole, a channel without width, as
    DICOM (PS3.3, C.8.8.6.3) wants it: a reader that fills each polygon by itself sees the hole as well.
    """
    from skimage.measure import find_contours

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    cut = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.float32)
    shift = np.array([columns[0] - 1, rows[0] - 1])
    contours = find_contours(cut, 0.5, positive_orientation="low")  # type: ignore[no-untyped-call]
    found = [_corners(contour[:-1, ::-1]) + shift for contour in contours]
    areas = [_signed_area(polygon) for polygon in found]
    # around what is inside they turn one way, around holes the other
    parts = [polygon for polygon, area in zip(found, areas, strict=True) if area > 0]
    holes = [polygon for polygon, area in zip(found, areas, strict=True) if area < 0]
    for hole in sorted(holes, key=lambda polygon: float(polygon[:, 0].min())):
        around = [number for number, part in enumerate(parts) if _contains(part, hole[0])]
        smallest = min(around, key=lambda number: abs(_signed_area(parts[number])))
        parts[smallest] = _with_keyhole(parts[smallest], hole)
    return parts


def _corners(polygon: Polygon) -> Polygon:
    """Without the points on straight edges."""
    before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    turning = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return polygon[np.abs(turning) > 1e-9]


def _signed_area(polygon: Polygon) -> float:
    x, y = polygon.T
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def _contains(polygon: Polygon, point: NDArray[np.float64]) -> bool:
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    x, y = point
    crossing = (y0 <= y) != (y1 <= y)
    with np.errstate(divide="ignore", invalid="ignore"):
        right = x0 + (y - y0) * (x1 - x0) / (y1 - y0) > x
    return bool(np.count_nonzero(crossing & right) % 2)


def _with_keyhole(part: Polygon, hole: Polygon) -> Polygon:
    """The outline of a part that runs in through the shortest channel, around the hole, and out again."""
    distances = np.linalg.norm(part[:, None] - hole[None], axis=2)
    at, to = (int(place) for place in np.unravel_index(int(np.argmin(distances)), distances.shape))
    return np.concatenate([part[: at + 1], hole[to:], hole[: to + 1], part[at:]])
