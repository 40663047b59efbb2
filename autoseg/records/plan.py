"""What to do about the data: configurations, training settings, and the reasons."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.errors import PlanError
from autoseg.records.base import Record
from autoseg.records.fingerprint import IntensityStatistics
from autoseg.records.labels import Labels


class Reason(Record):
    """Why a derived number is what it is."""

    field: str  # "3d_fullres.patch_size"
    value: str
    because: str  # the rule and the numbers that entered it
    instead: str = ""  # the alternative that it beat, and why
    constant: bool = False  # the preset's own, whatever the data: tables need not show it


class Preparation(Record):
    """All that decides the bytes of a prepared case; the prepared folder is named by its hash.

    `spacing` is in prepared axis order; None keeps the case's own spacing along that axis (slices of 2D plans).
    `slice_order` decides no byte of it, but how scores come back: the order of interpolation along an axis that is much
    coarser than the others. With 0, nnU-Net's, slices thinner than those of the plan are copies of one another.
    """

    orientation: Literal["ras", "stored"] = "ras"
    axis_order: tuple[int, int, int] = (0, 1, 2)  # prepared axis a is axis axis_order[a] of the oriented array
    spacing: tuple[float | None, float, float]
    normalization: tuple[str, ...]  # per channel: names in arrays.normalize.NORMALIZATIONS
    use_mask_for_normalization: tuple[bool, ...]
    intensities: tuple[IntensityStatistics, ...]
    labels: Labels
    image_order: Literal[0, 1, 3] = 3  # spline order of image resampling
    label_order: Literal[0, 1] = 1
    slice_order: Literal[0, 1] = 0


class NetworkSpec(Record):
    """What a builder of `networks.catalog.NETWORKS` needs. Per-axis entries have `dimensions` numbers."""

    network: str
    dimensions: Literal[2, 3]
    channels: int
    heads: int
    strides: tuple[tuple[int, ...], ...]  # per stage, the first all ones
    kernel_sizes: tuple[tuple[int, ...], ...]
    features_per_stage: tuple[int, ...]
    blocks_per_stage: tuple[int, ...]  # convolutions (unet) or residual blocks (resenc)
    blocks_per_stage_decoder: tuple[int, ...]
    deep_supervision: bool = True
    patch_size: tuple[int, ...] = ()  # for networks with positions or windows; empty where nothing depends on it


class Configuration(Record):
    """One way to train on the data: complete, nothing inherited. 2D entries have two numbers per axis field."""

    name: str
    dimensions: Literal[2, 3]
    preparation: Preparation
    spacing: tuple[float, ...]
    median_shape: tuple[float, ...]  # median prepared shape, in voxels
    patch_size: tuple[int, ...]
    batch_size: int
    network: str
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    features_per_stage: tuple[int, ...]
    blocks_per_stage: tuple[int, ...]
    blocks_per_stage_decoder: tuple[int, ...]
    batch_dice: bool
    steps_per_epoch: int
    epochs: int  # of a whole training, unless the run says otherwise
    previous_stage: str | None = None
    next_stage: str | None = None

    def network_spec(self, channels: int, heads: int, deep_supervision: bool = True) -> NetworkSpec:
        """The network of this configuration for so many input channels and outputs."""
        return NetworkSpec(
            network=self.network,
            dimensions=self.dimensions,
            channels=channels,
            heads=heads,
            strides=self.strides,
            kernel_sizes=self.kernel_sizes,
            features_per_stage=self.features_per_stage,
            blocks_per_stage=self.blocks_per_stage,
            blocks_per_stage_decoder=self.blocks_per_stage_decoder,
            deep_supervision=deep_supervision,
            patch_size=self.patch_size,
        )


class TrainSettings(Record):
    """How long, how fast, which loss: what may differ between two runs of one plan."""

    epochs: int = Field(ge=1)
    budget_seconds: float | None = Field(default=None, gt=0)  # wall time; the schedule then follows the clock
    patience: int = Field(default=0, ge=0)  # epochs without improvement after which the run is ended; 0 is off
    optimizer: str = "adamw"  # name in training.schedule.OPTIMIZERS
    learning_rate: float = Field(gt=0)
    momentum: float = 0.99
    weight_decay: float = Field(ge=0)
    warmup_steps: int = 0
    schedule: str = "poly"  # name in training.schedule.SCHEDULES
    decay_power: float = 0.9  # of poly
    loss: str = "dice_ce"  # name in training.losses.LOSSES
    foreground_share: float = Field(default=0.33, ge=0, le=1)
    augmentation: str = "nnunet"  # name in training.augmentation.AUGMENTATIONS
    gradient_clip: float = 12.0
    ema_decay: float = Field(default=0.0, ge=0, lt=1)  # 0 is off
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    sampling: Literal["foreground", "balanced", "small"] = "foreground"  # see training.focus
    channel_dropout: float = Field(default=0.0, ge=0, lt=1)  # chance of each channel of a sample to be zeros
    initial: str | None = None  # hash of the model file whose weights it begins with (--init)
    plugins: tuple[str, ...] | None = None  # modules given by --use, beside the plan's


class Plan(Record):
    """What to do about the data, with the reasons."""

    format: int = 1
    name: str = "default"
    dataset: str
    preset: str
    channels: tuple[str, ...]
    labels: Labels
    mirror_axes: tuple[int, ...]  # of the prepared (Z, Y, X); 2D configurations drop axis 0
    configurations: dict[str, Configuration]
    training: TrainSettings  # the defaults for runs of this plan
    device: str  # what it was planned for: "cpu, 2 cores, 23 GB"
    plugins: tuple[str, ...] = ()  # modules given by --use
    reasons: tuple[Reason, ...] = ()
    digest: str = ""  # hash of all other fields as the planner made them; an edit by hand breaks it

    def configuration(self, name: str | None) -> Configuration:
        """The named configuration; None gives 3d_fullres where planned, else 2d."""
        chosen = name or ("3d_fullres" if "3d_fullres" in self.configurations else "2d")
        if chosen not in self.configurations:
            known = ", ".join(self.configurations)
            raise PlanError(f"plan {self.name!r} has no configuration {chosen!r}", remedy=f"It has: {known}.")
        return self.configurations[chosen]


class StepProbe(Record):
    """One real training step of a configuration on a device, measured."""

    configuration: str
    fits: bool
    seconds_per_step: float | None = None  # None where it did not fit
    peak_bytes: int | None = None  # of the device; on a CPU what the process grew by
    limit_bytes: int  # what the device could have given
    why: str = ""  # what happened where it did not fit
    samples_at_a_time: int | None = None  # where a whole batch at once did not fit
    busy: bool = False  # whether other programs kept the machine busy meanwhile: then it takes less time without them


class AccelerationTrial(Record):
    """Seconds of a training step by each way to compute it, and which one was chosen for a run."""

    format: int = 1
    device: str
    torch: str  # version
    precision: str
    chosen: str  # name in networks.acceleration.ACCELERATIONS
    seconds_per_step: dict[str, float]
    failed: dict[str, str]  # name -> why


class Probe(Record):
    """What belongs to the moment of planning: measured, written beside the plan, and part of no hash."""

    format: int = 1
    plan: str
    device: str
    precision: str
    free_bytes: int
    steps: tuple[StepProbe, ...]
