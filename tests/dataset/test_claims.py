"""Headers that claim what cannot be: refused at once, and without the memory that they claim."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from autoseg.dataset.claims import HARMLESS, refuse_impossible, refuse_too_large
from autoseg.dataset.readers import read_image
from autoseg.errors import ReadError

META = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = {packed}
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = 1 1 1
DimSize = 3000 3000 1000
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""
NRRD = """NRRD0004
type: short
dimension: 3
space: left-posterior-superior
sizes: 3000 3000 1000
space directions: (1,0,0) (0,1,0) (0,0,1)
endian: little
encoding: gzip
space origin: (0,0,0)

"""


def nifti(path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((3000, 3000, 1000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(gzip.compress(header.binaryblock + bytes(1000)))


def png(path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    packed = chunk(b"IDAT", zlib.compress(bytes(100)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + packed + chunk(b"IEND", b""))


def tiff(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((10, 10), np.uint8), compression="zlib", metadata=None)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for name in ("ImageWidth", "ImageLength"):
            struct.pack_into("<I", content, file.pages[0].tags[name].valueoffset, 60_000)
    path.write_bytes(content)


WRITERS = {
    "a.nii.gz": nifti,
    "a.mha": lambda path: path.write_bytes(META.format(packed="True").encode() + zlib.compress(bytes(1000))),
    "a.nrrd": lambda path: path.write_bytes(NRRD.encode() + gzip.compress(bytes(1000))),
    "a.png": png,
    "a.tif": tiff,
}


@pytest.mark.parametrize("name", WRITERS)
def test_claims_beyond_the_bytes_are_refused_without_their_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    before = psutil.Process().memory_info().rss
    tracemalloc.start()
    try:
        with pytest.raises(ReadError, match=r"header tells of \d.* GB, which \d+ bytes of data cannot hold"):
            read_image([path])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < HARMLESS
    assert psutil.Process().memory_info().rss - before < 4 * HARMLESS


def test_an_honest_bomb_is_no_larger_than_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that do unpack to what the header says: the bound is what this machine can hold."""
    path = tmp_path / "zeros.nii.gz"
    nib.Nifti1Image(np.zeros((512, 512, 160), np.uint8), np.eye(4)).to_filename(path)
    assert read_image([path]).image.size == 512 * 512 * 160

    class Small:
        total = 100 << 20

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Small)
    with pytest.raises(ReadError, match="it takes 168 MB of the 105 MB that there are"):
        read_image([path])


def test_large_pictures_that_are_real_are_read(tmp_path: Path) -> None:
    """Pillow alone would warn of, or refuse, what is larger than a photograph."""
    Image.fromarray(np.zeros((9_500, 9_500), np.uint8)).save(tmp_path / "slide.png")
    assert read_image([tmp_path / "slide.png"]).geometry.shape == (1, 9_500, 9_500)


def test_what_is_small_is_never_refused(tmp_path: Path) -> None:
    refuse_impossible(tmp_path, HARMLESS, 1)
    refuse_too_large(tmp_path, HARMLESS // 4)
    with pytest.raises(ReadError):
        refuse_impossible(tmp_path, HARMLESS + 1, 1)
    with pytest.raises(ReadError):
        refuse_too_large(tmp_path, 1 << 50)


def test_the_same_claim_of_a_file_that_holds_it_is_read_on(tmp_path: Path) -> None:
    """The bound is on what can be, not on what is usual: all zeros pack a thousand to one."""
    path = tmp_path / "zeros.mha"
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((70, 1024, 1024), np.uint8)), str(path), useCompression=True)
    assert path.stat().st_size * 500 < 70 << 20
    assert read_image([path]).image.shape == (1, 70, 1024, 1024)
