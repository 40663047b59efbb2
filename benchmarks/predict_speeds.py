"""Seconds of `autoseg predict` in each mode, with and without --roi, and how near its masks are to those of `best`.

    python benchmarks/predict_speeds.py [--size 160] [--organ 40] [--patch 48]

One cube of `--size` voxels holds one ball of `--organ` voxels across. The network has the cost of a small U-Net, whose
scores count for nothing, and finds what is bright after blurring over 9 voxels (zeros beyond the tile): what is found
is known, and depends on the tile's surroundings as that of a trained network does. Loading is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import Tensor, nn

from autoseg.inference.speeds import SPEEDS
from autoseg.model_file import write_model
from autoseg.networks.catalog import NETWORKS, build_network
from autoseg.pipeline.predict import predict
from autoseg.progress import SilentProgress
from autoseg.records import (
    Configuration,
    IntensityStatistics,
    Labels,
    Member,
    ModelHeader,
    NetworkSpec,
    PredictSettings,
    Preparation,
)

LABELS = Labels(names={"background": 0, "ball": 1})


class Bright(nn.Module):
    """A U-Net's cost; scores of what is bright after blurring."""

    deep_supervision = True

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.unet = NETWORKS["unet"](spec)
        self.unet.deep_supervision = False

    def forward(self, image: Tensor) -> Tensor:
        unheard = 0 * self.unet(image)
        blurred = nn.functional.avg_pool3d(image[:, :1], 9, stride=1, padding=4)
        return unheard + torch.cat([0.5 - blurred, blurred - 0.5], dim=1)


class Stopwatch(SilentProgress):
    """Keeps what the command says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def model(path: Path, patch: int) -> None:
    statistics = IntensityStatistics(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
    entry = Configuration(
        name="3d_fullres",
        dimensions=3,
        preparation=Preparation(
            spacing=(1.0, 1.0, 1.0),
            normalization=("NoNormalization",),
            use_mask_for_normalization=(False,),
            intensities=(statistics,),
            labels=LABELS,
        ),
        spacing=(1.0, 1.0, 1.0),
        median_shape=(160, 160, 160),
        patch_size=(patch,) * 3,
        batch_size=2,
        network="bright",
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        kernel_sizes=((3, 3, 3),) * 3,
        features_per_stage=(8, 16, 32),
        blocks_per_stage=(1, 1, 1),
        blocks_per_stage_decoder=(1, 1),
        batch_dice=False,
        steps_per_epoch=1,
        epochs=1,
    )
    members = (Member(name="bright", configuration=entry, mirror_axes=(0, 1, 2)),)
    torch.manual_seed(0)
    weights = build_network(entry.network_spec(1, 2)).state_dict()
    write_model(path, ModelHeader(channels=("MR",), labels=LABELS, members=members), {"bright": weights})


def image(path: Path, size: int, organ: int) -> None:
    """A noisy ball off the centre."""
    place = np.indices((size, size, size)) - np.array([0.4, 0.45, 0.6]).reshape(3, 1, 1, 1) * size
    ball = (place**2).sum(0) < (organ / 2) ** 2
    noise = np.random.default_rng(0).normal(0, 0.3, ball.shape)
    nibabel.save(nibabel.Nifti1Image((ball + noise).astype(np.float32), np.eye(4)), path)  # type: ignore[attr-defined]


def mask(folder: Path) -> np.ndarray:
    return np.asarray(nibabel.load(folder / "image.nii.gz").dataobj) > 0  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--organ", type=int, default=40)
    parser.add_argument("--patch", type=int, default=48)
    options = parser.parse_args()
    NETWORKS["bright"] = Bright
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model(folder / "model.safetensors", options.patch)
        image(folder / "image.nii.gz", options.size, options.organ)
        print("| mode | region of interest | told before | took | spared | Dice with `best` | voxels that differ |")
        print("|---|---|---|---|---|---|---|")
        for speed in reversed(SPEEDS):
            for roi in (False, True):
                masks, watch = folder / f"{speed}-{roi}", Stopwatch()
                predict(
                    folder / "image.nii.gz",
                    masks,
                    models=(folder / "model.safetensors",),
                    speed=speed,
                    settings=PredictSettings(roi=True) if roi else PredictSettings(),
                    precision="float32",
                    progress=watch,
                )
                told = next(line.split(", ")[1].split(" (")[0] for line in watch.lines if " GB" in line)
                took = next(line.split(" in ")[1].split(" (")[0] for line in watch.lines if "Predicted" in line)
                spared = next((line.split(": ")[1].split(" of")[0] for line in watch.lines if "spared" in line), "")
                found, best = mask(masks), mask(folder / "best-False")
                dice = 2 * (found & best).sum() / (found.sum() + best.sum())
                row = (speed, "yes" if roi else "no", told, took, spared, f"{dice:.4f}", str((found != best).sum()))
                print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
