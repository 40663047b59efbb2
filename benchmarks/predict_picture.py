"""Seconds and peak memory of `autoseg predict` on one large colour picture.

    python benchmarks/predict_picture.py [--size 10000] [--classes 3] [--features 16] [--objects] [--max-ram 3GB]

The picture is made up: smooth colours of 8 bits. The network is a 2D U-Net of four stages with random weights and a
patch of 512x512, so that seconds are those of a small network; memory is that of any, but for its patches. The command
runs twice: once for its seconds, once while its memory is watched: the largest sum over its processes of Pss, and of
anonymous and shared memory (Pss has the pages of mapped files too, which the system can take back). With `--objects`
the last class is counted, so that ids are found in the whole picture.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import measured
from PIL import Image

from autoseg.dataset.counted import with_cores
from autoseg.model_file import write_model
from autoseg.networks.catalog import build_network
from autoseg.records import Configuration, IntensityStatistics, Labels, Member, ModelHeader, Preparation

STATISTICS = IntensityStatistics(mean=0, median=0, std=1, min=0, max=255, percentile_00_5=0, percentile_99_5=255)


def model(path: Path, classes: int, features: int, objects: bool) -> None:
    """A small network with random weights."""
    labels = Labels(names={"background": 0, **{f"label_{value}": value for value in range(1, classes)}})
    if objects:
        labels = with_cores(labels, [f"label_{classes - 1}"], 2.0)
    configuration = Configuration(
        name="2d",
        dimensions=2,
        preparation=Preparation(
            spacing=(None, 1.0, 1.0),
            normalization=("ZScoreNormalization",) * 3,
            use_mask_for_normalization=(False,) * 3,
            intensities=(STATISTICS,) * 3,
            labels=labels,
        ),
        spacing=(1.0, 1.0, 1.0),
        median_shape=(1, 1024, 1024),
        patch_size=(512, 512),
        batch_size=2,
        network="unet",
        strides=((1, 1), (2, 2), (2, 2), (2, 2)),
        kernel_sizes=((3, 3),) * 4,
        features_per_stage=tuple(features * 2**stage for stage in range(4)),
        blocks_per_stage=(2, 2, 2, 2),
        blocks_per_stage_decoder=(2, 2, 2),
        batch_dice=False,
        steps_per_epoch=1,
        epochs=1,
    )
    header = ModelHeader(
        channels=("R", "G", "B"),
        labels=labels,
        members=(Member(name="m", configuration=configuration, mirror_axes=(0, 1)),),
    )
    torch.manual_seed(0)
    write_model(path, header, {"m": build_network(configuration.network_spec(3, labels.heads)).state_dict()})


def picture(path: Path, size: int) -> None:
    """A smooth picture, so that the labels are regions rather than noise."""
    coarse = np.random.default_rng(0).integers(0, 256, size=(size // 32, size // 32, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BILINEAR).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--format", default="png", choices=["png", "tif", "jpg"])
    parser.add_argument("--objects", action="store_true")
    parser.add_argument("--max-ram", help="given to the command")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / f"picture.{options.format}"
        model(folder / "model.safetensors", options.classes, options.features, options.objects)
        picture(file, options.size)
        words = ["predict", str(file), str(folder / "masks"), "--model", str(folder / "model.safetensors")]
        command = [sys.executable, "-m", "autoseg", *words, "--no-mirror", "--overwrite"]
        command += [] if options.max_ram is None else ["--max-ram", options.max_ram]
        seconds = measured(command, sample_memory=False).seconds
        cost = measured(command, sample_memory=True)
        (found,) = (path for path in (folder / "masks").glob("picture.*"))
        Image.MAX_IMAGE_PIXELS = None
        shape = Image.open(found).size if found.suffix == ".png" else ("tif",)
        print(
            f"{options.size}x{options.size} {options.format}, {options.classes} classes"
            f"{', one of them counted' if options.objects else ''}: {seconds:.0f} s; largest Pss "
            f"{cost.peak_bytes / 1e9:.2f} GB, of it anonymous and shared {cost.own_bytes / 1e9:.2f} GB; mask {shape}"
        )


if __name__ == "__main__":
    main()
