"""Slices of volumes as small pictures for pages: enlarged, labels drawn over them, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autoseg.report.page import Picture
from autoseg.report.preview import COLOURS

#: Longest edge of one slice, in pixels.
EDGE = 210

#: How much of a colour lies over the image.
_FILL = 0.45

#: Colours of errors: predicted without being in the reference, missed, and named wrongly.
EXTRA, MISSED, CONFUSED = "#F0384F", "#3D7DFF", "#D95FE0"

#: What the errors are called, with their colours.
ERRORS = ((EXTRA, "predicted, not in the reference"), (MISSED, "in the reference, missed"), (CONFUSED, "another label"))

#: Colour of the ticks that point at a place, their length and width in pixels.
_TICK, _TICK_LONG, _TICK_WIDE = "#FFD400", 12, 2

#: How volumes, which are turned to RAS+, are seen.
SEEN_FROM = "Volumes are drawn with the patient's left on the left."

#: Planes of (Z, Y, X) arrays: name and the axis that is cut across.
PLANES = (("axial", 0), ("coronal", 1), ("sagittal", 2))

_RGB = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Look:
    """One case to look at: arrays (Z, Y, X), label maps by value, spacing in mm."""

    name: str
    image: NDArray[np.float32] | None
    mask: NDArray[np.integer]
    spacing: tuple[float, float, float]
    reference: NDArray[np.integer] | None = None
    upwards: bool = True  # whether rows count from below, as those of oriented volumes


def data_uri(pixels: _RGB) -> str:
    """(H, W, 3) pixels as a WebP in a data URI."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="WEBP", quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each label; with many they begin again."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def thumbnail(look: Look, values: Mapping[str, tuple[int, ...]], caption: str = "") -> Picture:
    """The axial slice with most foreground, with the outlines of its labels."""
    index = _cuts(look.mask != 0)[0]
    drawn = _outlined(_grey(look, 0, index), _cut(look, look.mask, 0, index), values)
    return Picture(data_uri(drawn), look.name, caption)


def comparison(
    look: Look,
    values: Mapping[str, tuple[int, ...]],
    caption: str = "",
    *,
    at: tuple[int, int, int] | None = None,
    ticks: bool = False,
) -> Picture:
    """A row per plane: image, reference, prediction and errors; without a reference image and prediction.

    The slices are those through the voxel `at`, (Z, Y, X), at whose place `ticks` point from the edges; else those with
    most errors, or with most foreground where there are none.
    """
    wrong = None if look.reference is None else look.mask != look.reference
    anywhere = look.mask != 0 if look.reference is None else (look.mask != 0) | (look.reference != 0)
    cuts = at or _cuts(wrong if wrong is not None and wrong.any() else anywhere)
    flat = look.mask.shape[0] == 1
    rows = [_row(look, axis, cuts[axis], values) for _, axis in (PLANES[:1] if flat else PLANES)]
    if at is not None and ticks:
        planes = zip((axis for _, axis in PLANES), rows, strict=False)
        rows = [[_ticked(pixels, look, axis, at) for pixels in row] for axis, row in planes]
    return Picture(data_uri(_stacked(rows)), look.name, caption)


def _row(look: Look, axis: int, index: int, values: Mapping[str, tuple[int, ...]]) -> list[_RGB]:
    grey, mask = _grey(look, axis, index), _cut(look, look.mask, axis, index)
    if look.reference is None:
        return [grey, _filled(grey, mask, values)]
    reference = _cut(look, look.reference, axis, index)
    return [grey, _filled(grey, reference, values), _filled(grey, mask, values), _errors(grey, mask, reference)]


def patch_strip(
    images: Sequence[NDArray[np.float32]],
    labels: Sequence[NDArray[np.integer]],
    aspect: float,
    upwards: bool,
    values: Mapping[str, tuple[int, ...]],
) -> str:
    """Versions of one training sample, (Y, X) each, side by side, as a data URI."""
    row = []
    for image, drawn in zip(images, labels, strict=True):
        flip = slice(None, None, -1 if upwards else 1)
        size = _size(image.shape, (aspect, 1.0))
        grey = np.repeat(_windowed(_enlarged(image[flip], size), images[0])[..., None], 3, axis=2)
        row.append(_outlined(grey, _enlarged(drawn[flip], size), values))
    return data_uri(_stacked([row]))


# ----------------------------------------------------------------------------------------------------------- the slices


