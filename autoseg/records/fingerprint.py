"""What the data look like."""

from __future__ import annotations

from pydantic import Field

from autoseg.records.base import Record, Shape, Spacing
from autoseg.records.labels import Labels


class IntensityStatistics(Record):
    """Foreground intensities of one channel, every case counting alike (nnU-Net, facts section 2)."""

    mean: float
    median: float
    std: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float


class CaseFingerprint(Record):
    """What one case looks like, in the orientation that preparation will use."""

    case: str
    shape: Shape
    spacing: Spacing
    shape_after_crop: Shape
    orientation: str  # axes of the file as stored, nibabel's letters: "RAS", "LPS"; "flat" for 2D images
    voxels_per_label: dict[str, int]  # label name -> voxels
    intensity_range: tuple[tuple[float, float], ...] = ()  # (min, max) per channel, whole image
    quantiles: tuple[tuple[float, ...], ...] = ()  # per channel, of what is not zero; see arrays.quantiles
    label_centres: dict[str, tuple[float, float, float]] = Field(default_factory=dict)  # (Z, Y, X), 0..1 of the crop
    label_extents: dict[str, Shape] = Field(default_factory=dict)  # edges of the label's bounding box, in voxels
    annotated: tuple[str, ...] | None = None  # labels that were drawn; None: all
    content: str = ""  # hash of the voxels that no flip, transposition or change of header alters

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml, as `Geometry.voxel_ml` has it: a pixel of a 2D image counts as 1 mm thick."""
        z, y, x = self.spacing
        return (1.0 if self.orientation == "flat" else z) * y * x / 1000.0


class Fingerprint(Record):
    """What a dataset looks like: all that planning knows about it."""

    format: int = 1
    dataset: str
    channels: tuple[str, ...]
    labels: Labels
    cases: tuple[CaseFingerprint, ...]
    intensities: tuple[IntensityStatistics, ...]  # per channel
    median_relative_size_after_cropping: float
    labels_with_entries: int  # entries of the labels table, ignore and background counted: enters the memory estimate
    cases_declared: int  # numTraining: enters the batch cap
