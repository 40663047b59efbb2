"""One binary mask per object, for programs that want (N, Z, Y, X): in memory, or in a file that NumPy reads."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import PredictionError
from autoseg.files import written_aside
from autoseg.records import FoundObject

#: What such files are called among the maps of a case, and the folder that they lie in.
OBJECT_MASKS: Final = "object_masks"

#: Bytes of unpacked masks above which no file of them is written: nobody could load it.
MOST_BYTES: Final = 10**11


def object_masks(ids: NDArray[np.integer]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Each id with the binary mask (Z, Y, X) of its object, one at a time: stacked they are (N, Z, Y, X)."""
    for number in np.unique(ids[ids > 0]):
        yield int(number), ids == number


def stacked_masks(ids: NDArray[np.integer], objects: Sequence[FoundObject]) -> NDArray[np.bool_]:
    """(N, Z, Y, X) masks of the objects, in their order."""
    found = np.zeros((len(objects), *ids.shape), dtype=np.bool_)
    for mask, one in zip(found, objects, strict=True):
        box = _box(one)
        np.equal(ids[box], one.id, out=mask[box])
    return found


def object_masks_path(case_id: str, folder: Path) -> Path:
    """Where the masks of a case's objects lie, below the folder of its mask."""
    return folder / OBJECT_MASKS / f"{case_id}.npz"


def write_object_masks(path: Path, ids: NDArray[np.integer], objects: Sequence[FoundObject]) -> None:
    """Write the masks (N, Z, Y, X) of objects as "masks" of a compressed .npz file, with "ids" and "labels" (N,).

    Axes are those of the file of ids, as stored. They are made plane by plane, so that N may be large. Raises
    PredictionError where they would fill more than `MOST_BYTES` once they are read.
    """
    shape = (len(objects), *ids.shape)
    if math.prod(shape) > MOST_BYTES:
        raise PredictionError(
            f"one mask for each of {len(objects)} objects would take {math.prod(shape) / 1e9:.0f} GB",
            where=path,
            remedy="Use the map of ids: it holds the same in one mask.",
        )
    with written_aside(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        with _entry(archive, "ids") as file:
            np.save(file, np.array([one.id for one in objects], dtype=np.int64))
        with _entry(archive, "labels") as file:
            np.save(file, np.array([one.label for one in objects], dtype=np.str_))
        with _entry(archive, "masks") as file:
            header = {"descr": "|b1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(file, header)
            for one in objects:
                _write_mask(file, ids, one)


def _write_mask(file: IO[bytes], ids: NDArray[np.integer], one: FoundObject) -> None:
    first, *box = _box(one)
    plane = np.zeros(ids.shape[1:], dtype=np.bool_)
    nothing = plane.tobytes()
    for number, own in enumerate(ids):
        if not first.start <= number < first.stop:
            file.write(nothing)
            continue
        np.equal(own[tuple(box)], one.id, out=plane[tuple(box)])
        file.write(plane.tobytes())


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """An array's place in the archive; without the time of day, so that equal masks are equal bytes."""
    entry = zipfile.ZipInfo(f"{name}.npy")
    entry.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(entry, "w", force_zip64=True)


def _box(one: FoundObject) -> tuple[slice, slice, slice]:
    first, second, third = (slice(*side) for side in one.box)
    return first, second, third
