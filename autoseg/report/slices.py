"""Slices of volumes as all pictures show them: by the radiological convention, the sides of the patient marked.

Volumes are (Z, Y, X) = (towards superior, anterior, right). On a picture the patient's right is on the left of axial
and coronal slices, anterior is at the top of axial and on the left of sagittal ones, and superior is at the top: in
each plane rows and columns run backwards. What has no known sides is drawn as it is stored, as pictures are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ScalarT = TypeVar("ScalarT", bound=np.generic)

#: Planes of (Z, Y, X) arrays: name and the axis that is cut across.
PLANES = (("axial", 0), ("coronal", 1), ("sagittal", 2))

#: By that axis what lies at the left, the right, the upper and the lower edge of a slice.
SIDES = {0: ("R", "L", "A", "P"), 1: ("R", "L", "S", "I"), 2: ("A", "P", "S", "I")}

#: How slices are seen, for captions.
CONVENTION = (
    "Drawn as in clinical viewers, the patient's right on the left. R and L mark right and left, A and P anterior and "
    "posterior, S and I superior and inferior."
)

#: Height of a letter in pixels, the width of its dark rim, and how many letters an edge has to be long to get some.
LETTER, _RIM, _LETTERS_LONG = 18, 2, 3


@dataclass(frozen=True, eq=False)
class Look:
    """One case to look at: arrays (Z, Y, X), label maps by value, spacing in mm."""

    name: str
    image: NDArray[np.float32] | None
    mask: NDArray[np.generic]
    spacing: tuple[float, float, float]
    reference: NDArray[np.generic] | None = None
    sides: bool = True  # whether the arrays are turned to (superior, anterior, right); else they are as stored


@dataclass(frozen=True)
class Turn:
    """How slices of arrays with other axes are brought to the convention: transposed, then reversed."""

    swap: bool
    backwards: tuple[bool, bool]  # rows, columns
    axis: int  # of (Z, Y, X) that the slices are cut across

    def __call__(self, plane: NDArray[ScalarT]) -> NDArray[ScalarT]:
        """A view of the slice."""
        rows, columns = (slice(None, None, -1 if reverse else 1) for reverse in self.backwards)
        return (plane.T if self.swap else plane)[rows, columns]


def slice_of(look: Look, array: NDArray[ScalarT], axis: int, index: int) -> NDArray[ScalarT]:
    """One slice of an array of the case, the way round that it is drawn: first row on top, first column on the left."""
    plane: NDArray[ScalarT] = np.take(array, index, axis)
    return plane[::-1, ::-1] if look.sides else plane


def place_on_slice(look: Look, axis: int, at: tuple[int, int, int]) -> tuple[float, float]:
    """Where the middle of a voxel lies on such a slice: shares of its height and width from its upper left corner."""
    shares = [(place + 0.5) / size for place, size in zip(at, look.mask.shape, strict=True)]
    down, across = (share for other, share in enumerate(shares) if other != axis)
    return (1 - down, 1 - across) if look.sides else (down, across)


def slice_spacing(look: Look, axis: int) -> tuple[float, float]:
    """Height and width of a voxel of such a slice in mm."""
    tall, wide = (size for other, size in enumerate(look.spacing) if other != axis)
    return tall, wide


def planes_of(look: Look) -> tuple[tuple[str, int], ...]:
    """The planes that are drawn: of a picture, which has one slice, the first alone."""
    return PLANES[:1] if look.mask.shape[0] == 1 else PLANES


def fullest(wanted: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Along each axis the slice with most of it, the middle one where there is none."""
    if not wanted.any():
        z, y, x = wanted.shape
        return (z // 2, y // 2, x // 2)
    counts = [wanted.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    return (int(counts[0].argmax()), int(counts[1].argmax()), int(counts[2].argmax()))


def marked(pixels: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    """(H, W, 3) pixels of a slice with the letters of its sides at the edges that are long enough for them."""
    tall, wide = pixels.shape[:2]
    picture = Image.fromarray(pixels)
    pen, least = ImageDraw.Draw(picture), _LETTERS_LONG * LETTER
    half, margin = LETTER / 2, _RIM + 1
    left, right, top, bottom = SIDES[axis]
    letters: list[tuple[str, float, float]] = []
    if wide >= least and tall > LETTER:
        letters += [(left, margin + half, tall / 2), (right, wide - margin - half, tall / 2)]
    if tall >= least and wide > LETTER:
        letters += [(top, wide / 2, margin + half), (bottom, wide / 2, tall - margin - half)]
    for letter, x, y in letters:
        pen.text((x, y), letter, fill="white", font=_font(), anchor="mm", stroke_width=_RIM, stroke_fill="black")
    return np.asarray(picture)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=LETTER)
