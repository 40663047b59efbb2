"""How well nuclei are found one by one after a short training: held-out images of one fold, by kind of image.

    python benchmarks/dsb2018.py DATASET [--budget 1200] [--fold 0] [--seed 0] [--folder KEPT] [--set NAME=VALUE …]

DATASET has pictures and `instancesTr`, such as the 2018 Data Science Bowl's (BBBC038). Runs `autoseg plan` and
`autoseg train --budget`, all of which counts, and reads the scores of the held-out images from their summary. AP50 is
TP / (TP + FP + FN) at an IoU of 0.5, PQ the panoptic quality; both are means over images, as papers tell them, and in
the last columns over all nuclei together. Kinds are told by the pixels: grey on dark is fluorescence, colour is stained
tissue, grey on light is bright field. `--predict` predicts the held-out images once more by the command, and tells the
seconds of an image.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from autoseg.dataset.layouts import open_dataset
from autoseg.evaluation.instances import IOU_THRESHOLDS
from autoseg.records import Case

#: Mean difference between the largest and the smallest colour of a pixel, of 255, above which an image is coloured.
COLOURED = 5

#: Median brightness, of 255, from which an image is light.
LIGHT = 100

AP50, AP75 = IOU_THRESHOLDS.index(0.5), IOU_THRESHOLDS.index(0.75)


def autoseg(*words: str) -> float:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "autoseg", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"autoseg {' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return time.monotonic() - began


def kind_of(case: Case) -> str:
    pixels = np.asarray(Image.open(case.images[0]).convert("RGB"), dtype=np.int16)
    if float((pixels.max(-1) - pixels.min(-1)).mean()) > COLOURED:
        return "stained tissue"
    return "bright field" if float(np.median(pixels.mean(-1))) >= LIGHT else "fluorescence"


def mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.3f}" if known else "-"


def row(name: str, scores: list[dict[str, Any]]) -> str:
    """Means over images, then of all objects together."""
    pairs = sum(score["matched"] for score in scores)
    sizes = sum((score["reference"] + score["prediction"]) / 2 for score in scores)
    hits, wrong = (
        sum(score["counts"][AP50][field] for score in scores for field in fields)
        for fields in (("true_positives",), ("false_positives", "false_negatives"))
    )
    told = [
        mean([score["counts"][AP50]["average_precision"] for score in scores]),
        mean([score["counts"][AP75]["average_precision"] for score in scores]),
        *(mean([score[f"{part}_quality"] for score in scores]) for part in ("panoptic", "segmentation", "recognition")),
        f"{hits / (hits + wrong):.3f}" if hits + wrong else "-",
        f"{sum(score['iou_sum'] for score in scores) / sizes:.3f}" if sizes else "-",
        f"{pairs}/{sum(score['reference'] for score in scores)}",
    ]
    return f"{name:16} {len(scores):6} " + " ".join(f"{figure:>9}" for figure in told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--budget", type=float, default=1200, help="seconds for all")
    parser.add_argument("--fold", default="0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the work is kept; otherwise it is removed")
    parser.add_argument("--plan", nargs="*", default=[], help="further words of `autoseg plan`")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the training, such as augmentation=pictures")
    parser.add_argument("--predict", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        measure(options, folder)


def measure(options: argparse.Namespace, folder: Path) -> None:
    work = folder / "work"
    planning = autoseg("plan", str(options.dataset), "--work", str(work), *options.plan)
    left = options.budget - planning
    words = ("--work", str(work), "--fold", options.fold, "--seed", str(options.seed))
    settings = [word for setting in options.set for word in ("--set", setting)]
    training = autoseg("train", *words, "--budget", f"{left:.0f}s", *settings)
    (run,) = (work / "runs" / "default").glob(f"*/fold_{options.fold}")
    receipt = json.loads((run / "receipt.json").read_text())
    print(f"{run.parent.name}: plan {planning:.0f} s, train {training:.0f} s, {receipt['course']['steps']} steps")
    summary = json.loads((run / "summary.json").read_text())
    cases = {case.id: case for case in open_dataset(options.dataset).cases}
    kinds: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for case in summary["cases"]:
        for label in case["labels"].values():
            if label["instances"] is not None:
                kinds[kind_of(cases[case["case"]])].append(label["instances"])
    columns = ("AP50", "AP75", "PQ", "SQ", "RQ", "AP50 all", "PQ all", "found")
    print(f"{'kind':16} {'images':>6} " + " ".join(f"{column:>9}" for column in columns))
    for kind, scores in sorted(kinds.items()):
        print(row(kind, scores))
    print(row("all", [score for scores in kinds.values() for score in scores]))
    dice = {label: entry["dice"] for label, entry in summary["labels"].items()}
    print("Dice: " + ", ".join(f"{label} {value:.3f}" for label, value in dice.items() if value is not None))
    if options.predict:
        images = folder / "held_out"
        images.mkdir(exist_ok=True)
        for case in summary["cases"]:
            for image in cases[case["case"]].images:
                (images / image.name).unlink(missing_ok=True)
                (images / image.name).symlink_to(image.resolve())
        model = str(run / "model.safetensors")
        seconds = autoseg("predict", str(images), str(folder / "masks"), "--model", model, "--overwrite")
        print(f"predict: {seconds:.1f} s for {len(summary['cases'])} images, start included")


if __name__ == "__main__":
    main()
