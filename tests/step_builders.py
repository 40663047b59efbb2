"""Small configurations and plans made by hand, for tests of what a step costs."""

from __future__ import annotations

from autoseg.records import Configuration, IntensityStatistics, Labels, Plan, Preparation, TrainSettings

LABELS = Labels(names={"background": 0, "organ": 1, "tumor": 2})
STATISTICS = IntensityStatistics(mean=1, median=1, std=1, min=0, max=9, percentile_00_5=0.5, percentile_99_5=8.5)


def make_preparation(**changes: object) -> Preparation:
    values: dict[str, object] = {
        "spacing": (1.0, 1.0, 1.0),
        "normalization": ("ZScoreNormalization",),
        "use_mask_for_normalization": (False,),
        "intensities": (STATISTICS,),
        "labels": LABELS,
    }
    return Preparation(**(values | changes))


def make_configuration(name: str = "3d_fullres", **changes: object) -> Configuration:
    """Two stages, 4 and 8 features; `2d` has no Z."""
    dimensions = 2 if name == "2d" else 3
    values: dict[str, object] = {
        "name": name,
        "dimensions": dimensions,
        "preparation": make_preparation(),
        "spacing": (1.0,) * dimensions,
        "median_shape": (32.0,) * dimensions,
        "patch_size": (16,) * dimensions,
        "batch_size": 2,
        "network": "unet",
        "strides": ((1,) * dimensions, (2,) * dimensions),
        "kernel_sizes": ((3,) * dimensions,) * 2,
        "features_per_stage": (4, 8),
        "blocks_per_stage": (1, 2),
        "blocks_per_stage_decoder": (1,),
        "batch_dice": False,
        "steps_per_epoch": 25,
        "epochs": 20,
    }
    return Configuration(**(values | changes))


def make_plan_of(*configurations: Configuration, device: str = "cpu, 2 cores, 8 GB") -> Plan:
    return Plan(
        dataset="small",
        preset="auto",
        channels=("MR",),
        labels=LABELS,
        mirror_axes=(0, 1, 2),
        configurations={entry.name: entry for entry in configurations},
        training=TrainSettings(epochs=20, learning_rate=1e-3, weight_decay=0.0),
        device=device,
    )
