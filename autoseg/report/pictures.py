"""Slices of volumes as small pictures for pages: enlarged, labels drawn over them, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autoseg.report.page import Picture
from autoseg.report.preview import COLOURS
from autoseg.report.slices import CONVENTION, Look, fullest, marked, place_on_slice, planes_of, slice_of, slice_spacing

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

_RGB = NDArray[np.uint8]


def data_uri(pixels: _RGB) -> str:
    """(H, W, 3) pixels as a WebP in a data URI."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="WEBP", quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each label; with many they begin again."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def reading(pictures: Sequence[Picture], columns: Sequence[str] = (), where: str = "") -> str:
    """How the pictures are to be read: their rows and columns, and which side is which where that is known.

    Args:
        pictures: what is shown.
        columns: what the slices beside one another are, the image first; it goes where no picture has one.
        where: what is said of the place of the slices.
    """
    told = []
    if any(picture.sides for picture in pictures) and columns:
        told.append(f"Rows: axial, coronal, sagittal{where}.")
    if columns:
        shown = columns if any(picture.image for picture in pictures) else columns[1:]
        told.append(f"Columns: {', '.join(shown)}.")
    if any(picture.sides for picture in pictures):
        told.append(CONVENTION)
    return " ".join(told)


def thumbnail(look: Look, values: Mapping[str, tuple[int, ...]], caption: str = "") -> Picture:
    """The axial slice with most foreground, with the outlines of its labels."""
    index = fullest(look.mask != 0)[0]
    drawn = _outlined(_grey(look, 0, index), _cut(look, look.mask, 0, index), values)
    return _picture(look, marked(drawn, 0) if look.sides else drawn, caption)


def comparison(
    look: Look,
    values: Mapping[str, tuple[int, ...]],
    caption: str = "",
    *,
    at: tuple[int, int, int] | None = None,
    ticks: bool = False,
) -> Picture:
    """A row per plane: image, reference, prediction and errors; without a reference image and prediction.

    Without an image its column is left out. The first slice of each row has the letters of its sides: where there is an
    image, none lies over a mask. The slices are those through the voxel `at`, (Z, Y, X), at whose place `ticks` point
    from the edges; else those with most errors, or with most foreground where there are none.
    """
    wrong = None if look.reference is None else look.mask != look.reference
    anywhere = look.mask != 0 if look.reference is None else (look.mask != 0) | (look.reference != 0)
    cuts = at or fullest(wrong if wrong is not None and wrong.any() else anywhere)
    rows = []
    for _, axis in planes_of(look):
        row = _row(look, axis, cuts[axis], values)
        if at is not None and ticks:
            row = [_ticked(pixels, look, axis, at) for pixels in row]
        rows.append([marked(row[0], axis), *row[1:]] if look.sides else row)
    return _picture(look, _stacked(rows), caption)


def _picture(look: Look, pixels: _RGB, caption: str) -> Picture:
    return Picture(data_uri(pixels), look.name, caption, sides=look.sides, image=look.image is not None)


def _row(look: Look, axis: int, index: int, values: Mapping[str, tuple[int, ...]]) -> list[_RGB]:
    grey, mask = _grey(look, axis, index), _cut(look, look.mask, axis, index)
    image = [] if look.image is None else [grey]
    if look.reference is None:
        return [*image, _filled(grey, mask, values)]
    reference = _cut(look, look.reference, axis, index)
    return [*image, _filled(grey, reference, values), _filled(grey, mask, values), _errors(grey, mask, reference)]


def patch_strip(
    images: Sequence[NDArray[np.float32]],
    labels: Sequence[NDArray[np.integer]],
    aspect: float,
    axis: int | None,
    values: Mapping[str, tuple[int, ...]],
) -> str:
    """Versions of one training sample, (Y, X) each, side by side, as a data URI.

    The first, as it was cropped, gets the letters of its sides where it is known across which `axis` of (Z, Y, X) it is
    cut; augmentation turns and mirrors the others.
    """
    row = []
    for image, drawn in zip(images, labels, strict=True):
        size = _size(image.shape, (aspect, 1.0))
        grey = np.repeat(_windowed(_enlarged(image, size), images[0])[..., None], 3, axis=2)
        row.append(_outlined(grey, _enlarged(drawn, size), values))
    return data_uri(_stacked([row if axis is None else [marked(row[0], axis), *row[1:]]]))


# ----------------------------------------------------------------------------------------------------------- the slices


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
    plane = slice_of(look, array, axis, index)
    return _enlarged(plane, _size(plane.shape, slice_spacing(look, axis)))


def _ticked(pixels: _RGB, look: Look, axis: int, at: tuple[int, int, int]) -> _RGB:
    """Ticks at all four edges of a slice that point at the row and the column of a voxel."""
    y, x = (int(share * size) for share, size in zip(place_on_slice(look, axis, at), pixels.shape[:2], strict=True))
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
