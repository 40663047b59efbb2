"""Dice of one fold after the same wall time, by autoseg and by nnU-Net, on the same cases and the same machine.

    python benchmarks/train_vs_nnunet.py DATASET --nnunet ENVIRONMENT --budget 600 [--fold 0] [--configuration NAME]

Both plan, prepare, train, predict the held-out cases and are scored by `autoseg evaluate`; all of it counts. nnU-Net
runs as a knowing user makes it run on a CPU: its own plan with the batch cut to two (`--batch` for another), one
process for augmentation, and as many epochs of 25 iterations as fit, by a trial epoch and validation that do not count.
Its learning rate falls over exactly these epochs. Where an iteration takes long, `--iterations` makes epochs shorter,
and `--plain` the validation, which then predicts no mirrored copies; a trial that was made is used again by whatever
fold has its `trial.json` in the folder. `--only` runs one of the two; results of both are kept in `--folder` and
printed together, so that a long comparison can be made in two goes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from nnunet import NnUNet, step_seconds
from trained import held_out_references

#: Steps of the online validation of each of nnU-Net's epochs, in a shortened training.
ONLINE = 2


def autoseg(*words: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "autoseg", *words], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def dice_of(summary_path: Path) -> dict[str, object]:
    summary = json.loads(summary_path.read_text())
    cases = {case["case"]: {name: label["dice"] for name, label in case["labels"].items()} for case in summary["cases"]}
    labels = {name: label["dice"] for name, label in summary["labels"].items()}
    return {"mean_dice": summary["mean_dice"], "labels": labels, "cases": cases}


def ours(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    work = folder / "autoseg"
    planning = 0.0
    if not (work / "plan.json").exists():
        planning = autoseg("plan", str(options.dataset), "--work", str(work), *options.plan)
    chosen = ["--configuration", options.configuration, "--seed", str(options.seed)]
    left = options.budget - planning
    training = autoseg("train", "--work", str(work), "--fold", options.fold, "--budget", f"{left:.0f}s", *chosen)
    run = work / "runs" / "default" / options.configuration / f"fold_{options.fold}"
    receipt = json.loads((run / "receipt.json").read_text())
    last = (run / "metrics.jsonl").read_text().splitlines()[-1]
    return {
        "seconds": planning + training,
        "steps": receipt["course"]["steps"],
        "precision": receipt["precision"],
        "mirroring": receipt["course"]["scored_with_mirroring"],
        "data_wait": json.loads(last)["data_wait"],
        "stages": receipt["seconds"],
        **dice_of(run / "summary.json"),
    }


def theirs(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    peer = NnUNet(options.nnunet, folder / "nnunet")
    number = peer.take(options.dataset)
    chosen = options.configuration
    words = ("-d", number, "-np", "2", "-c", chosen)
    planning = peer.run("nnUNetv2_plan_and_preprocess", *words)
    peer.change_plan(number, chosen, batch_size=options.batch)
    train = (number, chosen, options.fold, "-device", "cpu")

    kept = folder / "trial.json"
    if not kept.exists():
        peer.write_trainer("Trial", 2, options.iterations, validation=ONLINE, mirror=not options.plain)
        all_of_trial = peer.run("nnUNetv2_train", *train, "-tr", "Trial", log=folder / "trial.txt")
        times = json.loads((peer.results(number, "Trial", chosen, options.fold) / "times.json").read_text())
        validation = times["validation_ended"] - times["validation_began"]
        epoch = times["validation_began"] - times["steps"][1][0]  # the second: the first warms up
        start = all_of_trial - validation - (times["validation_began"] - times["steps"][0][0])
        kept.write_text(json.dumps({"start": start, "epoch": epoch, "validation": validation}))
    start, epoch, validation = (json.loads(kept.read_text())[name] for name in ("start", "epoch", "validation"))
    epochs = max(1, int((options.budget - planning - start - validation) / epoch))
    print(
        f"nnU-Net: plan {planning:.0f} s, start {start:.0f} s, epoch of {options.iterations} {epoch:.1f} s, validation "
        f"{validation:.0f} s: {epochs} epochs",
        flush=True,
    )
    peer.write_trainer("Budget", epochs, options.iterations, validation=ONLINE, mirror=not options.plain)
    training = peer.run("nnUNetv2_train", *train, "-tr", "Budget", log=folder / "train.txt")
    results = peer.results(number, "Budget", chosen, options.fold)
    times = json.loads((results / "times.json").read_text())
    summary, held_out = folder / "nnunet-summary.json", results / "validation"
    references = held_out_references(held_out, peer.prepared(number) / "gt_segmentations", folder / "references")
    autoseg("evaluate", str(held_out), str(references), "--labels-from", str(options.dataset), "--output", str(summary))
    return {
        "seconds": planning + training,
        "steps": epochs * options.iterations,
        "step_seconds": statistics.median(step_seconds(times, skip_epochs=min(1, epochs - 1))),
        **dice_of(summary),
    }


def shown(name: str, result: dict[str, object], budget: float) -> None:
    print(f"\n{name}: {result['seconds']:.0f} s of {budget:.0f} s, {result['steps']} steps")
    for key in ("precision", "mirroring", "data_wait", "step_seconds"):
        if key in result:
            print(f"  {key}: {result[key]}")
    for label, dice in result["labels"].items():  # type: ignore[attr-defined]
        print(f"  {label:24s} {dice if dice is None else round(dice, 4)}")
    print(f"  mean Dice                {result['mean_dice']:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--nnunet", type=Path, default=None, metavar="ENVIRONMENT")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds for everything of one program")
    parser.add_argument("--fold", default="0")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--batch", type=int, default=2, help="samples of nnU-Net's batch")
    parser.add_argument("--iterations", type=int, default=25, help="of one of nnU-Net's epochs")
    parser.add_argument("--plain", action="store_true", help="nnU-Net validates without mirrored copies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plan", nargs="*", default=[], help="further words for `autoseg plan`, as --plan=--no-groups")
    parser.add_argument("--only", choices=("autoseg", "nnunet"))
    parser.add_argument("--folder", type=Path, required=True, help="for all that is written; results are kept there")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    programs = {"autoseg": ours, "nnunet": theirs}
    for name, program in programs.items():
        kept = options.folder / f"{name}.json"
        wanted = options.only in (None, name) and (name == "autoseg" or options.nnunet is not None)
        if wanted and not kept.exists():
            kept.write_text(json.dumps(program(options, options.folder), indent=1))
    print(f"{options.dataset.name}, fold {options.fold}, {options.configuration}")
    found = {name: options.folder / f"{name}.json" for name in programs}
    for name, kept in found.items():
        if kept.exists():
            shown(name, json.loads(kept.read_text()), options.budget)


if __name__ == "__main__":
    main()
