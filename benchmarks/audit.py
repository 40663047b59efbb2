"""How early `autoseg audit` shows references that were made wrong: precision and recall of the head of its queue.

    python benchmarks/audit.py DATASET [--budget 10min] [--wrong 13] [--seed 0] [--folder KEPT] [--trained WORK]

Copies a dataset of label maps in Decathlon or nnU-Net layout, and makes some references wrong, in equal parts: all
labels shifted by 3 voxels along an axis; the foreground eroded by 1 voxel; one label dropped; two labels exchanged.
Then it runs the commands a user would type: plan, train every fold (the budget is that of each), audit.

With --trained the folds are taken from a work folder that was trained on the references as they are. That is quicker,
and easier than what a user has: those networks never learned from a wrong reference. The output says so.

Prints how many of the wrong ones, by kind, are among the first 5 % and 10 % of the queue, and of the cases that the
queue calls so how many are. Beside it stands what sorting by the Dice of the held-out masks would find.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

HEADS = (0.05, 0.10)

Change = Callable[[NDArray[np.integer], np.random.Generator], NDArray[np.integer]]


def shifted(labels: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
    """By 3 voxels to one side, along any axis; what leaves the image is gone."""
    axis, way = int(rng.integers(3)), int(rng.choice([-3, 3]))
    moved = np.roll(labels, way, axis)
    gap: list[slice] = [slice(None)] * 3
    gap[axis] = slice(0, way) if way > 0 else slice(way, None)
    moved[tuple(gap)] = 0
    return moved


def eroded(labels: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
    """The foreground less its outermost voxels (those that touch background by a face)."""
    del rng
    return np.where(ndimage.binary_erosion(labels > 0), labels, 0)


def dropped(labels: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
    """Without one of its labels."""
    return np.where(labels == rng.choice(np.unique(labels[labels > 0])), 0, labels)


def swapped(labels: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
    """Two of its labels exchanged."""
    one, other = rng.choice(np.unique(labels[labels > 0]), 2, replace=False)
    return np.where(labels == one, other, np.where(labels == other, one, labels))


CHANGES: Mapping[str, Change] = {"shifted": shifted, "eroded": eroded, "dropped": dropped, "swapped": swapped}


def corrupted_copy(dataset: Path, target: Path, count: int, seed: int, among: Sequence[str] | None) -> dict[str, str]:
    """Copy the dataset and make some references wrong; the case and kind of each."""
    shutil.copytree(dataset, target)
    files = {path.name.removesuffix(".nii.gz"): path for path in sorted((target / "labelsTr").glob("[!.]*.nii.gz"))}
    rng = np.random.default_rng(seed)
    drawn = rng.choice(sorted(files if among is None else among), count, replace=False)
    kinds = list(CHANGES)
    wrong = {str(case): kinds[place % len(kinds)] for place, case in enumerate(drawn)}
    for case, kind in wrong.items():
        stored = nibabel.load(files[case])
        before = np.asarray(stored.dataobj)
        after = CHANGES[kind](before, rng).astype(before.dtype)
        if np.array_equal(before, after):
            raise SystemExit(f"{case} was not changed by {kind}")
        nibabel.save(nibabel.Nifti1Image(after, stored.affine, stored.header), files[case])
    return wrong


def typed(*words: str) -> str:
    """Type a command; what it wrote to stdout."""
    return subprocess.run(
        [sys.executable, "-m", "autoseg", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def held_out_of(work: Path) -> list[str]:
    """Cases that have held-out scores in a work folder."""
    summaries = (json.loads(path.read_text()) for path in work.glob("runs/*/*/fold_*/summary.json"))
    return sorted({case["case"] for summary in summaries for case in summary["cases"]})


def borrowed(trained: Path, work: Path, target: Path) -> None:
    """A work folder with the networks of another, whose dataset is the copy."""
    shutil.copytree(trained, work, ignore=shutil.ignore_patterns("prepared", "audit", "report", "ensembles"))
    told = (work / "dataset.json").read_text()
    (work / "dataset.json").write_text(told.replace(json.loads(told)["root"], str(target.resolve())))


def by_dice(cases: Sequence[Mapping[str, object]]) -> list[str]:
    """Cases by the mean Dice of held-out masks and references, lowest first."""
    dice = {str(case["case"]): case["dice"] for case in cases}
    return sorted(dice, key=lambda case: (dice[case] is not None, dice[case]))


def show(wrong: Mapping[str, str], ranked: Sequence[str], called: Mapping[str, str], title: str) -> None:
    """Recall by kind of each head of the queue, and how many of those called so are."""
    print(f"\n{title}")
    for share in HEADS:
        head = ranked[: max(1, round(share * len(ranked)))]
        hits = [case for case in head if case in wrong]
        print(
            f"first {share:.0%} ({len(head)} of {len(ranked)}): {len(hits)} of {len(wrong)} wrong ones, "
            f"recall {len(hits) / len(wrong):.3f}, precision {len(hits) / len(head):.3f}"
        )
        for kind in CHANGES:
            of_kind = [case for case in wrong if wrong[case] == kind]
            found = [case for case in of_kind if case in head]
            line = f"  {kind:8s} recall {len(found)} of {len(of_kind)}"
            if called:
                so_called = [case for case in head if called[case] == kind]
                right = [case for case in so_called if wrong.get(case) == kind]
                line += f"; called so in the head {len(so_called)}, of which {len(right)} are"
            print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--budget", default="10min", help="for each fold: plan and train as long")
    parser.add_argument("--wrong", type=int, default=13)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--folder", type=Path, default=None, help="keep data and work folder there")
    parser.add_argument("--trained", type=Path, default=None, help="networks of this work folder instead of new ones")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    data, work = folder / "data", folder / "work"
    among = None if options.trained is None else held_out_of(options.trained)
    wrong = corrupted_copy(options.dataset, data, options.wrong, options.seed, among)
    (folder / "wrong.json").write_text(json.dumps(wrong, indent=2) + "\n")
    if options.trained is None:
        typed("plan", str(data), "--work", str(work))
        typed(
            *("train", "--work", str(work), "--fold", "every", "--configuration", options.configuration),
            *("--budget", options.budget),
        )
    else:
        borrowed(options.trained, work, data)
    began = time.monotonic()
    told = json.loads(typed("audit", "--work", str(work), "--json"))
    seconds = time.monotonic() - began
    print(f"{len(told['cases'])} references, {len(wrong)} made wrong (seed {options.seed}); audit took {seconds:.1f} s")
    if options.trained is not None:
        print("Networks trained on the references before they were made wrong: the easier case.")
    ranked = [case["case"] for case in told["cases"]]
    show(wrong, ranked, {case["case"]: case["kind"] for case in told["cases"]}, "Queue of the audit")
    show(wrong, by_dice(told["cases"]), {}, "Sorted by the Dice of held-out masks")
    print("\nrank  case  made wrong  called  suspicion  Dice  in words")
    for case in sorted(wrong, key=lambda one: ranked.index(one) if one in ranked else len(ranked)):
        if case not in ranked:
            print(f"   -  {case}  {wrong[case]}: not looked at")
            continue
        entry = told["cases"][ranked.index(case)]
        print(
            f"{ranked.index(case) + 1:4d}  {case}  {wrong[case]:8s}  {entry['kind'] or '-':8s}  "
            f"{entry['suspicion']:6.2f}  {entry['dice']!s:.5}  {entry['what']}"
        )


if __name__ == "__main__":
    main()
