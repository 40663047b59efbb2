"""Reading and preparing take no more than is told from the header, which is not told far too high either."""

from __future__ import annotations

import gc
import math
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from inference_builders import STATISTICS
from PIL import Image

from autoseg.dataset.readers import decoded_bytes, read_geometry
from autoseg.inference.memory import reading_bytes
from autoseg.inference.preparing import Preparing, expected_grid
from autoseg.inference.reading import ReadTask, read_case
from autoseg.records import Case, Labels, Preparation, TrainingData

LABELS = Labels(names={"background": 0, "grey": 1})

#: Numpy's, for one strip of a picture, one sample of the intensities, and the like.
BESIDE = 40_000_000


@dataclass(frozen=True)
class Kind:
    """An image, and how it is prepared."""

    ending: str
    channels: int = 1
    margin: float = 0.0  # share of each axis that is dark at either end
    turned: bool = False
    spacing: tuple[float | None, float, float] = (None, 1.0, 1.0)
    masked: bool = False
    scheme: str = "ZScoreNormalization"


KINDS = {
    "colours": Kind(".png", 3),
    "colours, margin": Kind(".png", 3, margin=0.05),
    "colours, wide margin": Kind(".png", 3, margin=0.2),
    "colours, resampled": Kind(".png", 3, spacing=(None, 0.8, 0.8)),
    "colours, masked": Kind(".png", 3, margin=0.05, masked=True),
    "grey": Kind(".png", margin=0.05),
    "jpeg": Kind(".jpg", 3),
    "tiff": Kind(".tif", 3, margin=0.05),
    "volume": Kind(".nii.gz", margin=0.02, spacing=(1.0, 1.0, 1.0)),
    "volume, CT": Kind(".nii.gz", spacing=(1.0, 1.0, 1.0), scheme="CTNormalization"),
    "volume, turned": Kind(".nii.gz", margin=0.02, turned=True, spacing=(1.0, 1.0, 1.0)),
    "volume, resampled": Kind(".nii.gz", turned=True, spacing=(0.9, 0.9, 0.9)),
    "volume, masked": Kind(".nii.gz", margin=0.02, spacing=(1.0, 1.0, 1.0), masked=True),
}


VOLUME, PICTURE = (200, 220, 240), (1900, 2000)


def written(kind: Kind, folder: Path, *, small: bool = False) -> Path:
    """An image, if not small of some ten million numbers."""
    path = folder / f"image{kind.ending}"
    shape = tuple(size // (20 if small else 1) for size in (VOLUME if kind.ending == ".nii.gz" else PICTURE))
    image = np.random.default_rng(0).integers(1, 255, size=(*shape, kind.channels), dtype=np.uint8)
    for axis, size in enumerate(shape):
        dark = round(kind.margin * size)
        swapped = image.swapaxes(0, axis)
        swapped[:dark], swapped[size - dark :] = 0, 0
    image = image[..., 0] if kind.channels == 1 else image
    if kind.ending == ".nii.gz":
        affine = np.diag([-1.0, -1.0, 1.0, 1.0] if kind.turned else [1.0] * 4)
        nibabel.save(nibabel.Nifti1Image(image, affine), path)  # type: ignore[attr-defined]
    elif kind.ending == ".tif":
        tifffile.imwrite(path, image, photometric="rgb", compression="zlib")
    else:
        Image.fromarray(image).save(path, compress_level=1)
    return path


@pytest.fixture(scope="module", autouse=True)
def _imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the first reading of a format imports is the program's, not the case's."""
    for ending in (".png", ".jpg", ".tif", ".nii.gz"):
        kind = Kind(ending, 1 if ending == ".nii.gz" else 3, spacing=(None, 0.8, 0.8))
        read(kind, written(kind, tmp_path_factory.mktemp("small"), small=True))


def preparation(kind: Kind) -> Preparation:
    return Preparation(
        spacing=kind.spacing,
        normalization=(kind.scheme,) * kind.channels,
        use_mask_for_normalization=(kind.masked,) * kind.channels,
        intensities=(STATISTICS,) * kind.channels,
        labels=LABELS,
    )


def read(kind: Kind, path: Path) -> None:
    preparing = Preparing(
        tuple("abc"[: kind.channels]), may_lack=False, preparations=(preparation(kind),), training=TrainingData()
    )
    read_case(ReadTask(Case(id="a", images=(path,)), preparing, path.parent))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_no_more_is_taken_than_is_told(kind: Kind, tmp_path: Path) -> None:
    path, prepares = written(kind, tmp_path), preparation(kind)
    geometry, _ = read_geometry(path)
    grid = expected_grid(geometry, prepares)
    told = reading_bytes(grid, prepares, decoded_bytes((path,)))
    gc.collect()
    tracemalloc.start()
    read(kind, path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # the last channel's place among the resampled ones counts here, though it takes no memory before it is written to
    untouched = 4 * math.prod(grid.prepared) if grid.resampled else 0
    assert most <= told + BESIDE + untouched
    assert told <= 2 * most  # a bound that refuses what would fit is of no use


@pytest.mark.parametrize(("mode", "a_pixel"), [("RGB", 4), ("RGBA", 4), ("L", 1), ("P", 1), ("I;16", 2), ("LA", 4)])
def test_pixels_of_a_picture_while_it_is_read(mode: str, a_pixel: int, tmp_path: Path) -> None:
    Image.new(mode, (30, 20)).save(tmp_path / "a.png")
    assert decoded_bytes((tmp_path / "a.png",)) == a_pixel * 600


def test_a_jpeg_in_several_passes_is_held_by_its_decoder(tmp_path: Path) -> None:
    for name in ("plain", "progressive"):
        Image.new("RGB", (30, 20)).save(tmp_path / f"{name}.jpg", progressive=name == "progressive")
    assert decoded_bytes((tmp_path / "plain.jpg",)) == 4 * 600
    assert decoded_bytes((tmp_path / "progressive.jpg",)) == 10 * 600


@pytest.mark.parametrize(("dtype", "a_number"), [("uint8", 1), ("uint16", 2), ("float16", 4), ("float64", 8)])
def test_numbers_of_a_tiff_while_it_is_read(dtype: str, a_number: int, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30), dtype), photometric="minisblack")
    assert decoded_bytes((tmp_path / "a.tif",)) == a_number * 600


def test_of_volumes_and_of_several_files_eight_bytes_a_number_are_taken_for_granted(tmp_path: Path) -> None:
    path = written(Kind(".nii.gz"), tmp_path)
    assert decoded_bytes((path,)) is None
    assert decoded_bytes((path, path)) is None
    grid = expected_grid(read_geometry(path)[0], preparation(Kind(".nii.gz")))
    assert reading_bytes(grid, preparation(Kind(".nii.gz")), None) >= 12 * math.prod(VOLUME)
