"""What labelling by `autoseg suggest` gains over labelling at random, on a dataset whose labels are hidden for a while.

    python benchmarks/suggest.py DATASET [--start 20] [--add 20] [--test 60] [--budget 3min] [--random 3]

The cases of a dataset in Decathlon or nnU-Net layout (one file per image) are drawn into three parts by the seed: test
cases, `--start` labelled ones, and all others, whose labels are hidden. A network is trained on the labelled ones,
and suggests `--add` of the others. Then a network is trained anew on the labelled and the suggested ones, and beside
it one for each of some random choices of as many, each with the same budget; all are scored on the test cases.

Everything is done by the commands that a user would type. Prints the mean Dice of each, and the paired difference of
the suggested choice from the random ones with its interval over test cases (bootstrap, 95 %).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def typed(*words: str) -> str:
    """Type a command; what it wrote to stdout."""
    return subprocess.run(
        [sys.executable, "-m", "autoseg", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def image_of(dataset: Path, case: str) -> Path:
    (found,) = [
        path
        for path in (dataset / "imagesTr").glob(f"{case}*.nii.gz")
        if path.name in (f"{case}.nii.gz", f"{case}_0000.nii.gz")
    ]
    return found


def part_of(dataset: Path, cases: Sequence[str], target: Path) -> Path:
    """A dataset of some of the cases."""
    for folder in ("imagesTr", "labelsTr"):
        (target / folder).mkdir(parents=True)
    for case in cases:
        shutil.copy(image_of(dataset, case), target / "imagesTr")
        shutil.copy(dataset / "labelsTr" / f"{case}.nii.gz", target / "labelsTr")
    told = json.loads((dataset / "dataset.json").read_text())
    told["numTraining"] = len(cases)
    if "training" in told:
        told["training"] = [
            {"image": f"./imagesTr/{image_of(dataset, case).name}", "label": f"./labelsTr/{case}.nii.gz"}
            for case in cases
        ]
        told["test"], told["numTest"] = [], 0
    (target / "dataset.json").write_text(json.dumps(told))
    return target


def trained(data: Path, work: Path, options: argparse.Namespace) -> None:
    """Plan, and train on all cases."""
    typed("plan", str(data), "--work", str(work))
    typed(
        *("train", "--work", str(work), "--fold", "all", "--configuration", options.configuration),
        *("--budget", options.budget),
    )


def scored(work: Path, test: Path) -> dict[str, float]:
    """Mean Dice of each test case."""
    masks = work.parent / f"{work.name}-masks"
    typed("predict", str(test / "imagesTr"), str(masks), "--work", str(work), "--no-mirror")
    output = masks.parent / f"{work.name}-scores.json"
    typed("evaluate", str(masks), str(test / "labelsTr"), "--work", str(work), "--output", str(output))
    found = {}
    for case in json.loads(output.read_text())["cases"]:
        dice = [label["dice"] for label in case["labels"].values() if label["dice"] is not None]
        found[case["case"]] = float(np.mean(dice))
    return found


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    draws = np.random.default_rng(0).choice(differences, (10_000, len(differences))).mean(axis=1)
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--start", type=int, default=20)
    parser.add_argument("--add", type=int, default=20)
    parser.add_argument("--test", type=int, default=60)
    parser.add_argument("--budget", default="3min", help="of each training: all of it, preparing included")
    parser.add_argument("--random", type=int, default=3, help="random choices beside the suggested one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--folder", type=Path, default=None, help="keep data and work folders there")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    names = sorted(path.name.removesuffix(".nii.gz") for path in (options.dataset / "labelsTr").glob("[!.]*.nii.gz"))
    rng = np.random.default_rng(options.seed)
    order = [str(name) for name in rng.permutation(names)]
    test = part_of(options.dataset, order[: options.test], folder / "test")
    start, pool = order[options.test :][: options.start], order[options.test :][options.start :]
    trained(part_of(options.dataset, start, folder / "start"), folder / "work-start", options)
    hidden = folder / "hidden"
    hidden.mkdir()
    for case in pool:
        shutil.copy(image_of(options.dataset, case), hidden)
    told = json.loads(
        typed(
            "suggest",
            str(hidden),
            "--work",
            str(folder / "work-start"),
            "--count",
            str(options.add),
            "--cases",
            "--json",
        )
    )
    choices = {"suggested": [one["case"] for one in told["suggested"]]}
    for number in range(options.random):
        choices[f"random {number}"] = [str(name) for name in rng.choice(pool, options.add, replace=False)]
    (folder / "choices.json").write_text(json.dumps(choices, indent=2) + "\n")
    scores = {"start": scored(folder / "work-start", test)}
    for name, chosen in choices.items():
        place = name.replace(" ", "-")
        trained(part_of(options.dataset, [*start, *chosen], folder / place), folder / f"work-{place}", options)
        scores[name] = scored(folder / f"work-{place}", test)
        print(f"{name}: mean Dice {np.mean(list(scores[name].values())):.4f}", flush=True)
    print(
        f"\n{len(start)} labelled, {len(pool)} hidden, {options.add} added, {options.test} test cases, "
        f"seed {options.seed}"
    )
    print(f"start: mean Dice {np.mean(list(scores['start'].values())):.4f}")
    cases = sorted(scores["start"])
    at_random = np.mean([[scores[name][case] for case in cases] for name in choices if name != "suggested"], axis=0)
    differences = np.array([scores["suggested"][case] for case in cases]) - at_random
    low, high = interval(differences)
    print(
        f"suggested less the mean of {options.random} random choices: {differences.mean():+.4f} "
        f"({low:+.4f} to {high:+.4f})"
    )


if __name__ == "__main__":
    main()
