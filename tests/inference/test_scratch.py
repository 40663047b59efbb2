from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from autoseg.errors import DiskFullError
from autoseg.inference.scratch import scratch_array


def test_zeros_that_leave_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    array = scratch_array(folder, (2, 3, 4), np.uint16)
    assert array.shape == (2, 3, 4)
    assert not array.any()
    array[1, 2] = 7
    assert array.sum() == 28
    del array
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_told_before_it_ends_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(100, 90, 10))
    with pytest.raises(DiskFullError, match="are needed"):
        scratch_array(tmp_path, (100,), np.uint16)
