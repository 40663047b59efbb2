"""Presets: all constants of the planner, as values one can read, compare and change.

The figures of the presets named after nnU-Net are its own (Isensee et al. 2021, and 2024 for the residual encoders):
the memory of its reference networks counted in elements of convolution outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from autoseg.errors import PlanError
from autoseg.records import TrainSettings
from autoseg.words import counted


@dataclass(frozen=True)
class DeviceBudget:
    """What a plan has to fit: the device's kind, CPU cores, and its total memory in whole GB, rounded down."""

    kind: Literal["cpu", "cuda", "mps"]
    cores: int
    memory_gb: float  # what was measured is whole; a person may give any number

    @property
    def description(self) -> str:
        """One phrase for the plan: "cpu, 2 cores, 23 GB"."""
        if self.kind == "cpu":
            return f"cpu, {counted(self.cores, 'core')}, {self.memory_gb:g} GB"
        return f"{self.kind}, {self.memory_gb:g} GB"


@dataclass(frozen=True)
class Architecture:
    """The shape of the network before the data decide how deep it is."""

    network: str  # name in networks.catalog.NETWORKS
    blocks: tuple[int, ...]  # per encoder stage; deeper stages repeat the last
    decoder_blocks: int  # convolutions per decoder level
    base_features: int  # of stage 0; doubled at each stage

    def blocks_per_stage(self, stages: int) -> tuple[int, ...]:
        """Convolutions or residual blocks of each encoder stage."""
        return tuple(self.blocks[min(stage, len(self.blocks) - 1)] for stage in range(stages))


@dataclass(frozen=True)
class Limits:
    """What a 2D or a 3D configuration may cost."""

    edge: int  # the patch begins as the cube (square) of this edge in voxels
    max_features: int
    elements: float  # of convolution outputs of one sample, where `reference_batch` samples make a step; see Work.per
    reference_batch: int
    fitted_samples: int  # the patch shrinks until so many samples fit where the reference batch would
    largest_batch: int | None = None
    largest_coverage: float | None = None  # share of the median image's voxels that a patch may have


@dataclass(frozen=True)
class Work:
    """What `Limits.elements` is measured by.

    per "preset": it stands as it is, whatever the device (nnU-Net); memory that a person gives scales it from
    `reference_gb`, as nnU-Net's -gpu_memory_target does. per "memory": it is for `reference_gb`; less memory gives
    proportionally less, more memory (up to `largest_gb`) larger patches, but never larger batches. per "core": it is
    for one CPU core, since on a CPU time runs out before memory does; at most `largest_cores` count, and a step never
    holds more than memory (`step_elements` in `reference_gb`: half of what nnU-Net puts there, since a CPU mostly
    computes in full precision).
    """

    per: Literal["preset", "memory", "core"]
    reference_gb: int = 8
    largest_gb: int = 40  # the largest budget for which results were published (nnU-Net's residual encoder XL)
    step_elements: float = 560e6
    largest_cores: int = 16


@dataclass(frozen=True)
class Length:
    """How long to train: bounds and the measure between them. Equal bounds fix the number."""

    steps_per_epoch: tuple[int, int]
    epochs: tuple[int, int]
    visits: float = 0.0  # how many patches of a training are to contain each voxel of the training images
    label_patches: float = 0.0  # how many patches are to show something of each label
    fewest_samples: int = 0  # patches that a training sees at least

    @property
    def fixed(self) -> bool:
        """Whether the number of epochs is the preset's, for any dataset."""
        return self.epochs[0] == self.epochs[1]


@dataclass(frozen=True)
class Variant:
    """One complete set of planning constants."""

    architecture: Architecture
    limits_2d: Limits
    limits_3d: Limits
    work: Work
    dataset_share: float  # a batch holds at most this share of all voxels of the dataset
    length: Length
    training: TrainSettings  # its epochs are replaced by what `length` gives
    smallest_batch: int = 2
    slice_order: Literal[0, 1] = 0  # of scores between slices that lie far apart, see Preparation
    lowres: bool = True  # whether a low-resolution stage and the cascade are planned where patches see little

    def limits(self, dimensions: Literal[2, 3]) -> Limits:
        """The limits of 2D or 3D configurations."""
        return self.limits_2d if dimensions == 2 else self.limits_3d


@dataclass(frozen=True)
class Preset:
    """A named way of planning: one variant for accelerators, one for CPUs (often the same)."""

    name: str
    description: str
    accelerator: Variant
    cpu: Variant

    def variant(self, device: DeviceBudget) -> Variant:
        """The constants for a device."""
        return self.cpu if device.kind == "cpu" else self.accelerator


#: Settings that belong to an optimizer: who changes the optimizer changes them as well, unless they are given.
OPTIMIZER_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "sgd": {"learning_rate": 1e-2, "momentum": 0.99, "weight_decay": 3e-5, "warmup_steps": 0},
    "adamw": {"learning_rate": 3e-3, "momentum": 0.99, "weight_decay": 1e-2, "warmup_steps": 50},
}


