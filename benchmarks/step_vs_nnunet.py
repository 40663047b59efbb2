"""Seconds of one training step with nnU-Net's own network, patch and batch, by autoseg and by nnU-Net in one run.

    python benchmarks/step_vs_nnunet.py DATASET --nnunet ENVIRONMENT --folder DIR [--configuration 3d_fullres]

All that a step needs counts: cropping, augmentation, network, loss, optimizer. The programs take turns; each turn's
first epoch is left out. autoseg trains the plan of `--preset nnunet`, in the device's best precision.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from nnunet import NnUNet, step_seconds

#: Steps of an epoch, and epochs of a turn.
STEPS, EPOCHS = 6, 3


def ours(dataset: Path, work: Path, configuration: str, precision: str) -> list[float]:
    """Seconds per step of each epoch but the first."""
    program = [sys.executable, "-m", "autoseg"]
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([*program, "plan", str(dataset), "--work", str(work), "--preset", "nnunet", "--no-probe"], **quiet)
    path = work / "plan.json"
    plan = json.loads(path.read_text())
    plan["configurations"][configuration]["steps_per_epoch"] = STEPS
    path.write_text(json.dumps(plan))
    words = ["train", "--work", str(work), "--configuration", configuration, "--fold", "all"]
    subprocess.run([*program, *words, "--epochs", str(EPOCHS), "--precision", precision], **quiet)
    (metrics,) = work.glob("runs/*/*/*/metrics.jsonl")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    print(f"  data wait {max(line['data_wait'] for line in lines[1:]):.1%}", flush=True)
    return [1 / line["steps_per_second"] for line in lines[1:]]


def theirs(peer: NnUNet, number: str, turn: int, configuration: str) -> list[float]:
    peer.write_trainer("Steps", EPOCHS, STEPS, validation=1, validate=False)
    words = (number, configuration, str(turn), "-device", "cpu", "-tr", "Steps")
    peer.run("nnUNetv2_train", *words)
    times = json.loads((peer.results(number, "Steps", configuration, str(turn)) / "times.json").read_text())
    return step_seconds(times, skip_epochs=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--nnunet", type=Path, required=True, metavar="ENVIRONMENT")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    folder, chosen = options.folder, options.configuration
    peer = NnUNet(options.nnunet, folder / "nnunet")
    number = peer.take(options.dataset)
    peer.run("nnUNetv2_plan_and_preprocess", "-d", number, "-np", "2", "-c", chosen)
    found: dict[str, list[float]] = {"autoseg": [], "nnU-Net": []}
    for turn in range(options.turns):
        found["autoseg"].append(
            statistics.median(ours(options.dataset, folder / f"autoseg-{turn}", chosen, options.precision))
        )
        found["nnU-Net"].append(statistics.median(theirs(peer, number, turn, chosen)))
        print(f"turn {turn}: autoseg {found['autoseg'][-1]:.2f} s, nnU-Net {found['nnU-Net'][-1]:.2f} s", flush=True)
    own, peers = (statistics.median(found[name]) for name in ("autoseg", "nnU-Net"))
    print(f"median seconds of a step: autoseg {own:.2f}, nnU-Net {peers:.2f}, ratio {own / peers:.2f}")


if __name__ == "__main__":
    main()
