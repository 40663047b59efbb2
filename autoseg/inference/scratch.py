"""Arrays that may be larger than memory: in a nameless file, which goes with the last who uses it, even on a kill."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.files import ASIDE_PREFIX, disk_full, is_disk_full


def scratch_array(folder: Path, shape: Sequence[int], dtype: type[np.generic]) -> NDArray[Any]:
    """An array of zeros on the disk of a folder. Raises DiskFullError where it does not fit.

    The room is taken at once: a disk that fills up later would end the program when a page is written back.
    """
    needed = max(1, math.prod(shape) * np.dtype(dtype).itemsize)
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < needed:
        raise disk_full(folder / "scratch", needed)
    with tempfile.TemporaryFile(dir=folder, prefix=ASIDE_PREFIX) as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, needed)
            except OSError as error:  # a file system that cannot promise room: the free space was looked at
                if is_disk_full(error):
                    raise disk_full(folder / "scratch", needed) from error
        return np.memmap(file, dtype=dtype, mode="w+", shape=tuple(shape))
