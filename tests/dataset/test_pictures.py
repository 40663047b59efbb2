"""Pictures whose pixels a decoder would hand on as other numbers than the file stores."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from autoseg.dataset.readers import read_geometry, read_image, read_labels
from autoseg.errors import ReadError

GREY, GREY_AND_ALPHA = 0, 4


def write_png(path: Path, bits: int, colours: int, size: tuple[int, int], lines: list[bytes]) -> None:
    """A PNG of lines that are packed already, for what libraries do not write."""
    header = struct.pack(">IIBBBBB", *size, bits, colours, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + line for line in lines))
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with open(path, "ab") as file:
        for kind, data in ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")):
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


@pytest.mark.parametrize(("bits", "lines"), [(2, [b"\x10", b"\xb0"]), (4, [b"\x01", b"\x23"])])
def test_labels_of_few_bits_are_the_numbers_that_are_stored(bits: int, lines: list[bytes], tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", bits, GREY, (2, 2), lines)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png").labels[0], [[0, 1], [2, 3]])


def test_labels_of_sixteen_bits_stored_as_equal_colours_keep_them(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [300, 900]], np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([labels] * 3, axis=-1), isVector=True), str(tmp_path / "a.png"))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png").labels[0], labels)


@pytest.mark.parametrize("read", [lambda path: read_image([path]), read_labels], ids=["image", "labels"])
def test_deep_grey_values_with_transparency_are_refused_by_name(read: Callable[[Path], Any], tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", 16, GREY_AND_ALPHA, (2, 1), [struct.pack(">HHHH", 300, 65535, 900, 65535)])
    with pytest.raises(ReadError, match="16 bits with transparency"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize(("photometric", "channels"), [("rgb", 3), ("minisblack", 4)])
def test_alpha_of_a_tiff_is_no_channel(planes: str, photometric: str, channels: int, tmp_path: Path) -> None:
    shape = (4, 5, 7) if planes == "separate" else (5, 7, 4)
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric=photometric, planarconfig=planes)
    found = read_image([path])
    assert read_geometry(path)[1] == len(found.image) == channels
    first = pixels if planes == "separate" else np.moveaxis(pixels, -1, 0)
    np.testing.assert_array_equal(found.image[:, 0], first[:channels])
    assert any("transparent" in note for note in found.notes) == (channels == 3)
