"""Seconds that `autoseg check` takes to read all of a dataset and to find what is wrong with it, its page included.

python benchmarks/check.py DATASET [DATASET...] [--repeats 3] [--workers N]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def one(dataset: Path, workers: int | None) -> tuple[float, dict[str, object]]:
    """Seconds of one command, and what it says as JSON."""
    work = Path(tempfile.mkdtemp())
    command = [sys.executable, "-m", "autoseg", "check", str(dataset), "--json", "--work", str(work)]
    command += [] if workers is None else ["--workers", str(workers)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    shutil.rmtree(work)
    if done.returncode not in (0, 2):  # 2: there are findings
        raise SystemExit(done.stderr)
    return seconds, json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=None)
    options = parser.parse_args()
    for dataset in options.dataset:
        seconds, said = [], {}
        for _ in range(options.repeats):
            found, said = one(dataset, options.workers)
            seconds.append(found)
        print(
            f"{dataset.name:28s} {said['cases']:5} cases: median {statistics.median(seconds):6.2f} s, "
            f"{min(seconds):.2f} to {max(seconds):.2f}; findings {said['counts']}"
        )


if __name__ == "__main__":
    main()
