"""Patches per second of nnU-Net's own trainer on a GPU, data loading included: the other side of `gpu_step.py`.

    ENVIRONMENT/bin/python benchmarks/gpu_step_nnunet.py [--patch 128 128 128] [--batch 2] [--steps 40] [--eager]

Run with the Python that nnU-Net is installed for. Cases of noise are written the way that nnU-Net prepares them, with
its plan of this patch; its trainer, loaders (as many processes as it takes by itself), augmentation and compilation
are as `nnUNetv2_train` has them. `--eager` leaves compiling out, which nnU-Net does on request.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import shutil
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

CASES, WARM_UP = 8, 10
NAME = "Dataset900_Noise"


def plans(patch: list[int], batch: int, shape: list[int]) -> dict[str, object]:
    """nnU-Net's plan for 3D images of noise: a stage more until an edge of 4 is reached, as its planner has it."""
    stages = 1
    while min(patch) // 2**stages >= 4 and stages < 6:
        stages += 1
    resample = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    network = {
        "n_stages": stages,
        "features_per_stage": [min(320, 32 * 2**stage) for stage in range(stages)],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch,
        "patch_size": patch,
        "median_image_size_in_voxels": [float(size) for size in shape],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resample,
        "resampling_fn_seg_kwargs": {**resample, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resample, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    return {
        "dataset_name": NAME,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": shape,
        "image_reader_writer": "NibabelIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
    }


DATASET = {
    "channel_names": {"0": "MR"},
    "labels": {"background": 0, "organ": 1, "tumor": 2},
    "numTraining": CASES,
    "file_ending": ".nii.gz",
}


def write_cases(folder: Path, shape: list[int]) -> None:
    import blosc2
    import numpy as np

    generator = np.random.default_rng(0)
    store = folder / "nnUNetPlans_3d_fullres"
    store.mkdir(parents=True)
    for number in range(CASES):
        image = generator.standard_normal((1, *shape), dtype=np.float32)
        labels = generator.integers(0, 3, (1, *shape), dtype=np.int8)
        places = {label: np.argwhere(labels == label)[:1000].astype(np.int64) for label in (1, 2)}
        blosc2.asarray(image, urlpath=str(store / f"noise_{number}.b2nd"), blocks=(1, 64, 64, 64))
        blosc2.asarray(labels, urlpath=str(store / f"noise_{number}_seg.b2nd"), blocks=(1, 64, 64, 64))
        with (store / f"noise_{number}.pkl").open("wb") as file:
            pickle.dump({"class_locations": places, "spacing": (1.0, 1.0, 1.0)}, file)
    names = [f"noise_{number}" for number in range(CASES)]
    (folder / "splits_final.json").write_text(json.dumps([{"train": names[:-2], "val": names[-2:]}]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", nargs=3, type=int, default=[128, 128, 128])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--eager", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir()
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    if options.eager:
        os.environ["nnUNet_compile"] = "f"  # noqa: SIM112 - its name
    shape = [size * 3 // 2 for size in options.patch]
    prepared = folder / "preprocessed" / NAME
    write_cases(prepared, shape)
    plan = {**plans(options.patch, options.batch, shape), "continue_training": False}
    (prepared / "dataset.json").write_text(json.dumps(DATASET))
    (prepared / "dataset_fingerprint.json").write_text("{}")  # it is copied, not read
    (prepared / "nnUNetPlans.json").write_text(json.dumps(plan))

    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True  # as nnUNetv2_train has it
    trainer = nnUNetTrainer(plan, "3d_fullres", 0, DATASET, device=device)
    began = time.perf_counter()
    trainer.on_train_start()
    trainer.network.train()
    ends, waits = [], []
    for _ in range(WARM_UP + options.steps):
        asked = time.perf_counter()
        batch = next(trainer.dataloader_train)
        waits.append(time.perf_counter() - asked)
        trainer.train_step(batch)  # it takes the loss to the CPU, so the device is done
        ends.append(time.perf_counter())
        if len(ends) == 1:
            print(f"start and first step: {ends[0] - began:.1f} s", flush=True)
    ends, waits = ends[WARM_UP - 1 :], waits[WARM_UP:]
    seconds = (ends[-1] - ends[0]) / options.steps
    middle = statistics.median(later - earlier for earlier, later in pairwise(ends))
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0
    print(
        f"nnU-Net, {'eager' if options.eager else 'compiled'}: {seconds:.4f} s a step (median {middle:.4f}), "
        f"{options.batch / seconds:.1f} patches/s, data wait {sum(waits) / (ends[-1] - ends[0]):.1%}, {peak:.2f} GB",
        flush=True,
    )
    for loader in multiprocessing.active_children():
        loader.kill()
    shutil.rmtree(folder)
    os._exit(0)  # its threads would wait for the loaders


if __name__ == "__main__":
    main()
