"""Seconds of `autoseg predict` in each mode, with and without --roi, and how near its masks are to those of `best`.

    python benchmarks/predict_speeds.py MODEL IMAGES [--surround 3]

With --surround each image lies in the middle of a volume that is so many times as long along each axis and holds only
noise like that of the image's faces: there a region of interest pays. Loading torch and the model is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nibabel
import numpy as np

from autoseg.inference.speeds import SPEEDS
from autoseg.pipeline.predict import predict
from autoseg.progress import SilentProgress
from autoseg.records import PredictSettings


class Stopwatch(SilentProgress):
    """Keeps what the command says of its estimate and of its time."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def surrounded(image: Path, folder: Path, times: int) -> None:
    """The image in the middle of a larger one."""
    loaded = nibabel.load(image)  # type: ignore[attr-defined]
    array = np.asarray(loaded.dataobj, dtype=np.float32)
    faces = np.concatenate([array.take(place, axis).ravel() for axis in range(3) for place in (0, -1)])
    shape = tuple(size * times for size in array.shape)
    whole = np.random.default_rng(0).normal(faces.mean(), faces.std(), shape).astype(np.float32)
    starts = [(large - size) // 2 for large, size in zip(shape, array.shape, strict=True)]
    whole[tuple(slice(start, start + size) for start, size in zip(starts, array.shape, strict=True))] = array
    nibabel.save(nibabel.Nifti1Image(whole, loaded.affine), folder / image.name)  # type: ignore[attr-defined]


def dice(masks: Path, references: Path) -> float:
    """Mean over cases and labels."""
    scores = []
    for reference in sorted(references.glob("*.nii*")):
        one, other = (np.asarray(nibabel.load(folder / reference.name).dataobj) for folder in (masks, references))  # type: ignore[attr-defined]
        for value in np.unique(other)[1:]:
            scores.append(
                2 * ((one == value) & (other == value)).sum() / ((one == value).sum() + (other == value).sum())
            )
    return float(np.mean(scores)) if scores else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--surround", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for image in sorted(options.images.glob("*.nii*")):
            surrounded(image, folder / "images", options.surround)
        print("| mode | region of interest | told before | seconds | Dice with `best` |\n|---|---|---|---|---|")
        for speed in reversed(SPEEDS):
            for roi in (False, True):
                masks, watch = folder / f"{speed}-{roi}", Stopwatch()
                settings = PredictSettings(roi=True) if roi else PredictSettings()
                predict(
                    folder / "images", masks, models=(options.model,), speed=speed, settings=settings, progress=watch
                )
                estimate = next(line for line in watch.lines if "about" in line and "GB" in line)
                took = next(line for line in watch.lines if line.startswith("Predicted"))
                score = dice(masks, folder / "best-False")
                told = estimate.split(", ")[1].split(" (")[0]
                print(f"| {speed} | {'yes' if roi else 'no'} | {told} | {took.split(' in ')[1]} | {score:.4f} |")


if __name__ == "__main__":
    main()