def _training(optimizer: str, **settings: float) -> TrainSettings:
    # epochs are replaced by what `Length` gives
    return TrainSettings.model_validate(
        {"epochs": 1, "optimizer": optimizer, **OPTIMIZER_DEFAULTS[optimizer], "decay_power": 0.9, **settings}
    )


_NNUNET_TRAINING = _training("sgd")
_NNUNET_LENGTH = Length(steps_per_epoch=(250, 250), epochs=(1000, 1000))
#: nnU-Net's plain U-Net.
PLAIN = Architecture("unet", blocks=(2,), decoder_blocks=2, base_features=32)
_RESIDUAL = Architecture("resenc", blocks=(1, 3, 4, 6), decoder_blocks=1, base_features=32)
_NNUNET = Variant(
    architecture=PLAIN,
    # a 2D batch is cut down to two samples before its patch is
    limits_2d=Limits(edge=2048, max_features=512, elements=85e6, reference_batch=12, fitted_samples=2),
    limits_3d=Limits(edge=256, max_features=320, elements=560e6, reference_batch=2, fitted_samples=2),
    work=Work(per="preset"),
    dataset_share=0.05,
    length=_NNUNET_LENGTH,
    training=_NNUNET_TRAINING,
)


def _residual_encoder(elements_2d: float, elements_3d: float, gb: int) -> Variant:
    return Variant(
        architecture=_RESIDUAL,
        limits_2d=Limits(edge=2048, max_features=512, elements=elements_2d, reference_batch=12, fitted_samples=12),
        limits_3d=Limits(edge=256, max_features=320, elements=elements_3d, reference_batch=2, fitted_samples=2),
        work=Work(per="preset", reference_gb=gb),
        dataset_share=1.0,
        length=_NNUNET_LENGTH,
        training=_NNUNET_TRAINING,
    )


_AUTO_TRAINING = _training("adamw", ema_decay=0.99)
_AUTO_ACCELERATOR = Variant(
    architecture=PLAIN,
    limits_2d=Limits(2048, max_features=512, elements=85e6, reference_batch=12, fitted_samples=2, largest_batch=64),
    limits_3d=Limits(256, max_features=320, elements=560e6, reference_batch=2, fitted_samples=2, largest_batch=9),
    work=Work(per="memory"),
    dataset_share=0.05,
    # visits and bounds so that ten tasks with published training curves get about what they needed
    # (docs/explanation/training-length.md)
    length=Length((100, 250), epochs=(50, 1000), visits=200, label_patches=4_000, fewest_samples=100_000),
    training=_AUTO_TRAINING,
    slice_order=1,  # docs/decisions/0130-slices-are-interpolated.md
)
_AUTO_CPU = Variant(
    # One convolution at full resolution and on each way up, and patches that leave part of a small image out: on two
    # cores and Hippocampus (fold 1) 100 s of training gave Dice 0.79 with two convolutions and whole images, 0.83 with
    # smaller patches, 0.85 with both, since so many more steps fit into the time (docs/lab-notebook.md).
    architecture=Architecture("unet", blocks=(1, 2), decoder_blocks=1, base_features=16),
    limits_2d=Limits(2048, max_features=128, elements=2e6, reference_batch=6, fitted_samples=6, largest_batch=12),
    limits_3d=Limits(
        256, max_features=256, elements=8e6, reference_batch=2, fitted_samples=2, largest_batch=2, largest_coverage=0.7
    ),
    work=Work(per="core"),
    dataset_share=0.05,
    length=Length((25, 250), epochs=(20, 300), visits=67, label_patches=400, fewest_samples=4_000),
    training=_AUTO_TRAINING,
    slice_order=1,
    lowres=False,  # three trainings for one: the steps that a CPU makes in a day are too few to share
)

_RESENC_M = _residual_encoder(elements_2d=135e6, elements_3d=680e6, gb=8)
_RESENC_L = _residual_encoder(elements_2d=380e6, elements_3d=2.1e9, gb=24)
_RESENC_XL = _residual_encoder(elements_2d=560e6, elements_3d=3.6e9, gb=40)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("auto", "fits data and device; the default", accelerator=_AUTO_ACCELERATOR, cpu=_AUTO_CPU),
        Preset("nnunet", "nnU-Net's default planner: plain U-Net, 8 GB", accelerator=_NNUNET, cpu=_NNUNET),
        Preset("resenc-m", "nnU-Net's residual encoder M, 8 GB", accelerator=_RESENC_M, cpu=_RESENC_M),
        Preset("resenc-l", "nnU-Net's residual encoder L, 24 GB", accelerator=_RESENC_L, cpu=_RESENC_L),
        Preset("resenc-xl", "nnU-Net's residual encoder XL, 40 GB", accelerator=_RESENC_XL, cpu=_RESENC_XL),
    )
}


def find_preset(name: str) -> Preset:
    """The preset of that name. Raises PlanError, with the known names, if there is none."""
    if name not in PRESETS:
        raise PlanError(f"unknown preset {name!r}", remedy=f"Use one of {', '.join(PRESETS)}.")
    return PRESETS[name]
