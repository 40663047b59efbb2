"""A case in network space, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.records.base import Record, Shape, Spacing
from autoseg.records.dataset import Geometry


class Placement(Record):
    """All that undoing a preparation needs, in the order in which it was done.

    file (k, j, i) --axes, flips--> oriented --axis_order--> transposed --box--> cropped --resampled--> prepared
    """

    geometry: Geometry  # of the file
    orientation_axes: tuple[int, int, int]  # oriented axis a is stored axis orientation_axes[a]
    orientation_flips: tuple[bool, bool, bool]  # then flipped along oriented axis a
    axis_order: tuple[int, int, int]
    transposed_shape: Shape
    transposed_spacing: Spacing
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # half-open, in transposed axes
    prepared_shape: Shape
    prepared_spacing: Spacing
    slice_order: Literal[0, 1] = 0  # of scores on the way back, along an axis much coarser than the others

    @property
    def cropped_shape(self) -> Shape:
        """Shape of the crop box."""
        (z0, z1), (y0, y1), (x0, x1) = self.box
        return (z1 - z0, y1 - y0, x1 - x0)


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case in network space."""

    case: str
    image: NDArray[np.float32]  # (C, Z, Y, X)
    labels: NDArray[np.int16] | None  # (Z, Y, X) training labels, OUTSIDE = -1, ignore = labels.ignore_index
    locations: Mapping[str, NDArray[np.int32]]  # foreground name -> (N, 3), see `preprocessing.locations`
    placement: Placement
