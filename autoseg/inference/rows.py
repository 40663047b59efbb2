"""Large pictures are worked off row by row, as volumes are slice by slice: their scores never exist as a whole.

The axes of a picture are (Z, Y, X) with Z = 1, and a sliding window lets go of planes along the first. With the rows
first, (Y, 1, X), it lets go of rows. The tiles are the same, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.inference.predictor import LoadedModel
from autoseg.inference.window_sums import SLAB_BYTES
from autoseg.records import Placement

ScalarT = TypeVar("ScalarT", bound=np.generic)
Value = TypeVar("Value")

#: Bytes of the scores of a picture above which it counts as large: 11 million pixels with three labels.
LARGE_BYTES: Final = 4 * SLAB_BYTES


def by_rows(model: LoadedModel, shapes: Sequence[Sequence[int]]) -> bool:
    """Whether prepared images of these shapes (Z, Y, X), one per group, are large pictures that may go row by row.

    Not where a coarse pass or a first stage looks before: they speak of slices.
    """
    large = all(depth == 1 and 4 * model.labels.heads * rows * columns > LARGE_BYTES for depth, rows, columns in shapes)
    flat = all(group.configuration.dimensions == 2 and group.first_stage is None for group in model.groups)
    return large and flat and model.locator is None


def rows_first(image: NDArray[ScalarT]) -> NDArray[ScalarT]:
    """A view (…, Y, 1, X) of a picture (…, 1, Y, X)."""
    return image.swapaxes(-3, -2)


def placed_rows_first(placement: Placement) -> Placement:
    """Where a picture lies whose rows are first."""
    fields = ("axis_order", "transposed_shape", "transposed_spacing", "box", "prepared_shape", "prepared_spacing")
    return placement.model_copy(update={field: swapped(getattr(placement, field)) for field in fields})


def swapped(values: tuple[Value, Value, Value]) -> tuple[Value, Value, Value]:
    """What belongs to the axes (Z, Y, X), in the order (Y, Z, X)."""
    return (values[1], values[0], values[2])
