"""Seconds and peak memory of `autoseg predict` on a large volume with many classes.

    python benchmarks/predict_large.py [--shape 512 512 400] [--classes 117] [--features 8]

The volume has voxels of 0.8 x 0.8 x 1.0 mm, the network's grid is 1.5 mm, its patch 128x128x128, and the network is
tiny: what is measured is everything around it. Memory is the largest sum of Pss over the process tree.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import torch
from measuring import measured

from autoseg.model_file import write_model
from autoseg.networks.catalog import build_network
from autoseg.records import Configuration, IntensityStatistics, Labels, Member, ModelHeader, Preparation


def model(path: Path, classes: int, features: int) -> None:
    """A tiny network with random weights."""
    statistics = IntensityStatistics(
        mean=0, median=0, std=300, min=-1000, max=3000, percentile_00_5=-1000, percentile_99_5=1500
    )
    labels = Labels(names={"background": 0, **{f"label_{value}": value for value in range(1, classes)}})
    configuration = Configuration(
        name="3d_fullres",
        dimensions=3,
        preparation=Preparation(
            spacing=(1.5, 1.5, 1.5),
            normalization=("CTNormalization",),
            use_mask_for_normalization=(False,),
            intensities=(statistics,),
            labels=labels,
        ),
        spacing=(1.5, 1.5, 1.5),
        median_shape=(256, 256, 256),
        patch_size=(128, 128, 128),
        batch_size=2,
        network="unet",
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        kernel_sizes=((3, 3, 3),) * 3,
        features_per_stage=(features, features, features),
        blocks_per_stage=(1, 1, 1),
        blocks_per_stage_decoder=(1, 1),
        batch_dice=False,
        steps_per_epoch=1,
        epochs=1,
    )
    header = ModelHeader(
        channels=("CT",), labels=labels, members=(Member(name="m", configuration=configuration, mirror_axes=(0, 1, 2)),)
    )
    torch.manual_seed(0)
    write_model(path, header, {"m": build_network(configuration.network_spec(1, classes)).state_dict()})


def volume(path: Path, shape: tuple[int, int, int]) -> None:
    """A smooth image, so that the labels are regions rather than noise."""
    from scipy.ndimage import zoom

    coarse = np.random.default_rng(0).normal(0, 400, size=tuple(max(2, size // 32) for size in shape))
    factors = [size / length for size, length in zip(shape, coarse.shape, strict=True)]
    image = zoom(coarse, factors, order=1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([0.8, 0.8, 1.0, 1.0])), path)  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 400))
    parser.add_argument("--classes", type=int, default=117)
    parser.add_argument("--features", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model(folder / "model.safetensors", options.classes, options.features)
        volume(folder / "image.nii.gz", tuple(options.shape))
        words = ["predict", str(folder / "image.nii.gz"), str(folder / "masks")]
        words += ["--model", str(folder / "model.safetensors"), "--no-mirror"]
        command = [sys.executable, "-m", "autoseg", *words]
        seconds = measured(command, sample_memory=False).seconds
        cost = measured([*command, "--overwrite"], sample_memory=True)
        labels = np.unique(np.asarray(nibabel.load(folder / "masks" / "image.nii.gz").dataobj))  # type: ignore[attr-defined]
        print(f"{options.shape}, {options.classes} classes: {seconds:.1f} s, peak {cost.peak_bytes / 1e9:.2f} GB")
        print(f"labels in the mask: {len(labels)}")


if __name__ == "__main__":
    main()
