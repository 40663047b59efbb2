"""Seconds and peak memory of planning and preparing a dataset, by autoseg and by nnU-Net, in one run.

    python benchmarks/prepare_vs_nnunet.py DATASET --nnunet ENVIRONMENT

DATASET is a folder in nnU-Net's raw layout (Dataset503_Name) or a Decathlon folder (Task04_Name). ENVIRONMENT is a
virtual environment in which nnU-Net is installed; without it only autoseg is measured. Both programs check every file,
measure, plan, and prepare `2d` and `3d_fullres` with two processes. Memory is the largest sum of Pss (shared pages
counted once) over a program's process tree, sampled every 50 ms, for both alike; seconds are those of another run,
since sampling holds the processes up.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import psutil
from measuring import Cost, measured

CONFIGURATIONS = ("2d", "3d_fullres")


def ours(dataset: Path, work: Path, preset: str, sample_memory: bool) -> dict[str, Cost]:
    program = [sys.executable, "-m", "autoseg"]
    chosen = [word for name in CONFIGURATIONS for word in ("--configuration", name)]
    return {
        "plan": measured(
            [*program, "plan", str(dataset), "--work", str(work), "--preset", preset, "--no-probe"],
            sample_memory=sample_memory,
        ),
        "prepare": measured([*program, "prepare", "--work", str(work), *chosen], sample_memory=sample_memory),
    }


def nnunets(environment: Path, dataset: Path, folder: Path, sample_memory: bool) -> dict[str, Cost]:
    places = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    for place in places.values():
        Path(place).mkdir(parents=True)
    programs, variables = environment / "bin", {**os.environ, **places}
    raw = Path(places["nnUNet_raw"])
    if dataset.name.startswith("Task"):
        copy = folder / dataset.name
        shutil.copytree(dataset, copy)
        measured(
            [str(programs / "nnUNetv2_convert_MSD_dataset"), "-i", str(copy), "-np", "2"],
            variables,
            sample_memory=False,
        )
    else:
        (raw / dataset.name).symlink_to(dataset.resolve(), target_is_directory=True)
    number = next(raw.iterdir()).name[len("Dataset") :][:3]
    command = [str(programs / "nnUNetv2_plan_and_preprocess"), "-d", number, "-np", "2", "--verify_dataset_integrity"]
    return {"plan and prepare": measured([*command, "-c", *CONFIGURATIONS], variables, sample_memory=sample_memory)}


def both(seconds: dict[str, Cost], memory: dict[str, Cost]) -> dict[str, Cost]:
    """The seconds of one run and the memory of another."""
    return {what: Cost(cost.seconds, memory[what].peak_bytes) for what, cost in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--nnunet", type=Path, default=None, metavar="ENVIRONMENT")
    parser.add_argument("--presets", nargs="+", default=["nnunet", "auto"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tables = {}
        for name in options.presets:
            parts = [ours(options.dataset, folder / f"{name}-{sampled}", name, sampled) for sampled in (False, True)]
            tables[f"autoseg, {name}"] = both(*parts)
        if options.nnunet is not None:
            parts = [
                nnunets(options.nnunet, options.dataset, folder / f"nnunet-{sampled}", sampled)
                for sampled in (False, True)
            ]
            tables["nnU-Net"] = both(*parts)
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
