"""Seconds to plan and prepare a dataset, and to predict its first volumes; by autoseg, and by nnU-Net beside it.

    python benchmarks/prepare_predict.py DATASET [--volumes 20] [--nnunet ENVIRONMENT]

DATASET is a Decathlon folder such as Task04_Hippocampus. ENVIRONMENT is a virtual environment in which nnU-Net is
installed. Prediction uses networks of one size (nnU-Net's own plan, preset `nnunet` here) with random weights: their
masks mean nothing, their time is that of trained ones. Mirroring is on, float32 and the device's best precision.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NNUNET_CHECKPOINT = """
import json, sys
from pathlib import Path
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
folder = Path(sys.argv[1])
plans, dataset = (json.loads((folder / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json"))
plans["continue_training"] = False
trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
trainer.initialize()
trainer.disable_checkpointing = False
trainer.inference_allowed_mirroring_axes = (0, 1, 2)
Path(trainer.output_folder).mkdir(parents=True, exist_ok=True)
base = Path(trainer.output_folder_base)
(base / "plans.json").write_text(json.dumps(plans))
(base / "dataset.json").write_text(json.dumps(dataset))
trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
"""


def timed(command: list[str], **options: object) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    return time.monotonic() - began


def ours(dataset: Path, images: Path, work: Path) -> dict[str, float]:
    program = [sys.executable, "-m", "autoseg"]
    seconds = {"plan": timed([*program, "plan", str(dataset), "--work", str(work)])}
    seconds["prepare"] = timed([*program, "prepare", "--work", str(work)])
    large = work.with_name("large")
    timed([*program, "plan", str(dataset), "--work", str(large), "--preset", "nnunet"])
    model = random_model(large)
    for precision in ("float32", "auto"):
        masks = work.with_name(f"masks-{precision}")
        seconds[f"predict, {precision}"] = timed(
            [*program, "predict", str(images), str(masks), "--model", str(model), "--precision", precision]
        )
        seconds[f"predict, {precision}, no mirroring"] = timed(
            [
                *program,
                "predict",
                str(images),
                str(masks),
                "--model",
                str(model),
                "--precision",
                precision,
                "--no-mirror",
            ]
        )
    return seconds


def random_model(work: Path) -> Path:
    """A model file of the nnunet plan with random weights."""
    from autoseg.files import read_record
    from autoseg.model_file import write_model
    from autoseg.networks.catalog import build_network
    from autoseg.pipeline.train import model_header
    from autoseg.records import Plan
    from autoseg.workspace import Workspace

    space = Workspace(work)
    plan = read_record(space.plan(), Plan)
    configuration = plan.configurations["3d_fullres"]
    header = model_header(space, plan, configuration, "0")
    network = build_network(configuration.network_spec(len(plan.channels), plan.labels.heads))
    write_model(work / "random.safetensors", header, {header.members[0].name: network.state_dict()})
    return work / "random.safetensors"


def nnunets(environment: Path, dataset: Path, names: list[str], folder: Path) -> dict[str, float]:
    places = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    for place in places.values():
        Path(place).mkdir(parents=True)
    options = {"env": {**os.environ, **places, "nnUNet_n_proc_DA": "1"}}
    programs = environment / "bin"
    copy = folder / dataset.name
    shutil.copytree(dataset, copy)
    timed([str(programs / "nnUNetv2_convert_MSD_dataset"), "-i", str(copy), "-np", "2"], **options)
    (raw,) = Path(places["nnUNet_raw"]).iterdir()
    number = raw.name[7:10]
    seconds = {
        "plan and prepare": timed(
            [str(programs / "nnUNetv2_plan_and_preprocess"), "-d", number, "-np", "2", "-c", "2d", "3d_fullres"],
            **options,
        )
    }
    prepared = Path(places["nnUNet_preprocessed"]) / raw.name
    timed([str(programs / "python"), "-c", NNUNET_CHECKPOINT, str(prepared)], **options)
    images = folder / "images"
    images.mkdir()
    for name in names:
        shutil.copy(raw / "imagesTr" / f"{name}_0000.nii.gz", images)
    predict = [str(programs / "nnUNetv2_predict"), "-i", str(images), "-d", number, "-c", "3d_fullres", "-f", "0"]
    predict += ["-device", "cpu", "-npp", "1", "-nps", "1"]
    seconds["predict"] = timed([*predict, "-o", str(folder / "masks")], **options)
    seconds["predict, no mirroring"] = timed([*predict, "-o", str(folder / "masks-plain"), "--disable_tta"], **options)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--nnunet", type=Path, default=None)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    found = sorted(path for path in (options.dataset / "imagesTr").glob("*.nii.gz") if not path.name.startswith("."))
    images = folder / "images"
    images.mkdir()
    for path in found[: options.volumes]:
        shutil.copy(path, images)
    names = [path.name.removesuffix(".nii.gz") for path in found[: options.volumes]]
    tables = {"autoseg": ours(options.dataset, images, folder / "work")}
    if options.nnunet is not None:
        tables["nnU-Net"] = nnunets(options.nnunet, options.dataset, names, folder / "nnunet")
    for program, seconds in tables.items():
        for what, value in seconds.items():
            print(f"{program:8s} {what:32s} {value:8.1f} s")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
