"""Seconds until a command answers that has nothing to do but to explain itself, by autoseg and by nnU-Net.

python benchmarks/start.py [--nnunet ENVIRONMENT] [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str], repeats: int) -> list[float]:
    found = []
    for _ in range(repeats + 1):  # the first fills the disk's cache
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    return found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, default=None, metavar="ENVIRONMENT")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    commands = {
        "autoseg --help": [sys.executable, "-m", "autoseg", "--help"],
        "autoseg predict --help": [sys.executable, "-m", "autoseg", "predict", "--help"],
    }
    if options.nnunet is not None:
        commands["nnUNetv2_predict -h"] = [str(options.nnunet / "bin" / "nnUNetv2_predict"), "-h"]
    for name, command in commands.items():
        found = seconds(command, options.repeats)
        print(f"{name:24s} median {statistics.median(found):6.2f} s, {min(found):.2f} to {max(found):.2f}")


if __name__ == "__main__":
    main()
