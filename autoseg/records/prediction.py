"""How a model is applied to an image."""

from __future__ import annotations

from pydantic import Field

from autoseg.records.base import Record


class PredictSettings(Record):
    """What decides a mask beside the model, its precision and the image; equal settings give equal masks."""

    step: float = Field(default=0.5, gt=0, le=1)  # distance of neighbouring tiles, as a share of the patch
    mirror: bool = True  # average over mirrored copies along the axes that the model was trained with


#: What nnU-Net does: tiles that overlap by half, and mirroring.
BEST_PREDICTION = PredictSettings()
