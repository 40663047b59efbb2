"""Seconds to predict the first volumes of a dataset by autoseg and by nnU-Net with one and the same trained network.

And how far their masks agree:

    python benchmarks/predict_vs_nnunet.py TASK --nnunet ENVIRONMENT --folder FOLDER [--repeats 3] [--results RESULTS]

TASK is a Decathlon folder such as Task04_Hippocampus, ENVIRONMENT a virtual environment in which nnU-Net is installed.
Without --results nnU-Net plans the dataset and trains the network of its own plan first, for --epochs of 25 iterations
with a batch of two (a quarter of an hour on two cores; it is kept in FOLDER and done once): long enough for masks that
mean something. RESULTS is a folder of a model that nnU-Net trained (`trainer__plans__configuration`), fold 0 of it.

Both programs are whole commands, from their start to the last mask. They take turns: nnU-Net, autoseg in float32,
autoseg in bfloat16, with mirroring and without, as many times as --repeats says; medians count, and ratios are of
medians. With --only, some of these runs alone. Run it on a machine on which nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nnunet import NnUNet

CONFIGURATION = "3d_fullres"
TRAINER = "ShortTraining"
ITERATIONS = 25


@dataclass(frozen=True)
class Run:
    """One way to make the masks."""

    name: str
    mirror: bool
    precision: str | None  # None: nnU-Net

    def masks(self, folder: Path) -> Path:
        """Where its masks lie."""
        return folder / "masks" / self.name.replace(" ", "-").replace(",", "")


RUNS = tuple(
    Run(f"{name}{'' if mirror else ', no mirroring'}", mirror, precision)
    for mirror in (True, False)
    for name, precision in (("nnU-Net", None), ("autoseg float32", "float32"), ("autoseg bfloat16", "bfloat16"))
)


def trained(peer: NnUNet, dataset: Path, epochs: int) -> Path:
    """nnU-Net's results folder of a short training of the network that it plans; made once."""
    number = peer.take(dataset)
    found = list((peer.folder / "results").glob(f"Dataset{number}_*/{TRAINER}__*/fold_0/checkpoint_final.pth"))
    if not found:
        print(f"nnU-Net plans {dataset.name} and trains for {epochs} epochs of {ITERATIONS} iterations", flush=True)
        peer.run("nnUNetv2_plan_and_preprocess", "-d", number, "-np", "2", "-c", CONFIGURATION)
        peer.change_plan(number, CONFIGURATION, batch_size=2)
        peer.write_trainer(TRAINER, epochs, ITERATIONS, validation=1, validate=False)
        peer.run("nnUNetv2_train", number, CONFIGURATION, "0", "-tr", TRAINER, "-device", "cpu")
    return peer.results(number, TRAINER, CONFIGURATION, "0").parent


