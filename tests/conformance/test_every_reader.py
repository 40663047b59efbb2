"""What every file format promises: masks come back as they were written, and rubbish is our error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.readers import READERS, mask_ending, read_geometry, read_image, read_labels, write_labels
from autoseg.errors import ReadError
from autoseg.records import Affine, Geometry

VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
TURNED: Affine = ((0.0, -0.8, 0.0, 12.0), (0.7, 0.0, 0.0, -4.5), (0.0, 0.0, 2.5, 30.0), (0.0, 0.0, 0.0, 1.0))
PIXELS: Affine = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def grid(ending: str) -> Geometry:
    if ending in VOLUMES:
        return Geometry(shape=(5, 6, 7), affine=TURNED)
    return Geometry(shape=(1, 6, 7), affine=PIXELS, flat=True)


@pytest.mark.parametrize("largest", [1, 255, 65535])
@pytest.mark.parametrize("ending", READERS)
def test_masks_come_back_as_they_were_written(ending: str, largest: int, tmp_path: Path) -> None:
    geometry = grid(ending)
    labels = np.random.default_rng(0).integers(0, largest, geometry.shape, endpoint=True)
    labels.flat[0] = largest
    path = tmp_path / f"mask{mask_ending(Path(f'image{ending}'))}"
    write_labels(path, labels, geometry)
    again = read_labels(path)
    assert again.labels.dtype.kind in "iu"
    assert np.array_equal(again.labels, labels)
    assert again.geometry.flat == geometry.flat
    assert np.allclose(again.geometry.matrix, geometry.matrix, atol=1e-5)
    found, channels = read_geometry(path)
    assert (found.shape, channels) == (geometry.shape, 1)
    image = read_image([path]).image
    assert image.dtype == np.float32
    assert np.array_equal(image[0], labels.astype(np.float32))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"rubbish", bytes(1000), b"\x1f\x8b" + bytes(50)])
@pytest.mark.parametrize("ending", READERS)
def test_rubbish_is_named(ending: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"broken{ending}"
    path.write_bytes(content)
    for read in (lambda: read_image([path]), lambda: read_labels(path), lambda: read_geometry(path)):
        with pytest.raises(ReadError) as caught:
            read()
        assert path.name in str(caught.value)