def _cuts(wanted: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Along each axis the slice with most of it, the middle one where there is none."""
    if not wanted.any():
        z, y, x = wanted.shape
        return (z // 2, y // 2, x // 2)
    counts = [wanted.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    return (int(counts[0].argmax()), int(counts[1].argmax()), int(counts[2].argmax()))


def _size(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[int, int]:
    """Pixels (H, W) of a slice, its longest edge EDGE, edges as long as in the world."""
    tall, wide = shape[0] * spacing[0], shape[1] * spacing[1]
    scale = EDGE / max(tall, wide)
    return max(round(tall * scale), 8), max(round(wide * scale), 8)


def _enlarged(plane: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.generic]:
    """The nearest pixel: nothing is made up."""
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(size, plane.shape, strict=True))
    enlarged: NDArray[np.generic] = plane[rows.astype(int)[:, None], columns.astype(int)[None, :]]
    return enlarged


def _cut(look: Look, array: NDArray[np.generic], axis: int, index: int) -> NDArray[np.generic]:
    plane = np.take(array, index, axis)
    spacing = tuple(size for number, size in enumerate(look.spacing) if number != axis)
    return _enlarged(plane[:: -1 if look.upwards else 1], _size(plane.shape, spacing))


def _ticked(pixels: _RGB, look: Look, axis: int, at: tuple[int, int, int]) -> _RGB:
    """Ticks at all four edges of a slice that point at the row and the column of a voxel."""
    (tall, wide), (row, column) = (
        tuple(part[other] for other in range(3) if other != axis) for part in (look.mask.shape, at)
    )
    middle = (row + 0.5) / tall
    y = int((1 - middle if look.upwards else middle) * pixels.shape[0])
    x = int((column + 0.5) / wide * pixels.shape[1])
    drawn, half = pixels.copy(), _TICK_WIDE // 2
    down, across = slice(max(0, y - half), y + half), slice(max(0, x - half), x + half)
    for edge in (slice(0, _TICK_LONG), slice(-_TICK_LONG, None)):
        drawn[down, edge] = _rgb(_TICK)
        drawn[edge, across] = _rgb(_TICK)
    return drawn


def _grey(look: Look, axis: int, index: int) -> _RGB:
    if look.image is None:
        return np.full((*_cut(look, look.mask, axis, index).shape, 3), 40, np.uint8)
    grey = _windowed(_cut(look, look.image, axis, index), look.image)
    return np.repeat(grey[..., None], 3, axis=2)


def _windowed(plane: NDArray[np.generic], whole: NDArray[np.float32]) -> _RGB:
    step = max(1, whole.size // 200_000)
    low, high = np.nanpercentile(whole.reshape(-1)[::step], (1, 99.5))
    scaled = (np.asarray(plane, np.float32) - low) / max(float(high - low), 1e-6)
    grey: _RGB = (np.clip(np.nan_to_num(scaled), 0, 1) * 255).astype(np.uint8)
    return grey


def _filled(grey: _RGB, labels: NDArray[np.generic], values: Mapping[str, tuple[int, ...]]) -> _RGB:
    drawn = grey.copy()
    for name, colour in colours_of(tuple(values)).items():
        inside = np.isin(labels, values[name])
        drawn[inside] = _mixed(drawn[inside], colour, _FILL)
        drawn[_edge(inside)] = _rgb(colour)
    return drawn


def _outlined(grey: _RGB, labels: NDArray[np.generic], values: Mapping[str, tuple[int, ...]]) -> _RGB:
    drawn = grey.copy()
    for name, colour in colours_of(tuple(values)).items():
        inside = np.isin(labels, values[name])
        line = _edge(inside)
        drawn[line | _edge(inside & ~line)] = _rgb(colour)  # two pixels: one alone loses its colour to compression
    return drawn


def _errors(grey: _RGB, mask: NDArray[np.generic], reference: NDArray[np.generic]) -> _RGB:
    drawn = grey // 2
    for wrong, colour in (
        ((mask != 0) & (reference == 0), EXTRA),
        ((mask == 0) & (reference != 0), MISSED),
        ((mask != 0) & (reference != 0) & (mask != reference), CONFUSED),
    ):
        drawn[wrong] = _mixed(drawn[wrong], colour, 0.8)
    drawn[_edge(reference != 0)] = (235, 235, 235)
    return drawn


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the inside that touch the outside by an edge."""
    padded = np.pad(inside, 1, mode="edge")
    kept = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: NDArray[np.bool_] = inside & ~kept
    return edge


def _rgb(colour: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)


def _mixed(pixels: _RGB, colour: str, share: float) -> _RGB:
    return (pixels * (1 - share) + _rgb(colour) * share).astype(np.uint8)


def _stacked(rows: Sequence[Sequence[_RGB]]) -> _RGB:
    """Rows of slices as one picture, with gaps."""
    wide = max(part.shape[1] for row in rows for part in row)
    lines = []
    for row in rows:
        tall = max(part.shape[0] for part in row)
        lines.append(np.concatenate([_padded(part, tall, wide) for part in row], axis=1))
    return np.concatenate(lines, axis=0)


def _padded(part: _RGB, tall: int, wide: int) -> _RGB:
    canvas = np.zeros((tall + 4, wide + 4, 3), np.uint8)
    top, left = (tall - part.shape[0]) // 2 + 2, (wide - part.shape[1]) // 2 + 2
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
    return canvas