def timed(command: list[str], environment: dict[str, str] | None = None) -> float:
    """Wall seconds of a command; its output is shown if it fails."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{(done.stdout + done.stderr)[-4000:]}")
    return time.monotonic() - began


def predicted(run: Run, images: Path, masks: Path, model: Path, results: Path, peer: NnUNet) -> float:
    """Seconds of one run."""
    if run.precision is not None:
        words = ["predict", str(images), str(masks), "--model", str(model), "--precision", run.precision, "--overwrite"]
        return timed([sys.executable, "-m", "autoseg", *words, "--mirror" if run.mirror else "--no-mirror"])
    words = ["-i", str(images), "-o", str(masks), "-m", str(results), "-f", "0", "-device", "cpu"]
    words += ["-npp", "1", "-nps", "1", *([] if run.mirror else ["--disable_tta"])]
    return timed([str(peer.environment / "bin" / "nnUNetv2_predict_from_modelfolder"), *words], peer.variables)


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]


def dice(ours: Path, theirs: Path, names: list[str], values: list[int]) -> list[float]:
    """Mean over cases of the Dice of each label; of a case without it in both nothing counts (NaN if it is in none)."""
    rows = []
    for name in names:
        one, other = labels_of(ours / f"{name}.nii.gz"), labels_of(theirs / f"{name}.nii.gz")
        row = []
        for value in values:
            a, b = one == value, other == value
            total = int(a.sum() + b.sum())
            row.append(2 * int((a & b).sum()) / total if total else np.nan)
        rows.append(row)
    found = np.array(rows)
    return [float(column[~np.isnan(column)].mean()) if (~np.isnan(column)).any() else np.nan for column in found.T]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--nnunet", type=Path, required=True, metavar="ENVIRONMENT")
    parser.add_argument("--folder", type=Path, required=True, help="for all that is written; what was trained is kept")
    parser.add_argument("--results", type=Path, default=None, help="a model that nnU-Net trained")
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of runs: nnU-Net, float32, 'no mirr'")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    peer = NnUNet(options.nnunet, options.folder / "nnunet")
    results = options.results or trained(peer, options.dataset, options.epochs)
    (peer.folder / "trainers").mkdir(parents=True, exist_ok=True)
    model = options.folder / "model.safetensors"
    model.unlink(missing_ok=True)
    timed([sys.executable, "-m", "autoseg", "import-nnunet", str(results), "--fold", "0", "--out", str(model)])
    if options.results is not None:  # its trainer may be one that is not there; to predict it need be a name only
        peer.write_trainer(results.name.split("__")[0], 1, 1, validation=1)
    names = linked(options.dataset, options.folder / "images", options.volumes)
    runs = [run for run in RUNS if not options.only or any(part in run.name for part in options.only)]
    seconds: dict[str, list[float]] = {run.name: [] for run in runs}
    for number in range(options.repeats):
        for run in runs:
            took = predicted(run, options.folder / "images", run.masks(options.folder), model, results, peer)
            seconds[run.name].append(took)
            print(f"round {number + 1}: {run.name:32s} {took:7.1f} s", flush=True)
    told(options, runs, seconds, names)


def linked(dataset: Path, folder: Path, count: int) -> list[str]:
    """The first images of a Decathlon folder under nnU-Net's names in a folder of their own; their cases."""
    found = sorted(path for path in (dataset / "imagesTr").glob("*.nii.gz") if not path.name.startswith("."))[:count]
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for path in found:
        (folder / path.name.replace(".nii.gz", "_0000.nii.gz")).symlink_to(path.resolve())
    return [path.name.removesuffix(".nii.gz") for path in found]


def told(options: argparse.Namespace, runs: list[Run], seconds: dict[str, list[float]], names: list[str]) -> None:
    """The table: medians, ratios, Dice to nnU-Net's masks and to the references."""
    declared = json.loads((options.dataset / "dataset.json").read_text())["labels"]
    values = [int(value) for value in declared if int(value) > 0]
    print(
        f"\nthe first {len(names)} volumes of {options.dataset.name}, {os.cpu_count()} cores, {options.repeats} rounds"
    )
    print(f"{'':32s} {'median s':>9s} {'all':>24s} {'ratio':>7s}  Dice to nnU-Net's, to the references (per label)")
    for run in runs:
        whole = next((other for other in runs if other.precision is None and other.mirror == run.mirror), None)
        median = statistics.median(seconds[run.name])
        every = " ".join(f"{value:.1f}" for value in seconds[run.name])
        masks, ratio, agreement = run.masks(options.folder), "", ""
        if whole is not None:
            ratio = f"{median / statistics.median(seconds[whole.name]):.3f}"
            found = dice(masks, whole.masks(options.folder), names, values)
            agreement = " ".join(f"{value:.4f}" for value in found)
        to_references = dice(masks, options.dataset / "labelsTr", names, values)
        quality = f"{' '.join(f'{value:.4f}' for value in to_references)} (mean {np.mean(to_references):.4f})"
        print(f"{run.name:32s} {median:9.1f} {every:>24s} {ratio:>7s}  {agreement}, {quality}")


if __name__ == "__main__":
    main()
