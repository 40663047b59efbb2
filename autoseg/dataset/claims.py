"""Headers that claim more than can be: refused before memory is asked for.

A header is a few bytes, and what it says of the shape decides how much memory a reader asks for. Two bounds hold it
to the possible: what the file's bytes can unpack to, and what may be held here.
"""

from __future__ import annotations

from pathlib import Path

from autoseg.errors import ReadError
from autoseg.machine import total_memory

#: Most bytes that one byte of a compressed file can unpack to: deflate's bound (RFC 1951: 258 bytes from two bits).
DEFLATE_RATIO = 1032

#: The same for TIFF, whose compressions (LZW, Zstandard) pack equal bytes more tightly, and which may leave tiles out.
TIFF_RATIO = 8 * DEFLATE_RATIO

#: Most bytes that one byte of a packed model unpacks to: weights hardly shrink, and zeros among them are few.
MODEL_RATIO = 50

#: Claims below this are never refused: they do no harm.
HARMLESS = 64 << 20


def refuse_impossible(path: Path, claimed: int, stored: int, ratio: int = DEFLATE_RATIO) -> None:
    """Raise ReadError for a file of `stored` bytes whose header tells of `claimed` bytes, where that cannot be.

    `ratio` is the most that a byte of the file can unpack to; 1 where nothing is compressed.
    """
    if claimed > HARMLESS and claimed > ratio * stored:
        raise ReadError(
            f"its header tells of {_told(claimed)}, which {_told(stored)} of data cannot hold",
            where=path,
            remedy="Copy or export the file again.",
        )


def is_possible_model(claimed: int, stored: int) -> bool:
    """Whether `stored` bytes of an archive may hold `claimed` bytes of a model, and not just fill the memory."""
    return claimed <= max(HARMLESS, MODEL_RATIO * stored)


def refuse_too_large(path: Path, voxels: int) -> None:
    """Raise ReadError for an image whose voxels, as float32, are more than the memory that may be used here."""
    needed = 4 * voxels
    if needed > HARMLESS and needed > (memory := total_memory()):
        raise ReadError(
            f"its header tells of {voxels} voxels: it takes {_told(needed)} of the {_told(memory)} that there are",
            where=path,
            remedy="Check the header, or cut the image into parts.",
        )


def _told(count: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
