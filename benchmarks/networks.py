"""Every network by name under one rule: Dice of one fold after the same wall time, on the same cases and machine.

    python benchmarks/networks.py DATASET --budget 600 --folder KEPT [--configuration 2d] [--only unetpp mednext]

For each network: `autoseg plan --network NAME`, then `autoseg train --fold 0 --budget`; preparing, training and scoring
count, planning does not (it is the same work for each). GB is the memory of the largest process at its peak. What a
network cannot do is told, not left out. Results are kept in `--folder`, so that a long comparison can be made in parts;
the table is printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from autoseg.files import read_record
from autoseg.networks.catalog import NETWORKS
from autoseg.planning.step import weights_of
from autoseg.records import Plan


def autoseg(*words: str) -> tuple[float, float, str]:
    """Seconds, the largest process in GB, and what the command said where it failed."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as log:
        started = subprocess.Popen([sys.executable, "-m", "autoseg", *words], stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        said = "" if started.returncode == 0 else " ".join(log.read().decode(errors="replace").split())[-300:]
    return time.monotonic() - began, used.ru_maxrss * 1024 / 1e9, said


def result(options: argparse.Namespace, network: str) -> dict[str, object]:
    # one work folder: the prepared cases, and the folds, are the same for all
    work = options.folder / "work"
    words = ("--work", str(work), "--name", network)
    if not (work / f"plan-{network}.json").exists():
        *_, said = autoseg("plan", str(options.dataset), *words, "--network", network, *options.plan)
        if said:
            return {"failed": said}
    plan = read_record(work / f"plan-{network}.json", Plan)
    if options.configuration not in plan.configurations:
        why = [reason.because for reason in plan.reasons if reason.field == options.configuration]
        return {"failed": " ".join(["not planned:", *why])}
    entry = plan.configurations[options.configuration]
    chosen = ("--configuration", options.configuration, "--fold", options.fold, "--seed", str(options.seed))
    seconds, gigabytes, said = autoseg(
        "train", *words[:2], "--plan", network, *chosen, "--budget", f"{options.budget:.0f}s"
    )
    if said:
        return {"failed": said}
    run = work / "runs" / network / options.configuration / f"fold_{options.fold}"
    summary = json.loads((run / "summary.json").read_text())
    course = json.loads((run / "receipt.json").read_text())["course"]
    return {
        "seconds": seconds,
        "gigabytes": gigabytes,
        "steps": course["steps"],
        "step_seconds": course["training_seconds"] / course["steps"],
        "weights": weights_of(entry, len(plan.channels), plan.labels),
        "patch": "×".join(map(str, entry.patch_size)),
        "batch": entry.batch_size,
        "mean_dice": summary["mean_dice"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--budget", type=float, default=600.0, help="seconds of `autoseg train` for each network")
    parser.add_argument("--fold", default="0")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plan", nargs="*", default=[], help="further words for `autoseg plan`, as --plan=--no-probe")
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--folder", type=Path, required=True, help="for all that is written; results are kept there")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for network in options.only:
        kept = options.folder / f"{network}-{options.configuration}.json"
        if not kept.exists():
            kept.write_text(json.dumps(result(options, network), indent=1))
    print(f"{options.dataset.name}, fold {options.fold}, {options.configuration}, {options.budget:.0f} s each\n")
    print("| network | weights | patch | batch | steps | seconds a step | GB | seconds in all | mean Dice |")
    print("|---|---|---|---|---|---|---|---|---|")
    for network in NETWORKS:
        kept = options.folder / f"{network}-{options.configuration}.json"
        if not kept.exists():
            continue
        row = json.loads(kept.read_text())
        if "failed" in row:
            print(f"| `{network}` | {row['failed']} ||||||||")
            continue
        cells = (
            f"{row['weights'] / 1e6:.1f} M",
            *(row[name] for name in ("patch", "batch", "steps")),
            f"{row['step_seconds']:.3f}",
            f"{row['gigabytes']:.1f}",
            f"{row['seconds']:.0f}",
        )
        print(f"| `{network}` | {' | '.join(map(str, cells))} | {row['mean_dice']:.4f} |")


if __name__ == "__main__":
    main()
