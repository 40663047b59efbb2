"""Seconds of all metrics of one CT-sized case, by autoseg and by MONAI, and how far their figures differ.

    python benchmarks/metrics.py [--shape 300 512 512] [--spacing 1.0 0.8 0.8] [--repeats 5] [--no-monai]

Seven ellipsoids of the size of abdominal organs and of a lung, their surfaces deformed by smooth noise, are the
reference; the mask is the same with other noise added, a corner of the liver missing and a ball too many. All is made
from a seed. Both programs get the two label maps in memory and give, per label, Dice, IoU, NSD, HD95, ASSD and the
volumes. Wall time and processor time are the least of the repeats, since the machine may have other work.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from autoseg.evaluation.metrics import score_case
from autoseg.machine import available_cores
from autoseg.records import CaseScore, Labels

TOLERANCE_MM = 1.0

#: Label: centre as a share of the volume, half axes in mm (Z, Y, X), about those of an adult.
ORGANS = {
    "liver": ((0.45, 0.45, 0.32), (75.0, 75.0, 70.0)),
    "spleen": ((0.48, 0.62, 0.76), (50.0, 35.0, 25.0)),
    "right kidney": ((0.32, 0.64, 0.34), (55.0, 27.0, 28.0)),
    "left kidney": ((0.33, 0.66, 0.66), (55.0, 27.0, 28.0)),
    "stomach": ((0.50, 0.40, 0.64), (50.0, 40.0, 40.0)),
    "pancreas": ((0.36, 0.47, 0.52), (14.0, 16.0, 65.0)),
    "left lung": ((0.80, 0.48, 0.72), (95.0, 80.0, 55.0)),
}
LABELS = Labels(names={"background": 0, **{name: value for value, name in enumerate(ORGANS, start=1)}})


def organs(shape: Sequence[int], spacing: Sequence[float], error: float) -> NDArray[np.uint8]:
    """The label map (Z, Y, X); `error` is how much the surfaces differ from the reference's, as a share of the size."""
    labels = np.zeros(tuple(shape), dtype=np.uint8)
    for value, (centre, axes) in enumerate(ORGANS.values(), start=1):
        box, radii = [], []
        for size, step, share, half in zip(shape, spacing, centre, axes, strict=True):
            offsets = (np.arange(size) - share * size) * step / half
            inside = np.flatnonzero(np.abs(offsets) < 1.3)
            box.append(slice(int(inside[0]), int(inside[-1]) + 1))
            radii.append(offsets[box[-1]])
        z, y, x = np.meshgrid(*radii, indexing="ij", sparse=True)
        radius = np.sqrt(z**2 + y**2 + x**2) + 0.07 * bumps(labels[tuple(box)].shape, 12, value)
        if error:
            radius += error * bumps(radius.shape, 24, 100 + value)
        labels[tuple(box)][radius < 1] = value
    if error:
        spoil(labels)
    return labels


def bumps(shape: Sequence[int], count: int, seed: int) -> NDArray[np.float32]:
    """Smooth noise of deviation 1, made on a grid of `count` points along each axis."""
    coarse = gaussian_filter(np.random.default_rng(seed).standard_normal([count] * 3).astype(np.float32), 1.5)
    fine: NDArray[np.float32] = zoom(coarse / coarse.std(), [size / count for size in shape], order=1)
    return fine


def spoil(labels: NDArray[np.uint8]) -> None:
    """Take a corner of the first label away, and see a ball of the last one where there is none."""
    first = np.argwhere(labels == 1)
    low, high = first.min(axis=0), first.max(axis=0)
    corner = tuple(slice(int(a), int(a + (b - a) // 3)) for a, b in zip(low, high, strict=True))
    labels[corner][labels[corner] == 1] = 0
    radius = max(1, min(labels.shape) // 30)
    z, y, x = np.ogrid[: labels.shape[0], : labels.shape[1], : labels.shape[2]]
    middle = [2 * radius] * 3
    labels[(z - middle[0]) ** 2 + (y - middle[1]) ** 2 + (x - middle[2]) ** 2 < radius**2] = len(ORGANS)


def ours(reference: NDArray[np.uint8], mask: NDArray[np.uint8], spacing: Sequence[float], lesions: bool) -> CaseScore:
    z, y, x = spacing
    threads, iou = available_cores(), 0.0 if lesions else None
    return score_case("case", reference, mask, (z, y, x), LABELS, TOLERANCE_MM, lesion_iou=iou, threads=threads)


def monais(reference: NDArray[np.uint8], mask: NDArray[np.uint8], spacing: Sequence[float]) -> dict[str, Any]:
    """What MONAI's functions give for one-hot maps; per name a list of one figure per label."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai import metrics

        values = range(1, len(ORGANS) + 1)
        truth, found = (
            torch.stack([torch.from_numpy(array == value) for value in values])[None] for array in (reference, mask)
        )
        options = {"include_background": True, "spacing": list(spacing)}
        figures = {
            "dice": metrics.compute_dice(found, truth, include_background=True),
            "iou": metrics.compute_iou(found, truth, include_background=True),
            "nsd": metrics.compute_surface_dice(found, truth, class_thresholds=[TOLERANCE_MM] * len(values), **options),
            "hd95_mm": metrics.compute_hausdorff_distance(found, truth, percentile=95, **options),
            "assd_mm": metrics.compute_average_surface_distance(found, truth, symmetric=True, **options),
        }
    return {name: figure.flatten().tolist() for name, figure in figures.items()}


def least(call: Callable[[], Any], repeats: int) -> tuple[Any, float, float]:
    """What the call gives, and the least of its wall times and of its processor times, in seconds."""
    wall, processor, result = [], [], None
    for _ in range(repeats):
        began, used = time.perf_counter(), time.process_time()
        result = call()
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    return result, min(wall), min(processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(300, 512, 512), metavar=("Z", "Y", "X"))
    parser.add_argument("--spacing", type=float, nargs=3, default=(1.0, 0.8, 0.8), metavar=("Z", "Y", "X"))
    parser.add_argument("--error", type=float, default=0.02, help="how much the mask's surfaces differ, as a share")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-monai", action="store_true")
    options = parser.parse_args()
    reference, mask = (organs(options.shape, options.spacing, error) for error in (0.0, options.error))
    print(f"{' x '.join(map(str, options.shape))} voxels, {len(ORGANS)} labels, {np.mean(reference > 0):.1%} labelled")
    found, wall, processor = least(lambda: ours(reference, mask, options.spacing, False), options.repeats)
    print(f"autoseg               {wall:8.2f} s   processor {processor:8.2f} s")
    _, wall, processor = least(lambda: ours(reference, mask, options.spacing, True), options.repeats)
    print(f"autoseg with lesions  {wall:8.2f} s   processor {processor:8.2f} s")
    for name, score in found.labels.items():
        print(
            f"  {name:14s} Dice {score.dice:.4f}  NSD {score.nsd:.4f}  HD95 {score.hd95_mm:.2f} mm"
            f"  ASSD {score.assd_mm:.2f} mm  volume error {score.relative_volume_error:+.1%}"
        )
    if not options.no_monai:
        theirs, wall, processor = least(lambda: monais(reference, mask, options.spacing), 1)
        print(f"MONAI                 {wall:8.2f} s   processor {processor:8.2f} s")
        for name, figures in theirs.items():
            own = [getattr(score, name) for score in found.labels.values()]
            print(f"  largest difference of {name}: {np.abs(np.subtract(own, figures)).max():.2e}")


if __name__ == "__main__":
    main()
