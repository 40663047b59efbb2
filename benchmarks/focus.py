"""Rules that centre patches, under one rule: lesions that are found after the same wall time.

    python benchmarks/focus.py DATASET --folder KEPT [--budget 300] [--folds 1 2] [--only foreground small]

Each rule of `training.focus` is a plan of its own, trained by `autoseg train --budget` (`trained.Rule`); the masks of
the held-out cases are scored by `autoseg evaluate --lesions`, and the lesions of all folds count together. Where the
folder DATASET is not there, 60 made-up volumes are written to it: tissue with bright tubes, and in it one large lesion
or none, two or three of middle size, and six to ten small and paler ones. Results are kept in `--folder`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from trained import Rule, command, held_out_references, kept, rule_of, rule_parser

from autoseg.evaluation.lesions import bin_names, pooled
from autoseg.evaluation.summary import read_summary
from autoseg.records import LesionScore

RULES = ("foreground", "small", "balanced")
CASES = 60
SHAPE = (64, 80, 80)  # 1 mm

Volume = NDArray[np.float64]

#: Lesions of each size: fewest and most in a case, radii in mm, contrast in standard deviations of the noise.
SIZES = (((0, 1), (9.0, 12.0), 2.5), ((2, 3), (4.0, 6.0), 2.5), ((6, 10), (1.4, 2.8), 2.0))


def smooth_noise(rng: np.random.Generator, width: float) -> Volume:
    """Smooth noise of standard deviation 1 on the whole grid."""
    noise = gaussian_filter(rng.normal(size=SHAPE), width)
    return np.asarray(noise / noise.std())


def tube(rng: np.random.Generator, places: Volume) -> Volume:
    """Distance of all places (Z, Y, X, 3) in mm to a line through the tissue."""
    through = np.array(SHAPE) / 2 + rng.uniform(-15, 15, 3)
    along = rng.normal(size=3)
    along /= np.linalg.norm(along)
    apart = places - through
    return np.asarray(np.linalg.norm(apart - (apart @ along)[..., None] * along, axis=-1))


def made_up(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A volume (Z, Y, X) with lesions, and its labels."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*(np.arange(size, dtype=float) for size in SHAPE), indexing="ij"), axis=-1)
    radii = np.array(SHAPE) * rng.uniform(0.42, 0.48, 3)
    depth = (1 - np.linalg.norm((places - np.array(SHAPE) / 2) / radii, axis=-1)) * radii.min()
    image = 4.0 * (depth > 0) + (depth > 0) * (0.7 * smooth_noise(rng, 6.0) + 0.4 * smooth_noise(rng, 1.5))
    for _ in range(5):
        inside = (tube(rng, places) < rng.uniform(0.8, 1.6)) & (depth > 0)
        image = np.where(inside, np.maximum(image, 6.0), image)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    ripple = smooth_noise(rng, 2.0)
    for (fewest, most), (least, largest), contrast in SIZES:
        for _ in range(int(rng.integers(fewest, most + 1))):
            radius = rng.uniform(least, largest)
            within = np.argwhere(depth > radius + 2)
            centre = within[rng.integers(len(within))] + rng.uniform(-0.5, 0.5, 3)
            stretch = rng.uniform(0.85, 1.15, 3)
            distance = np.linalg.norm((places - centre) / stretch, axis=-1) - radius * (1 + 0.1 * ripple)
            image += contrast * rng.uniform(0.7, 1.3) * np.clip(0.5 - distance, 0, 1)
            labels[distance < 0] = 1
    image = gaussian_filter(image, 0.5) + rng.normal(size=SHAPE)
    return image.astype(np.float32), labels


def make_dataset(folder: Path) -> None:
    """Sixty made-up volumes in nnU-Net's layout; the description comes last, so that half a dataset is none."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(CASES):
        image, labels = made_up(number)
        for array, path in (
            (image, folder / "imagesTr" / f"case{number:02d}_0000.nii.gz"),
            (labels, folder / "labelsTr" / f"case{number:02d}.nii.gz"),
        ):
            nib.save(nib.Nifti1Image(array.T, np.eye(4)), path)  # type: ignore[attr-defined]
    description = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1))


def found_lesions(rule: Rule, name: str, fold: str, scores: Path) -> LesionScore:
    """The lesions of all labels that a finished fold found in its held-out cases."""
    masks = rule.work / "runs" / name / rule.configuration / f"fold_{fold}" / "validation"
    words = ("--lesions", "--labels-from", str(rule.dataset), "--output", str(scores))
    references = held_out_references(masks, rule.dataset / "labelsTr", scores.with_suffix(".references"))
    *_, said = command("evaluate", str(masks), str(references), "--work", str(rule.work), *words)
    if said:
        raise SystemExit(said)
    labels = read_summary(scores).labels.values()
    return pooled([label.lesions for label in labels if label.lesions is not None])


def line(what: str, dice: Sequence[float], steps: Sequence[object], counted: LesionScore) -> str:
    """A row of the table: of each size the share that was found and the false alarms."""
    sizes = []
    for part in counted.by_size:
        all_of_size = part.found + part.missed
        sizes.append(f"{part.found} of {all_of_size}, {part.false_alarms} false" if all_of_size else "–")
    figures = (counted.f1, counted.sensitivity, counted.precision, statistics.mean(dice))
    told = ["–" if figure is None else f"{figure:.3f}" for figure in figures]
    return " | ".join([f"| {what}", *told, *sizes, f"{' and '.join(map(str, steps))} |"])


def main() -> None:
    parser = rule_parser(__doc__, 300.0, RULES)
    parser.add_argument("--folds", nargs="*", default=["1", "2"])
    options = parser.parse_args()
    if not (options.dataset / "dataset.json").exists():
        make_dataset(options.dataset)
    rule = rule_of(options)
    print(f"{options.dataset.name}, {options.configuration}, {options.budget:.0f} s each\n")
    print(f"| rule | F1 | sensitivity | precision | mean Dice | {' | '.join(bin_names())} | steps |")
    print("|---|" + "---|" * (5 + len(bin_names())))
    for what in options.only:
        rows, lesions = [], []
        for fold in options.folds:
            path = options.folder / f"{what}-{fold}.json"
            rows.append(kept(path, rule, what, ("--set", f"sampling={what}"), fold))
            if "failed" in rows[-1]:
                raise SystemExit(f"{what}, fold {fold}: {rows[-1]['failed']}")
            lesions.append(found_lesions(rule, what, fold, path.with_name(f"{what}-{fold}-lesions.json")))
        dice = [float(str(row["mean_dice"])) for row in rows]
        print(line(what, dice, [row["steps"] for row in rows], pooled(lesions)), flush=True)


if __name__ == "__main__":
    main()
