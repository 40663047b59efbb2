from __future__ import annotations

import numpy as np
import pytest

from autoseg.dataset.repairs import may_be_corrected, whole_labels, why_not_corrected
from autoseg.errors import DatasetError
from autoseg.records import Geometry, LabelMap, Labels, Problem

LABELS = Labels(names={"background": 0, "x": 1})
GRID = Geometry(shape=(1, 2, 2), affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))


def whole(*values: float) -> list[int]:
    found = whole_labels(LabelMap(np.reshape(np.float32(values), (1, 2, 2)), GRID), LABELS).labels
    assert found.dtype == np.uint8
    return found.reshape(-1).tolist()


def test_values_near_whole_ones_are_rounded() -> None:
    assert whole(0.001, 0.999, 1.004, -0.002) == [0, 1, 1, 0]


def test_white_is_the_label() -> None:
    assert whole(0, 254.999, 255, 0) == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ((0, 0.5, 1, 1), "up to 0.5 from whole numbers"),
        ((0, np.nan, 1, 1), "not numbers"),
        ((0, 2.001, 1, 1), "not declared: 2"),
    ],
)
def test_what_is_not_known_is_left(values: tuple[float, ...], why: str) -> None:
    with pytest.raises(DatasetError, match=why):
        whole(*values)


def test_only_small_displacements_are_safe() -> None:
    near = Problem(severity="warning", kind="geometry-mismatch", what="", remedy="")
    far = near.model_copy(update={"severity": "error"})
    assert may_be_corrected(near)
    assert not may_be_corrected(far)
    assert "which of the two headers" in why_not_corrected(far)
    assert "must decide" in why_not_corrected(near.model_copy(update={"kind": "some-new-kind"}))
