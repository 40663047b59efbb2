"""nnU-Net's files, small and made up: plans, dataset.json and checkpoints as its training writes them."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoseg.interop.nnunet_weights import weights_to_nnunet
from autoseg.networks.catalog import build_network
from autoseg.records import NetworkSpec

STATISTICS = {
    "mean": 10.0,
    "median": 9.0,
    "std": 3.0,
    "min": 0.0,
    "max": 99.0,
    "percentile_00_5": 0.5,
    "percentile_99_5": 80.0,
}

LABELS: dict[str, Any] = {"background": 0, "organ": 1, "tumor": 2}

FOLDER = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def resampling(what: str, is_seg: bool, order: int) -> dict[str, Any]:
    name = f"resampling_fn_{what}"
    arguments = {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}
    return {name: "resample_data_or_seg_to_shape", f"{name}_kwargs": arguments}


def architecture(dimensions: int, residual: bool = False) -> dict[str, Any]:
    """Three stages; the decoder's levels differ, so that their order shows."""
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 6, 6],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [[1, 3, 3][3 - dimensions :], [3] * dimensions, [3] * dimensions],
            "strides": [[1] * dimensions, [1, 2, 2][3 - dimensions :], [2] * dimensions],
            ("n_blocks_per_stage" if residual else "n_conv_per_stage"): [1, 2, 3],
            "n_conv_per_stage_decoder": [2, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(dimensions: int = 3, residual: bool = False) -> dict[str, Any]:
    return {
        "data_identifier": "nnUNetPlans_x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8, 16, 12][3 - dimensions :],
        "median_image_size_in_voxels": [10.0, 20.5, 18.0][3 - dimensions :],
        "spacing": [3.0, 1.0, 1.5][3 - dimensions :],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        **resampling("data", False, 3),
        **resampling("seg", True, 1),
        **resampling("probabilities", False, 1),
        "architecture": architecture(dimensions, residual),
        "batch_dice": dimensions == 2,
    }


def old_configuration() -> dict[str, Any]:
    """The same 3D configuration in the format of older plans."""
    entry = configuration()
    del entry["architecture"]
    return {
        **entry,
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 6,
        "n_conv_per_stage_encoder": [1, 2, 3],
        "n_conv_per_stage_decoder": [2, 1],
        "num_pool_per_axis": [1, 2, 2],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    }


def plans(**configurations: dict[str, Any]) -> dict[str, Any]:
    return {
        "dataset_name": "Dataset007_Small",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [3.0, 1.0, 1.5],
        "original_median_shape_after_transp": [10, 20, 18],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": copy.deepcopy(configurations) or {"3d_fullres": configuration()},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": STATISTICS},
    }


def dataset_json(**changes: Any) -> dict[str, Any]:
    return {
        "channel_names": {"0": "MRI"},
        "labels": LABELS,
        "numTraining": 5,
        "file_ending": ".nii.gz",
        **changes,
    }


def spec(dimensions: int = 3, residual: bool = False, heads: int = 3) -> NetworkSpec:
    """The network of `architecture` in our terms."""
    arguments = architecture(dimensions, residual)["arch_kwargs"]
    return NetworkSpec(
        network="resenc" if residual else "unet",
        dimensions=dimensions,  # type: ignore[arg-type]
        channels=1,
        heads=heads,
        strides=arguments["strides"],
        kernel_sizes=arguments["kernel_sizes"],
        features_per_stage=arguments["features_per_stage"],
        blocks_per_stage=(1, 2, 3),
        blocks_per_stage_decoder=(1, 2),
    )


def random_tensors(network: NetworkSpec, seed: int = 0) -> dict[str, Tensor]:
    """Weights without a zero among them, the biases before norms too."""
    generator = torch.Generator().manual_seed(seed)
    shapes = build_network(network).state_dict()
    return {name: 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in shapes.items()}


def checkpoint(weights: dict[str, Tensor], configuration_name: str = "3d_fullres", **changes: Any) -> dict[str, Any]:
    """What nnU-Net's trainer saves, numpy numbers in its log included."""
    return {
        "network_weights": weights,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "dice_per_class_or_region": [[np.float32(0.25), np.nan]]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 3,
        "init_args": {
            "plans": {},
            "configuration": configuration_name,
            "fold": 0,
            "dataset_json": {},
            "device": torch.device("cuda"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **changes,
    }


def write_results(
    root: Path,
    *,
    plans_json: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    folds: Sequence[str] = ("0",),
    network: NetworkSpec | None = None,
    **changes: Any,
) -> Path:
    """A results folder; fold k has the random weights of seed k."""
    chosen = network or spec()
    root.mkdir(parents=True)
    (root / "plans.json").write_text(json.dumps(plans_json or plans()))
    (root / "dataset.json").write_text(json.dumps(dataset or dataset_json()))
    for number, fold in enumerate(folds):
        (root / f"fold_{fold}").mkdir()
        weights = weights_to_nnunet(random_tensors(chosen, number), chosen)
        torch.save(checkpoint(dict(weights), **changes), root / f"fold_{fold}" / "checkpoint_final.pth")
    return root
