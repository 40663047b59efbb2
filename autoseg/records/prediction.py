"""How a model is applied to an image."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.records.base import Record


class PredictSettings(Record):
    """What decides a mask beside the model, its precision and the image; equal settings give equal masks."""

    step: float = Field(default=0.5, gt=0, le=1)  # distance of neighbouring tiles, as a share of the patch
    mirror: bool = True  # average over mirrored copies along the axes that the model was trained with
    members: tuple[str, ...] = ()  # names of the networks to average; first stages of cascades follow. () is all
    labels: tuple[str, ...] = ()  # labels that masks hold, by name; all others become background. () is all
    roi: bool = False  # find the region of interest in a coarse pass, and predict within it only
    engine: str = "torch"  # what computes the networks, see `inference.engines`: masks may differ by a voxel
    post_process: bool = True  # what the model's file says is to be done to masks


class SpeedMode(Record):
    """One way to predict, with what was measured of it on held-out cases; None and 0 where nothing was."""

    name: str  # "fast", "balanced" or "best"
    settings: PredictSettings
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = ""  # that it was measured on, in words: `devices.describe`
    cases: int = Field(default=0, ge=0)  # held-out cases that were measured
    seconds_per_case: float | None = Field(default=None, gt=0)  # mean wall time, reading and writing included
    seconds_per_million_voxels: float | None = Field(default=None, gt=0)  # the network's, per prepared (Z, Y, X) voxels
    mean_dice: float | None = Field(default=None, ge=0, le=1)  # mean over cases and labels, as in a summary


#: What nnU-Net does: tiles that overlap by half, and mirroring.
BEST_PREDICTION = PredictSettings()


class PredictLimits(Record):
    """What predicting may take of the machine; it decides time and memory, never a mask."""

    max_ram_bytes: int | None = Field(default=None, gt=0)  # all processes together; None: what is free
    workers: int | None = Field(default=None, ge=0)  # processes that read; 0: this one reads. None: as cases ask for


#: What the machine has free.
NO_LIMITS = PredictLimits()
