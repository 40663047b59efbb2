"""What all records share: shapes, spacings, and the base of those that are kept on disk."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Shape = tuple[int, int, int]  # (Z, Y, X) in voxels
Spacing = tuple[float, float, float]  # (Z, Y, X) in mm
Affine = tuple[
    tuple[float, float, float, float],
    tuple[float, float, float, float],
    tuple[float, float, float, float],
    tuple[float, float, float, float],
]

#: Label of voxels outside the nonzero mask in prepared label maps (nnU-Net's convention).
OUTSIDE = -1

#: Most label values of a dataset, background counted: training labels are int16, and one more may mean "ignore".
MOST_LABELS = 32767

#: Slice spacing given to 2D images, in multiples of their largest in-plane spacing (nnU-Net's convention).
FLAT_SPACING_FACTOR = 999.0


class Record(BaseModel):
    """Base of the persisted records: immutable, strict about field names."""

    model_config = ConfigDict(frozen=True, extra="forbid")
