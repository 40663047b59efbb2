from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.preprocessing.entry import StoreError
from autoseg.preprocessing.label_store import labels_path, open_labels, write_labels


def a_map(highest: int = 3) -> np.ndarray:
    labels = np.zeros((20, 30, 25), dtype=np.int64)
    labels[5:15, 8:20, 4:18] = 1
    labels[7:10, 9:12, 5:9] = highest
    return labels


@pytest.mark.parametrize(("highest", "kind"), [(3, np.uint8), (300, np.uint16)])
def test_what_is_written_is_read(tmp_path: Path, highest: int, kind: type) -> None:
    path = labels_path(tmp_path / "next_stage", "case_01")
    write_labels(path, a_map(highest), "abc", (8, 8, 8))
    stored = open_labels(path)
    assert (stored.shape, stored.made_by) == ((20, 30, 25), "abc")
    assert stored.read().dtype == kind
    np.testing.assert_array_equal(stored.read(), a_map(highest))
    box = (slice(6, 14), slice(0, 9), slice(20, 25))
    np.testing.assert_array_equal(stored.read(box), a_map(highest)[box])
    assert path.stat().st_size < 3000
    assert [entry.name for entry in path.parent.iterdir()] == ["case_01.b2nd"]


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    path = labels_path(tmp_path, "case_01")
    with pytest.raises(StoreError, match="case_01"):
        open_labels(path)
    write_labels(path, a_map(), "abc", (8, 8, 8))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match="case_01"):
        open_labels(path).read()
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(StoreError, match="case_01"):
        open_labels(path)
    with pytest.raises(StoreError, match="cannot be the name"):
        labels_path(tmp_path, "../case")
