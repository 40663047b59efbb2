"""Arrays on their way from one process to another, as files: no shared memory is needed, and no process holds them.

Pages of a file that is mapped are no process's own memory: the system lets go of them when it needs the room.
"""

from __future__ import annotations

import shutil
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.files import ASIDE_PREFIX, disk_full, is_disk_full


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, on its way from one process to another."""

    path: Path
    shape: tuple[int, ...]
    dtype: str


class SpillFolder:
    """A folder for arrays in files, made when the first is; `close` removes it. Any thread may use it.

    It has to be on a disk (one in memory would gain nothing), so it lies beside the masks.
    """

    def __init__(self, beside: Path) -> None:
        self._folder = beside / f"{ASIDE_PREFIX}{uuid.uuid4().hex[:12]}-arrays"
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """The folder, which exists from now on."""
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def close(self) -> None:
        """Remove the folder and all that is left in it."""
        shutil.rmtree(self._folder, ignore_errors=True)


def store(array: NDArray[np.generic], folder: Path) -> StoredArray:
    """The array written to a file of its own in a folder. Raises DiskFullError."""
    path = folder / uuid.uuid4().hex
    try:
        with open(path, "wb") as file:
            file.write(np.ascontiguousarray(array).data)
    except OSError as error:
        path.unlink(missing_ok=True)
        if is_disk_full(error):
            raise disk_full(path, array.nbytes) from error
        raise
    return StoredArray(path, array.shape, array.dtype.str)


def take(stored: StoredArray) -> NDArray[np.generic]:
    """The stored array, mapped; its file is gone when the array is. What is written into it stays in memory."""
    array = np.memmap(stored.path, dtype=stored.dtype, mode="c", shape=stored.shape)
    _forget(stored.path)
    return array


def _forget(path: Path) -> None:
    """Remove the name of a file that is mapped; where the system refuses, it goes with its folder."""
    with suppress(OSError):
        path.unlink()
