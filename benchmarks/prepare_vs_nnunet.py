"""Seconds and peak memory of planning and preparing a dataset, by autoseg and by nnU-Net, in one run.

    python benchmarks/prepare_vs_nnunet.py DATASET --nnunet ENVIRONMENT

DATASET is a folder in nnU-Net's raw layout (Dataset503_Name) or a Decathlon folder (Task04_Name). ENVIRONMENT is a
virtual environment in which nnU-Net is installed; without it only autoseg is measured. Both programs check every file,
measure, plan, and prepare `2d` and `3d_fullres` with two processes. Memory is the largest sum of Pss (shared pages
counted once) over a program's process tree, sampled every 50 ms, for both alike.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_EVERY = 0.05
CONFIGURATIONS = ("2d", "3d_fullres")


@dataclass(frozen=True)
class Cost:
    seconds: float
    peak_bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, max(self.peak_bytes, other.peak_bytes))


def tree_pss(root: psutil.Process) -> int:
    """Pss of a process and all its descendants, in bytes; those that have just ended count nothing."""
    total = 0
    with suppress(psutil.Error):
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total


def measured(command: list[str], environment: dict[str, str] | None = None) -> Cost:
    """Wall time of a command and the largest Pss of its process tree; its output is shown if it fails."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        largest, ended = [0], threading.Event()

        def sample() -> None:
            root = psutil.Process(process.pid)
            while not ended.is_set():
                largest[0] = max(largest[0], tree_pss(root))
                ended.wait(SAMPLE_EVERY)

        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        code = process.wait()
        seconds = time.monotonic() - began
        ended.set()
        sampler.join()
        if code != 0:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)}\nfailed:\n{log.read().decode(errors='replace')[-4000:]}")
    return Cost(seconds, largest[0])


def ours(dataset: Path, work: Path, preset: str) -> dict[str, Cost]:
    program = [sys.executable, "-m", "autoseg"]
    chosen = [word for name in CONFIGURATIONS for word in ("--configuration", name)]
    return {
        "plan": measured([*program, "plan", str(dataset), "--work", str(work), "--preset", preset, "--no-probe"]),
        "prepare": measured([*program, "prepare", "--work", str(work), *chosen]),
    }


def nnunets(environment: Path, dataset: Path, folder: Path) -> dict[str, Cost]:
    places = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    for place in places.values():
        Path(place).mkdir(parents=True)
    programs, variables = environment / "bin", {**os.environ, **places}
    raw = Path(places["nnUNet_raw"])
    if dataset.name.startswith("Task"):
        copy = folder / dataset.name
        shutil.copytree(dataset, copy)
        measured([str(programs / "nnUNetv2_convert_MSD_dataset"), "-i", str(copy), "-np", "2"], variables)
    else:
        (raw / dataset.name).symlink_to(dataset.resolve(), target_is_directory=True)
    number = next(raw.iterdir()).name[len("Dataset") :][:3]
    command = [str(programs / "nnUNetv2_plan_and_preprocess"), "-d", number, "-np", "2", "--verify_dataset_integrity"]
    return {"plan and prepare": measured([*command, "-c", *CONFIGURATIONS], variables)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--nnunet", type=Path, default=None, metavar="ENVIRONMENT")
    parser.add_argument("--presets", nargs="+", default=["nnunet", "auto"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tables = {f"autoseg, {name}": ours(options.dataset, folder / name, name) for name in options.presets}
        if options.nnunet is not None:
            tables["nnU-Net"] = nnunets(options.nnunet, options.dataset, folder / "nnunet")
    totals = {program: sum(parts.values(), start=Cost(0.0, 0)) for program, parts in tables.items()}
    print(f"{options.dataset.name}, {' and '.join(CONFIGURATIONS)}, {psutil.cpu_count()} cores")
    print(f"{'program':18s} {'':18s} {'seconds':>9s} {'peak MB':>9s} {'of time':>9s} {'of memory':>9s}")
    whole = totals.get("nnU-Net")
    for program, parts in tables.items():
        for what, cost in {**parts, "total": totals[program]}.items():
            line = f"{program:18s} {what:18s} {cost.seconds:9.1f} {cost.peak_bytes / 2**20:9.0f}"
            if what == "total" and whole is not None:
                line += f" {cost.seconds / whole.seconds:9.2f} {cost.peak_bytes / whole.peak_bytes:9.2f}"
            print(line)


if __name__ == "__main__":
    main()
