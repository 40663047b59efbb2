"""Memory of the first training step: what a plan estimates beside what trying the step took, for several plans.

python benchmarks/step_memory.py DATASET [DATASET...] [--options "--preset nnunet" --options "--network resenc" ...]

Each dataset is planned once without options and once with each of those given; the plan itself tries the step.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from autoseg.files import read_record
from autoseg.planning.step import step_bytes
from autoseg.records import Plan, Probe


def rows(work: Path) -> list[tuple[str, int, int]]:
    """Each configuration with its patch and batch in words, the estimate and what was measured, in bytes."""
    plan, probe = read_record(work / "plan.json", Plan), read_record(work / "probe.json", Probe)
    half, found = probe.precision != "float32", []
    for step in probe.steps:
        entry = plan.configurations[step.configuration]
        estimate = step_bytes(entry, len(plan.channels), plan.labels, plan.training, half_precision=half)
        words = f"{entry.name} {'x'.join(map(str, entry.patch_size))} batch {entry.batch_size} {probe.precision}"
        found.append((words, estimate, step.peak_bytes or 0))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, nargs="+")
    parser.add_argument("--options", action="append", default=[])
    arguments = parser.parse_args()
    for dataset in arguments.dataset:
        for options in ["", *arguments.options]:
            with tempfile.TemporaryDirectory() as folder:
                work = Path(folder) / "work"
                command = [sys.executable, "-m", "autoseg", "plan", str(dataset), "--work", str(work), *options.split()]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode not in (0, 2):
                    print(f"{dataset.name} {options}: {done.stderr.strip()[-200:]}")
                    continue
                for words, estimate, measured in rows(work):
                    ratio = f"{estimate / measured:.2f}" if measured else "-"
                    print(f"{dataset.name:24s} {options:32s} {words:44s} {estimate / 1e6:8.0f} MB estimated")
                    print(f"{'':24s} {'':32s} {'':44s} {measured / 1e6:8.0f} MB measured, ratio {ratio}", flush=True)


if __name__ == "__main__":
    main()
