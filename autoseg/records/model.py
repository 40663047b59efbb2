"""What is trained, and what a training says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from autoseg.records.base import Record
from autoseg.records.labels import Labels
from autoseg.records.plan import Configuration
from autoseg.records.prediction import SpeedMode
from autoseg.records.receipt import Receipt
from autoseg.records.selection import Calibration, Card, KeepLargest
from autoseg.records.training_data import TrainingData
from autoseg.records.trust import ExpectedDice


class Member(Record):
    """One trained network inside a model file; its tensors are called `<name>/<tensor>`."""

    name: str  # "3d_fullres.fold_0"
    configuration: Configuration
    mirror_axes: tuple[int, ...]
    previous_stage: str | None = None
    half_sums: bool = False  # tiles are summed in half precision, as nnU-Net does: for models trained there


class ModelHeader(Record):
    """What a model file says of itself, beside the tensors. Earlier formats are read too (`model_file`)."""

    format: int = 2
    channels: tuple[str, ...]
    labels: Labels
    members: tuple[Member, ...]
    combine: Literal["scores", "probabilities"] = "scores"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # to predict in, unless asked otherwise
    fingerprint: TrainingData = TrainingData()
    plugins: tuple[str, ...] = ()  # modules that its networks need
    channel_dropout: float = 0.0  # above 0: it has learned to do without a channel
    ended_early: str = ""  # "ended early at step 1200 by Ctrl-C": its training could have gone on
    speeds: tuple[SpeedMode, ...] = ()  # ways to predict, as `autoseg select` measured them
    versions: dict[str, str] = Field(default_factory=dict)
    receipt: Receipt | None = None  # what it was made with; without seconds: equal models are equal bytes
    post_processing: tuple[KeepLargest, ...] = ()  # done to every mask, in this order
    calibration: Calibration | None = None
    card: Card | None = None
    expected_dice: ExpectedDice | None = None  # None: it cannot tell


@dataclass(frozen=True, eq=False)
class EpochRecord:
    """One line of metrics.jsonl."""

    epoch: int
    step: int
    seconds: float  # wall time of the run so far, resumed parts counted
    data_wait: float  # share of the epoch spent waiting for data, 0..1
    learning_rate: float
    train_loss: float
    patch_dice: float | None  # online Dice over patches: a proxy, not the full-volume figure
    patch_dice_per_label: Mapping[str, float | None] = field(default_factory=dict)
    steps_per_second: float = 0.0  # of this epoch, all included
    phase: Literal["train", "cool-down"] = "train"  # a cool-down is how a run is ended before its time
