"""A label map in a file of its own: what the first stage of a cascade found, on the grid of the second.

<case>.b2nd   the smallest unsigned integers (Z, Y, X), compressed; its metadata tell what it was made from
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from autoseg.files import disk_full, is_disk_full, why_not_written, written_aside
from autoseg.preprocessing.chunks import chunks_and_blocks
from autoseg.preprocessing.entry import StoreError, entry_folder
from autoseg.records import Shape

#: Labels are long runs of one value: the slower codec makes them several times smaller.
_COMPRESSION = {"codec": blosc2.Codec.ZSTD, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}

#: Where in the file its own words stand.
_KEY = "autoseg"


@dataclass(frozen=True, eq=False)
class StoredLabels:
    """A label map on disk."""

    path: Path
    shape: Shape
    made_by: str  # what it was made from, as its writer told
    _array: Any  # blosc2.NDArray
    _checksum: str
    # the library unpacks through one buffer per open array: threads that read the same case take turns
    _lock: Lock = field(default_factory=Lock, repr=False)

    def read(self, box: tuple[slice, slice, slice] | None = None) -> NDArray[np.integer]:
        """The labels inside a box; without one all of them, checked. Raises StoreError where they are damaged."""
        try:
            with self._lock:
                found: NDArray[np.integer] = self._array[... if box is None else box]
        except (RuntimeError, OSError, ValueError) as error:
            raise _damaged(self.path, str(error)) from error
        if box is None and _checksum(found) != self._checksum:
            raise _damaged(self.path, "its checksum does not fit")
        return found


def labels_path(folder: Path, case_id: str) -> Path:
    """The file of a case. Raises StoreError for an id that would lead outside the folder."""
    entry = entry_folder(folder, case_id)
    return entry.with_name(f"{entry.name}.b2nd")


def write_labels(path: Path, labels: NDArray[np.integer], made_by: str, patch_hint: Shape) -> None:
    """Write a label map (Z, Y, X) of values from 0 on, atomically; `patch_hint` sets the size of the chunks.

    Raises DiskFullError where there is no room.
    """
    smallest = np.ascontiguousarray(labels, dtype=np.min_scalar_type(int(labels.max(initial=0))))
    words = json.dumps({"made_by": made_by, "checksum": _checksum(smallest)})
    layout = chunks_and_blocks(smallest.shape, patch_hint, smallest.itemsize)
    try:
        with written_aside(path) as aside:
            stored = blosc2.asarray(smallest, urlpath=str(aside), mode="w", cparams=_COMPRESSION, **layout)
            stored.schunk.vlmeta[_KEY] = words
    except RuntimeError as error:  # how blosc2 reports that a file could not be written
        cause = why_not_written(path.parent, smallest.nbytes)
        if cause is not None and is_disk_full(cause):
            raise disk_full(path, cause=cause) from error
        raise


def open_labels(path: Path) -> StoredLabels:
    """The label map for reading. Raises StoreError if it is missing or damaged."""
    try:
        array = blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
        words = json.loads(array.schunk.vlmeta[_KEY])
        z, y, x = array.shape
        return StoredLabels(path, (z, y, x), words["made_by"], array, words["checksum"])
    except (RuntimeError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, str(error)) from error


def _checksum(labels: NDArray[np.integer]) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels).data).hexdigest()[:16]


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(
        f"the labels of the first stage cannot be read: {why}",
        where=path,
        remedy="Delete the file and run the training of the first stage again: it is made anew.",
    )
