"""PNG, JPEG and BMP files: images without a place in the body.

A picture is a volume with Z = 1 and pixels of 1 mm; rows are Y, columns X, colours channels. Pillow and SimpleITK are
imported when the first such file is met.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.claims import refuse_impossible, refuse_too_large
from autoseg.dataset.voxels import small_integers, to_float32
from autoseg.errors import ReadError
from autoseg.files import written_aside
from autoseg.records import Geometry, LabelMap, Volume

IDENTITY = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))

#: Pillow's modes that hold numbers as they are, with the channels read; others become RGB (palettes, CMYK, …). Alpha
#: tells how a picture is shown, nothing that was measured, and folders mix pictures with it and without.
PLAIN_MODES = {"1": 1, "L": 1, "I": 1, "F": 1, "I;16": 1, "I;16B": 1, "I;16L": 1, "LA": 1, "RGB": 3, "RGBA": 3}

#: Bytes of a pixel in Pillow's memory; the modes that are not named take four.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}

#: Grey values of 2 and 4 bits, which Pillow spreads over 0 to 255, with the step between two of them.
_SCALED_MODES = {"L;2": 85, "L;4": 17}

#: Pixels of a picture that become numbers together.
STRIP_PIXELS = 1 << 22

#: What decoders raise on broken files, beside their own kinds.
DECODING_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    RuntimeError,
    OverflowError,
    ImportError,
    zlib.error,
    struct.error,
)

ALPHA_NOTE = "parts of the picture are transparent: the colours beneath are read, the transparency is not"


# ------------------------------------------------------------------------------------------------ PNG, JPEG, BMP


def read_image(path: Path) -> Volume:
    """Image of one picture, (C, 1, Y, X) float32; palettes become their colours, alpha is not read."""
    with _opened(path) as picture:
        if _sixteen_bit_colour(picture):  # Pillow would cut each colour to eight bits
            image = to_float32(_channels_first(_read_with_itk(path))[:3])
        else:
            image = _in_strips(_decoded(picture, path))
        notes = (ALPHA_NOTE,) if _transparent(picture) else ()
    return Volume(image, flat_geometry(image.shape[-2], image.shape[-1]), notes)


def read_labels(path: Path) -> LabelMap:
    """Labels of one picture, (1, Y, X); a palette's indices are the labels, grey stored as colours is one value."""
    with _opened(path) as picture:
        pixels = _stored_pixels(picture, path)
    notes: tuple[str, ...] = ()
    if pixels.ndim == 3:
        pixels = one_of(pixels, path)
        notes = ("labels stored as grey colours: one of the equal channels is read",)
    return LabelMap(small_integers(pixels[None]), flat_geometry(*pixels.shape), notes)


def read_geometry(path: Path) -> tuple[Geometry, int]:
    """Grid and number of channels, from the header alone."""
    with _opened(path) as picture:
        columns, rows = picture.size
        return flat_geometry(rows, columns), PLAIN_MODES.get(picture.mode, 3)


def decoded_bytes(path: Path) -> int:
    """Bytes that the pixels of a picture take until they are numbers of an image, from the header alone."""
    with _opened(path) as picture:
        columns, rows = picture.size
        a_pixel = _PIXEL_BYTES.get(picture.mode, 4)
        if _sixteen_bit_colour(picture):
            a_pixel = 2 * 2 * 4  # SimpleITK's and a copy, at most four colours of two bytes
        if picture.info.get("progressive"):
            a_pixel += 2 * 3  # JPEG in several passes: two bytes for each coefficient of a colour
        return int(rows * columns * a_pixel)


def write_labels(path: Path, labels: NDArray[np.unsignedinteger], geometry: Geometry, like: Path | None) -> None:  # noqa: ARG001
    """Write a mask picture with the labels as grey values (8 or 16 bits)."""
    from PIL import Image

    if labels.shape[0] != 1 or labels.dtype.itemsize > 2:
        raise ReadError(
            f"a picture cannot hold labels of shape {labels.shape} and type {labels.dtype}",
            where=path,
            remedy="Name the mask .nii.gz or .tif.",
        )
    with written_aside(path) as aside:
        Image.fromarray(labels[0]).save(aside)


def refuse_labels(path: Path, labels: NDArray[np.unsignedinteger], geometry: Geometry, like: Path | None) -> None:  # noqa: ARG001
    """Refuse to write a mask in a format that changes values (JPEG) or has no room for more than 255 (BMP)."""
    raise ReadError("this format cannot hold every mask unchanged", where=path, remedy="Name the mask .png.")


def flat_geometry(rows: int, columns: int) -> Geometry:
    """The grid of a picture: one plane of pixels of 1 mm."""
    return Geometry(shape=(1, rows, columns), affine=IDENTITY, flat=True)


