"""The slices of a DICOM series: put in order by where they lie, and made into one grid, or refused by name.

Everything here is arithmetic on plain values. Positions and directions are DICOM's (millimetres, x to the patient's
left, y to the back); the grid that comes out is in RAS+.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.geometry import LPS_TO_RAS, affine_rows
from autoseg.errors import ReadError
from autoseg.records import Geometry

#: Direction cosines nearer than this are equal: files store them with four decimals or more.
SAME_DIRECTION = 2e-3

#: Positions nearer than this part of the distance between slices are one position.
SAME_POSITION = 0.02

#: How far a slice may lie from its place in a regular grid: along the normal in distances between slices, within the
#: plane in pixels. Positions are rounded to 0.1 mm by some scanners. Half of it gives a note.
OFF_ALONG, OFF_WITHIN = 0.1, 0.5

#: Degrees from which a shear of the slices is told.
TILT_DEGREES = 0.1

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Slice:
    """One frame with its place in the patient."""

    file: Path
    frame: int  # from 0
    instance: str  # SOP instance UID
    position: Vector  # centre of the first pixel, mm
    rows_along: Vector  # direction in which the column number grows
    columns_along: Vector  # direction in which the row number grows
    pixel: tuple[float, float]  # distance between rows, between columns, mm
    size: tuple[int, int]  # rows, columns
    slope: float = 1.0
    intercept: float = 0.0
    thickness: float | None = None  # mm, for a slice that is alone
    variants: Mapping[str, str] = field(default_factory=dict)  # what may differ between images at one place


@dataclass(frozen=True)
class Stack:
    """Slices in the order of the grid's first axis (k), and the grid."""

    slices: tuple[Slice, ...]
    geometry: Geometry
    notes: tuple[str, ...] = ()


def stack(slices: Sequence[Slice], where: Path, same_pixels: Callable[[Slice, Slice], bool]) -> Stack:
    """The slices ordered along their normal, on one regular grid; sheared where the gantry was tilted.

    Raises ReadError, with positions in mm, for slices of several sizes or directions, several images at one place,
    and gaps.
    """
    _same_plane(slices, where)
    first = slices[0]
    row, column = np.asarray(first.rows_along), np.asarray(first.columns_along)
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    ordered = sorted(slices, key=lambda one: (float(np.dot(one.position, normal)), one.instance, one.frame))
    kept, notes = _without_copies(ordered, normal, where, same_pixels)
    positions = np.array([one.position for one in kept])
    if len(kept) > 1:
        step = (positions[-1] - positions[0]) / (len(kept) - 1)
        notes += _regular(positions, step, normal, min(first.pixel), where)
        notes += _tilt(step, normal)
    else:
        thickness = first.thickness or 1.0
        step = normal * thickness
        told = "its thickness" if first.thickness else "1 mm, since no thickness is told,"
        notes.append(f"a single slice: {told} is taken as the distance between slices")
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = row * first.pixel[1], column * first.pixel[0], step
    matrix[:3, 3] = positions[0]
    geometry = Geometry(shape=(len(kept), *first.size), affine=affine_rows(LPS_TO_RAS @ matrix))
    return Stack(tuple(kept), geometry, tuple(notes))


def _same_plane(slices: Sequence[Slice], where: Path) -> None:
    sizes = Counter(one.size for one in slices)
    if len(sizes) > 1:
        told = ", ".join(f"{count} of {rows}x{columns}" for (rows, columns), count in sizes.most_common(4))
        raise _mixed(f"mixes images of several sizes (rows x columns): {told}", where)
    directions = np.array([(*one.rows_along, *one.columns_along) for one in slices])
    away = np.abs(directions - directions[0]).max(axis=1) > SAME_DIRECTION
    if away.any():
        raise _mixed(f"mixes images of several orientations: {int(away.sum())} of {len(slices)} differ", where)
    pixels = np.array([one.pixel for one in slices])
    if np.abs(pixels / pixels[0] - 1).max() > SAME_DIRECTION:
        raise _mixed("mixes images of several pixel sizes", where)


