from __future__ import annotations

import numpy as np
import pytest

from autoseg.dataset.geometry import affine_rows
from autoseg.pipeline.misplaced import by_headers
from autoseg.records import Geometry, LabelMap

SHAPE = (4, 6, 8)


def grid(matrix: np.ndarray) -> Geometry:
    return Geometry(shape=SHAPE, affine=affine_rows(matrix))


@pytest.mark.parametrize(
    ("axis", "sign", "offset", "expected"),
    [
        (0, 1.0, 2.0, lambda labels: np.pad(labels, ((0, 0), (0, 0), (2, 0)))[:, :, :8]),
        (1, -1.0, 5.0, lambda labels: labels[:, ::-1]),
        (2, 1.0, -1.0, lambda labels: np.pad(labels, ((0, 1), (0, 0), (0, 0)))[1:]),
    ],
    ids=["shifted", "flipped", "shifted along k"],
)
def test_labels_go_where_their_header_puts_them(axis, sign, offset, expected) -> None:
    labels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    matrix = np.eye(4)
    matrix[axis, axis], matrix[axis, 3] = sign, offset
    found = by_headers(LabelMap(labels, grid(matrix)), grid(np.eye(4)))
    np.testing.assert_array_equal(found, expected(labels))
