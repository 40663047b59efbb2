"""Seconds and peak memory from a network's scores to the mask on the image's grid, by autoseg and by nnU-Net.

    python benchmarks/export.py [--classes 16 117] [--sigma 16 8] [--labels FILE.nii.gz] [--nnunet ENVIRONMENT]

Scores on 150x170x170 voxels become labels on 300x340x340. Per class they are unit noise, blurred with a Gaussian of
`sigma` voxels (16 gives about as many boundary cells as a whole-body map has), and with --labels also those of a real
label map, one-hot and blurred. The share of boundary cells, on which the work depends, is told. ENVIRONMENT is a
virtual environment in which nnU-Net is installed. Memory is the largest sum of Pss over the process tree; the scores
themselves, which both programs hold, are told beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

#: nnU-Net holds the scores of all classes on the new grid several times: of more classes they do not fit.
MOST_CLASSES_OF_NNUNET = 32

SHAPE, NEW_SHAPE = (150, 170, 170), (300, 340, 340)

NNUNET = """
import json, sys, time
import numpy as np, torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape as convert
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
scores = np.load(sys.argv[1])
heads = len(scores)
resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
plans = {
    "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
    "configurations": {"3d_fullres": {"spacing": [2.0, 2.0, 2.0],
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling}},
}
manager = PlansManager(plans)
configuration = manager.get_configuration("3d_fullres")
dataset = {"labels": {"background": 0, **{f"label {n}": n for n in range(1, heads)}}}
labels = manager.get_label_manager(dataset)
new = (300, 340, 340)
properties = {
    "spacing": [1.0, 1.0, 1.0], "shape_after_cropping_and_before_resampling": new,
    "shape_before_cropping": new, "bbox_used_for_cropping": [[0, n] for n in new],
}
began = time.perf_counter()
mask = convert(scores, manager, configuration, labels, properties, num_threads_torch=2)
print(json.dumps({"seconds": time.perf_counter() - began}))
np.save(sys.argv[2], mask)
"""

OURS = """
import json, sys, time
import numpy as np
import autoseg.arrays.resample_scores_torch  # loads torch, as the other program does before its clock starts
from autoseg.preprocessing.export import in_slabs, labels_on_grid
from autoseg.records import Labels
scores = np.load(sys.argv[1])
names = Labels(names={"background": 0, **{f"label {n}": n for n in range(1, len(scores))}})
began = time.perf_counter()
mask = labels_on_grid(
    in_slabs(scores), scores.shape[1:], (300, 340, 340), (2.0, 2.0, 2.0), (1.0, 1.0, 1.0), names, 1
)
print(json.dumps({"seconds": time.perf_counter() - began}))
np.save(sys.argv[2], mask)
"""


def noise(classes: int, sigma: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(0)
    scores = np.empty((classes, *SHAPE), dtype=np.float32)
    for values in scores:
        values[...] = gaussian_filter(generator.standard_normal(SHAPE, dtype=np.float32), sigma)
    return scores


def of_labels(path: Path, classes: int) -> np.ndarray:
    """The most frequent labels of a map as scores: one-hot, blurred, on the benchmark's grid."""
    import nibabel
    from scipy.ndimage import gaussian_filter, zoom

    labels = np.asarray(nibabel.load(path).dataobj).T  # type: ignore[attr-defined]
    factors = [size / length for size, length in zip(SHAPE, labels.shape, strict=True)]
    labels = zoom(labels, factors, order=0)
    values, counts = np.unique(labels, return_counts=True)
    chosen = values[np.argsort(-counts)][:classes]
    return np.stack([gaussian_filter((labels == value).astype(np.float32), 1.0) * 10 for value in chosen])


def boundary_share(scores: np.ndarray) -> float:
    """Cells whose eight corners do not all have the same winner."""
    winner = scores.argmax(axis=0)
    first = winner[:-1, :-1, :-1]
    same = np.ones(first.shape, dtype=bool)
    for corner in np.ndindex(2, 2, 2):
        z, y, x = (slice(offset, offset + size - 1) for offset, size in zip(corner, winner.shape, strict=True))
        same &= winner[z, y, x] == first
    return float(1 - same.mean())


def run(python: str, program: str, scores: Path, mask: Path, repeats: int) -> tuple[float, int]:
    """Median seconds of the export itself, and, from a further run, the largest memory of the whole process."""
    from measuring import measured

    seconds = []
    for number in range(repeats + 1):
        log = mask.with_suffix(".log")
        script = mask.with_suffix(".py")
        script.write_text(f"import sys\nsys.stdout = open({str(log)!r}, 'w')\n{program}\nsys.stdout.close()\n")
        cost = measured([python, str(script), str(scores), str(mask)], sample_memory=number == repeats)
        if number == repeats:
            return float(np.median(seconds)), cost.peak_bytes
        seconds.append(json.loads(log.read_text().splitlines()[-1])["seconds"])
    raise ValueError("no repeats")


def compared(name: str, scores: np.ndarray, options: argparse.Namespace) -> None:
    """One line for each program."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        np.save(folder / "scores.npy", scores)
        share = boundary_share(scores)
        print(f"\n{name}: {len(scores)} classes, {scores.nbytes / 1e9:.2f} GB of scores, {share:.1%} boundary cells")
        classes = len(scores)
        del scores
        seconds, peak = run(sys.executable, OURS, folder / "scores.npy", folder / "ours.npy", options.repeats)
        print(f"autoseg  {seconds:8.2f} s  {peak / 1e9:6.2f} GB", flush=True)
        if options.nnunet is None or classes > MOST_CLASSES_OF_NNUNET:
            return
        python = str(options.nnunet / "bin" / "python")
        theirs, most = run(python, NNUNET, folder / "scores.npy", folder / "theirs.npy", options.repeats)
        print(f"nnU-Net  {theirs:8.2f} s  {most / 1e9:6.2f} GB")
        print(f"ratio    {seconds / theirs:8.3f}    {peak / most:6.3f}")
        equal = np.mean(np.load(folder / "ours.npy") == np.load(folder / "theirs.npy"))
        print(f"voxels with the same label: {equal:.6%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="*", default=[16, 117])
    parser.add_argument("--sigma", type=float, nargs="*", default=[16, 8])
    parser.add_argument(
        "--labels", type=Path, default=None, help="a label map, of which the most frequent labels count"
    )
    parser.add_argument("--nnunet", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for classes in options.classes:
        # the noise of many classes costs minutes to make, so that one width is enough for them
        for sigma in options.sigma if classes <= MOST_CLASSES_OF_NNUNET else options.sigma[:1]:
            compared(f"noise, sigma {sigma:g}", noise(classes, sigma), options)
    if options.labels is not None:
        compared(options.labels.name, of_labels(options.labels, max(options.classes)), options)


if __name__ == "__main__":
    main()