def _mixed(what: str, where: Path) -> ReadError:
    return ReadError(what, where=where, remedy="Export the images that belong together as a series of their own.")


def _without_copies(
    ordered: Sequence[Slice], normal: NDArray[np.float64], where: Path, same_pixels: Callable[[Slice, Slice], bool]
) -> tuple[list[Slice], list[str]]:
    """One slice for each position. Raises ReadError where images at one position show different things."""
    heights = [float(np.dot(one.position, normal)) for one in ordered]
    steps = np.diff(heights)
    apart = steps[steps > 1e-3]
    nearest = SAME_POSITION * float(np.median(apart)) if apart.size else 1e-3
    kept, copies = [ordered[0]], 0
    clashes: list[tuple[Slice, Slice]] = []
    for one, before, step in zip(ordered[1:], ordered[:-1], steps, strict=True):
        if step > nearest:
            kept.append(one)
        elif same_pixels(before, one):
            copies += 1
        else:
            clashes.append((kept[-1], one))
    if clashes:
        a, b = clashes[0]
        fields = [name for name in a.variants if a.variants[name] != b.variants.get(name)]
        differ = f"; they differ in {', '.join(fields)}" if fields else ""
        height = float(np.dot(a.position, normal))
        raise ReadError(
            f"holds several different images at the same place, at {len({a.instance for a, _ in clashes})} places "
            f"(the first at {height:.1f} mm along the slice normal){differ}",
            where=where,
            remedy="Export each phase, echo or b-value as a series of its own.",
        )
    note = f"{copies} images occur twice with the same place and pixels: one of each is read"
    return kept, [note] if copies else []


def _regular(
    positions: NDArray[np.float64], step: NDArray[np.float64], normal: NDArray[np.float64], pixel: float, where: Path
) -> list[str]:
    """A note on small irregularities. Raises ReadError for gaps and for slices that lie elsewhere."""
    heights = positions @ normal
    distances = np.diff(heights)
    usual = float(np.median(distances))
    wide = np.flatnonzero(distances > 1.5 * usual)
    if wide.size:
        told = ", ".join(f"{heights[at]:.1f} and {heights[at + 1]:.1f} mm" for at in wide[:5])
        more = f" and at {wide.size - 5} other places" if wide.size > 5 else ""
        raise ReadError(
            f"has gaps: slices lie {usual:.3g} mm apart, but there is none between {told}{more} (along the slice "
            "normal)",
            where=where,
            remedy="Export the missing slices, or resample the series to a regular grid first.",
        )
    ideal = positions[0] + np.arange(len(positions))[:, None] * step
    off = positions - ideal
    along = off @ normal
    within = np.linalg.norm(off - along[:, None] * normal, axis=1)
    worst = int(np.argmax(np.abs(along)))
    if abs(along[worst]) > OFF_ALONG * usual or within.max() > OFF_WITHIN * pixel:
        irregular = abs(along[worst]) > OFF_ALONG * usual
        what = (
            f"its slices are not equally far apart: {distances.min():.3g} to {distances.max():.3g} mm, the worst at "
            f"{heights[worst]:.1f} mm along the slice normal"
            if irregular
            else f"its slices are shifted against each other within their plane, by up to {within.max():.3g} mm"
        )
        raise ReadError(what, where=where, remedy="Resample the series to a regular grid first.")
    if abs(along[worst]) > OFF_ALONG / 2 * usual or within.max() > OFF_WITHIN / 2 * pixel:
        return [f"slices lie up to {max(abs(along[worst]), within.max()):.3g} mm from a regular grid: ignored"]
    return []


def _tilt(step: NDArray[np.float64], normal: NDArray[np.float64]) -> list[str]:
    cosine = float(np.dot(step, normal) / np.linalg.norm(step))
    degrees = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
    if degrees < TILT_DEGREES:
        return []
    return [f"the gantry was tilted: slices are sheared by {degrees:.1f} degrees, and the grid is sheared alike"]
