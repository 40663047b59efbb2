"""Scores on another grid, the long way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.resample import axis_operator

Shape = tuple[int, int, int]


def interpolated(scores: NDArray[np.float32], shape: Shape, orders: Sequence[Literal[0, 1]]) -> NDArray[np.float64]:
    """All scores on the new grid, in double precision."""
    values = scores.astype(np.float64)
    for axis, (size, order) in enumerate(zip(shape, orders, strict=True), start=1):
        operator = axis_operator(values.shape[axis], size, order)
        values = np.moveaxis(np.tensordot(operator, values, (1, axis)), 0, axis)
    return values