def _opened(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise ReadError("does not exist", where=path)
    if path.stat().st_size == 0:
        raise ReadError("is empty (0 bytes)", where=path, remedy="Copy or download the file again.")
    try:
        picture = _with_pillow(path)
    except UnidentifiedImageError as error:
        raise ReadError("is not a picture, whatever its name says", where=path) from error
    except (SyntaxError, Image.DecompressionBombError, *DECODING_ERRORS) as error:
        raise unreadable(path, error) from error
    columns, rows = picture.size
    values = rows * columns * PLAIN_MODES.get(picture.mode, 3)
    try:
        refuse_impossible(path, values, path.stat().st_size)
        refuse_too_large(path, values)
    except ReadError:
        picture.close()
        raise
    return picture


def _with_pillow(path: Path) -> Any:
    """The picture, opened by the class of its format.

    `Image.open` bounds the pixels of all formats by a number that belongs to the whole process, and so refuses whole
    slides; our bound goes by the file's bytes.
    """
    from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin

    with open(path, "rb") as file:
        begins = file.read(8)
    for magic, kind in (
        (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
        (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
        (b"BM", BmpImagePlugin.BmpImageFile),
    ):
        if begins.startswith(magic):
            return kind(path)
    return Image.open(path)


def _decoded(picture: Any, path: Path) -> Any:
    try:
        picture.load()
    except (SyntaxError, *DECODING_ERRORS) as error:  # Pillow calls a broken PNG a syntax error
        raise unreadable(path, error) from error
    return picture


def _stored_pixels(picture: Any, path: Path) -> NDArray[np.generic]:
    """The numbers that a picture stores, (Y, X) or (Y, X, C)."""
    if _sixteen_bit_colour(picture):
        return _read_with_itk(path)
    shown_as = _SCALED_MODES.get(_raw_mode(picture), 1)  # once it is decoded nothing tells
    pixels = np.asarray(_decoded(picture, path))
    return pixels if shown_as == 1 else pixels // shown_as


def _in_strips(picture: Any) -> NDArray[np.float32]:
    """A decoded picture as (C, 1, Y, X), made strip by strip: Pillow's own pixels are copied twice for an array."""
    from PIL import Image

    columns, rows = picture.size
    channels = PLAIN_MODES.get(picture.mode, 3)
    image = np.empty((channels, 1, rows, columns), dtype=np.float32)
    bound = Image.MAX_IMAGE_PIXELS or STRIP_PIXELS  # Pillow's holds for parts too, and a program may have set any
    height = max(1, min(STRIP_PIXELS, bound) // columns)
    for top in range(0, rows, height):
        strip = picture.crop((0, top, columns, min(top + height, rows)))
        pixels = np.asarray(strip if picture.mode in PLAIN_MODES else strip.convert("RGB"))
        np.copyto(image[:, :, top : top + height], _channels_first(pixels)[:channels], casting="unsafe")
    return image


def _transparent(picture: Any) -> bool:
    """Whether the alpha of a picture hides anything."""
    return picture.mode in ("LA", "RGBA") and picture.getchannel("A").getextrema()[0] < 255


def _channels_first(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """(Y, X) or (Y, X, C) as (C, 1, Y, X)."""
    return np.moveaxis(pixels if pixels.ndim == 3 else pixels[..., None], -1, 0)[:, None]


def _sixteen_bit_colour(picture: Any) -> bool:
    """Whether a PNG holds colours of 16 bits."""
    return picture.mode in ("RGB", "RGBA") and "16" in _raw_mode(picture)


def _raw_mode(picture: Any) -> str:
    """How a PNG that is not decoded yet stores its pixels, in Pillow's words; empty for other formats."""
    tiles = getattr(picture, "tile", ()) if picture.format == "PNG" else ()
    return str(tiles[0][3]) if tiles else ""


def _read_with_itk(path: Path) -> NDArray[np.generic]:
    import SimpleITK as sitk

    with _opened(path) as picture:
        if _raw_mode(picture).startswith("LA"):
            raise ReadError(
                "holds grey values of 16 bits with transparency, which is not read",
                where=path,
                remedy="Save it without transparency.",
            )
    try:
        return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    except RuntimeError as error:
        raise unreadable(path, error) from error


def one_of(pixels: NDArray[np.generic], path: Path) -> NDArray[np.generic]:
    """The single value of pixels whose colours are all equal, without alpha."""
    colours = pixels[..., : {2: 1, 4: 3}.get(pixels.shape[-1], pixels.shape[-1])]
    if not (colours == colours[..., :1]).all():
        raise ReadError(
            "is a colour picture, not a label map",
            where=path,
            remedy="Store one label number per pixel, as grey values or a palette.",
        )
    return colours[..., 0]


def unreadable(path: Path, error: Exception) -> ReadError:
    """The error for a file that a decoder refuses."""
    return ReadError(f"is damaged or not decodable ({error})", where=path, remedy="Copy or download the file again.")
