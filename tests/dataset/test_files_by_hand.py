"""MetaImage, NRRD and GIPL, written and read byte by byte here: our readers go through ITK, no judge of itself."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from autoseg.dataset.compressed import check_compressed
from autoseg.dataset.mask_writers import NRRD
from autoseg.dataset.readers import read_geometry, read_image, read_labels, write_labels
from autoseg.errors import ReadError
from autoseg.records import Case, Geometry, Labels

STORED = np.random.default_rng(0).integers(-1000, 1000, (3, 4, 5)).astype("<i2")
#: From indices (i, j, k) to left, back, up: axes permuted and flipped, spacings 0.5, 0.75 and 2 mm.
LPS = np.array([[0, -0.75, 0, 10], [0.5, 0, 0, -20], [0, 0, 2.0, 30], [0, 0, 0, 1]])
RAS = np.diag([-1.0, -1.0, 1.0, 1.0]) @ LPS


def meta_image(path: Path) -> None:
    directions = "0 1 0 -1 0 0 0 0 1"  # the direction of i, then of j, then of k
    packed = zlib.compress(STORED.tobytes())
    head = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\n"
        f"CompressedDataSize = {len(packed)}\n"
        f"TransformMatrix = {directions}\nOffset = 10 -20 30\nElementSpacing = 0.5 0.75 2\nDimSize = 5 4 3\n"
        f"ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(head.encode() + packed)


def nrrd(path: Path) -> None:
    head = (
        "NRRD0004\ntype: int16\ndimension: 3\nspace: left-posterior-superior\nsizes: 5 4 3\n"
        "space directions: (0,0.5,0) (-0.75,0,0) (0,0,2)\nkinds: domain domain domain\nendian: little\n"
        "encoding: gzip\nspace origin: (10,-20,30)\n\n"
    )
    path.write_bytes(head.encode() + gzip.compress(STORED.tobytes()))


@pytest.mark.parametrize(("name", "write"), [("a.mha", meta_image), ("a.nrrd", nrrd)])
def test_files_written_by_hand_are_read(name: str, write: object, tmp_path: Path) -> None:
    assert callable(write)
    write(tmp_path / name)
    volume = read_image([tmp_path / name])
    assert volume.geometry.has_sides
    np.testing.assert_array_equal(volume.image[0], STORED)
    np.testing.assert_allclose(volume.geometry.matrix, RAS)


def test_nrrd_without_a_space_tells_no_sides(tmp_path: Path) -> None:
    head = "NRRD0004\ntype: int16\ndimension: 3\nsizes: 5 4 3\nspacings: 0.5 0.75 2\nendian: little\nencoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + STORED.tobytes())
    volume = read_image([tmp_path / "a.nrrd"])
    np.testing.assert_array_equal(volume.image[0], STORED)
    assert volume.geometry.spacing == (2.0, 0.75, 0.5)
    assert not volume.geometry.has_sides
    assert read_geometry(tmp_path / "a.nrrd")[0] == volume.geometry


def test_gipl_written_by_hand_is_read(tmp_path: Path) -> None:
    head = bytearray(256)
    struct.pack_into(">4H", head, 0, 5, 4, 3, 1)
    struct.pack_into(">H", head, 8, 15)  # 16-bit integers
    struct.pack_into(">4f", head, 10, 0.5, 0.75, 2.0, 1.0)
    struct.pack_into(">4d", head, 204, 10.0, -20.0, 30.0, 0.0)
    struct.pack_into(">I", head, 252, 719555000)
    (tmp_path / "a.gipl").write_bytes(bytes(head) + STORED.astype(">i2").tobytes())
    volume = read_image([tmp_path / "a.gipl"])
    assert not volume.geometry.has_sides  # the format has no directions
    np.testing.assert_array_equal(volume.image[0], STORED)
    assert volume.geometry.spacing == (2.0, 0.75, 0.5)
    np.testing.assert_allclose(volume.geometry.matrix[:3, 3], (-10, 20, 30))


MASK = np.random.default_rng(1).integers(0, 4, (3, 4, 5)).astype(np.uint8)
GRID = Geometry(shape=(3, 4, 5), affine=tuple(tuple(row) for row in RAS.tolist()))


def test_a_meta_image_mask_read_by_hand(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.mha", MASK, GRID)
    head, _, content = (tmp_path / "a.mha").read_bytes().partition(b"ElementDataFile = LOCAL\n")
    fields = dict(line.split(" = ", 1) for line in head.decode().splitlines())
    assert fields["DimSize"] == "5 4 3"
    assert fields["ElementType"] == "MET_UCHAR"
    found = np.frombuffer(zlib.decompress(content), np.uint8).reshape(3, 4, 5)
    np.testing.assert_array_equal(found, MASK)
    directions = np.array(fields["TransformMatrix"].split(), float).reshape(3, 3).T
    matrix = directions * np.array(fields["ElementSpacing"].split(), float)
    np.testing.assert_allclose(matrix, LPS[:3, :3], atol=1e-9)
    np.testing.assert_allclose(np.array(fields["Offset"].split(), float), LPS[:3, 3])


def test_an_nrrd_mask_read_by_hand(tmp_path: Path) -> None:
    labels = Labels(names={"background": 0, "a": 1, "b c": 2, "d": 3})
    NRRD.write(tmp_path / "a.seg.nrrd", MASK, GRID, Case(id="a", images=(tmp_path / "x.nii.gz",)), labels)
    head, _, content = (tmp_path / "a.seg.nrrd").read_bytes().partition(b"\n\n")
    lines = [line for line in head.decode().splitlines()[1:] if not line.startswith("#")]
    fields = dict(line.split(": ", 1) for line in lines if ":=" not in line)
    keys = dict(line.split(":=", 1) for line in lines if ":=" in line)
    assert (fields["sizes"], fields["space"]) == ("5 4 3", "left-posterior-superior")
    found = np.frombuffer(gzip.decompress(content), np.uint8).reshape(3, 4, 5)
    np.testing.assert_array_equal(found, MASK)
    vectors = [[float(part) for part in one.strip("()").split(",")] for one in fields["space directions"].split()]
    np.testing.assert_allclose(np.array(vectors).T, LPS[:3, :3], atol=1e-9)
    assert [keys[f"Segment{number}_Name"] for number in range(3)] == ["a", "b c", "d"]


def test_a_mask_read_back_by_our_reader_is_the_same(tmp_path: Path) -> None:
    for name in ("a.mha", "a.nrrd"):
        write_labels(tmp_path / name, MASK, GRID)
        np.testing.assert_array_equal(read_labels(tmp_path / name).labels, MASK)


# ------------------------------------------------------------------------------------------- damaged compressed data


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.gipl.gz"])
def test_one_damaged_byte_anywhere_is_found(name: str, tmp_path: Path) -> None:
    """ITK alone reads a MetaImage file with a damaged stream without a word, and with other voxels."""
    large = np.random.default_rng(0).integers(-1000, 1000, (8, 20, 30)).astype(np.int16)
    path = tmp_path / name
    sitk.WriteImage(sitk.GetImageFromArray(large), str(path), useCompression=True)
    np.testing.assert_array_equal(read_image([path]).image[0], large)
    data = path.with_suffix(".zraw") if name.endswith(".mhd") else path
    content = data.read_bytes()
    start = {"a.mha": content.find(b"LOCAL\n") + 6, "a.nrrd": content.find(b"\n\n") + 12}.get(name, 12)
    for place in np.linspace(start, len(content) - 1, 25).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        data.write_bytes(damaged)
        with pytest.raises(ReadError, match=r"damaged|cannot be read"):
            read_image([path])
    for cut in (1, 7, 1000):
        data.write_bytes(content[:-cut])
        with pytest.raises(ReadError):
            read_image([path])


def test_a_size_that_is_not_told_is_asked_for(tmp_path: Path) -> None:
    meta_image(tmp_path / "a.mha")
    content = (tmp_path / "a.mha").read_bytes()
    lines = [line for line in content.split(b"\n", 6) if not line.startswith(b"CompressedDataSize")]
    (tmp_path / "a.mha").write_bytes(b"\n".join(lines))
    with pytest.raises(ReadError, match="CompressedDataSize"):
        read_image([tmp_path / "a.mha"])


def test_more_data_than_told_is_damage(tmp_path: Path) -> None:
    nrrd(tmp_path / "a.nrrd")
    check_compressed(tmp_path / "a.nrrd", STORED.nbytes)
    for other in (STORED.nbytes - 1, STORED.nbytes + 1):
        with pytest.raises(ReadError, match="damaged"):
            check_compressed(tmp_path / "a.nrrd", other)
