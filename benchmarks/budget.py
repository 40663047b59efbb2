"""Dice of one fold after a budget of wall time: plan, prepare, train and score, all included.

    python benchmarks/budget.py DATASET --budget 10min [--fold 0] [--configuration 3d_fullres] [--work DIR]

Runs the commands a user would type, in a fresh work folder, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(*words: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "autoseg", *words], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--budget", type=float, default=600.0, help="seconds for plan, train and score together")
    parser.add_argument("--fold", default="0")
    parser.add_argument("--configuration", default=None)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp()) / "work"
    planning = timed("plan", str(options.dataset), "--work", str(work))
    chosen = ["--configuration", options.configuration] if options.configuration else []
    left = options.budget - planning
    training = timed("train", "--work", str(work), "--fold", options.fold, "--budget", f"{left:.0f}s", *chosen)
    (receipt_path,) = work.glob(f"runs/*/*/fold_{options.fold}/receipt.json")
    receipt = json.loads(receipt_path.read_text())
    summary = json.loads((receipt_path.parent / "summary.json").read_text())
    print(f"plan                     {planning:8.1f} s")
    for stage, seconds in receipt["seconds"].items():
        print(f"train: {stage:17s} {seconds:8.1f} s")
    print(f"all                      {planning + training:8.1f} s   (budget {options.budget:.0f} s)")
    print(f"steps {receipt['course']['steps']}")
    print(f"device {receipt['device']}, {receipt['precision']}, seed {receipt['seed']}")
    print(f"mirroring when scored: {receipt['course']['scored_with_mirroring']}")
    for name, entry in summary["labels"].items():
        print(f"Dice {name:20s} {entry['dice']!s:22} N = {entry['cases']}")
    print(f"mean Dice                 {summary['mean_dice']:.4f}")


if __name__ == "__main__":
    main()
