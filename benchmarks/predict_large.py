"""Seconds and peak memory of `autoseg predict` on a large volume with many classes.

    python benchmarks/predict_large.py [--shape 512 512 400] [--classes 117] [--features 8] [--max-ram 0 4 2]

The volume has voxels of 0.8 x 0.8 x 1.0 mm, the network's grid is 1.5 mm, its patch 128x128x128 with a step of a half,
and the network is tiny: what is measured is everything around it. For each limit (0 is none) the whole command runs
while its memory is watched: the largest sum over its processes of Pss, and of anonymous and shared memory, which is
what --max-ram limits (Pss has the pages of libraries and mapped files too, which the system can take back). Another run
tells seconds per stage; reading means preparing too, network means all from the image to labels on the file's grid.
"""

from __future__ import annotations

import argparse
import json
import subprocess
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


#: Runs `autoseg predict` in a process of its own and notes its seconds per stage, as its own outcome has them.
PREDICT = """
import json, sys, time
from pathlib import Path
began = time.monotonic()
from autoseg.console import ready_to_compute
progress = ready_to_compute()
from autoseg import devices
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.joining import asked_precision
from autoseg.inference.predictor import load_models
from autoseg.model_file import read_header
from autoseg.records import Case, PredictLimits, PredictSettings

if __name__ == "__main__":
    folder, most = Path(sys.argv[1]), int(sys.argv[2]) or None
    device = devices.choose_device("cpu")
    files = [folder / "model.safetensors"]
    precision = devices.choose_precision(asked_precision("auto", [read_header(files[0])]), device)
    model = load_models(files, device, precision)
    started = time.monotonic() - began
    (outcome,) = predict_cases(
        model, [Case(id="image", images=(folder / "image.nii.gz",))], folder / "masks",
        settings=PredictSettings(mirror=False), limits=PredictLimits(max_ram_bytes=most), tell=print,
    )
    outcome.unwrap()
    print(json.dumps({"precision": precision, "start": started, **outcome.seconds}))
"""


def stages(folder: Path, most: int) -> dict[str, float | str]:
    """Seconds of each stage of one prediction."""
    script = folder / "stages.py"
    script.write_text(PREDICT)
    done = subprocess.run([sys.executable, str(script), str(folder), str(most)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-4000:])
    found: dict[str, float | str] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 400))
    parser.add_argument("--classes", type=int, default=117)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--max-ram", type=float, nargs="+", default=[0, 4, 2], metavar="GB", help="0: without a limit")
    parser.add_argument("--no-stages", action="store_true", help="leave out the run that tells seconds per stage")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model(folder / "model.safetensors", options.classes, options.features)
        volume(folder / "image.nii.gz", tuple(options.shape))
        print(f"{'x'.join(map(str, options.shape))} voxels, {options.classes} classes", flush=True)
        masks = []
        for most in options.max_ram:
            masks.append(folder / f"masks{most:g}" / "image.nii.gz")
            words = ["predict", str(folder / "image.nii.gz"), str(masks[-1].parent), "--no-mirror"]
            words += ["--model", str(folder / "model.safetensors"), *(["--max-ram", f"{most:g}GB"] if most else [])]
            cost = measured([sys.executable, "-m", "autoseg", *words], sample_memory=True)
            told = f"--max-ram {most:g}GB" if most else "no limit"
            figures = (
                f"largest Pss {cost.peak_bytes / 1e9:.2f} GB, of it anonymous and shared {cost.own_bytes / 1e9:.2f} GB"
            )
            print(f"{told:16s} {cost.seconds:7.1f} s (memory being watched), {figures}", flush=True)
            if not options.no_stages:
                found = stages(folder, round(most * 1e9))
                told = ", ".join(f"{stage} {value:.1f} s" for stage, value in found.items() if stage != "precision")
                print(f"{'':16s} {told} ({found['precision']})", flush=True)
        maps = [np.asarray(nibabel.load(path).dataobj) for path in masks]  # type: ignore[attr-defined]
        equal = [float((other == maps[0]).mean()) for other in maps[1:]]
        print(f"labels in the mask: {len(np.unique(maps[0]))}; voxels equal to the first mask: {equal}")


if __name__ == "__main__":
    main()
