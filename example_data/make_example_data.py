"""Make the example dataset beside this file: `python example_data/make_example_data.py [FOLDER]`.

Fifteen training cases and two test cases of a made-up "abdomen" in nnU-Net's raw layout. The anatomy is a set of
smooth implicit surfaces in world coordinates (RAS+ millimetres): a trunk with air around it, a large lobe, a small
bean, and a bright vessel that belongs to no label. Every case has its own shapes, contrast, noise, bias field, voxel
size, grid, axis orientation and, for some, an oblique angle. The same numbers come out on every run.
"""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TRAINING_CASES = 15
TEST_CASES = 2
LABELS = {"background": 0, "lobe": 1, "bean": 2}

#: Axis orientations of the files, in turn: (world axis, sign) of each file axis.
ORIENTATIONS = ("RAS", "LPS", "LAS", "RAS", "PSR", "LPS", "SAR", "RAI")
LETTERS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class Ripple:
    """A smooth random function of the world: a few plane waves."""

    directions: Array  # (N, 3) in radians per mm
    phases: Array  # (N,)
    weights: Array  # (N,)

    def __call__(self, world: Array) -> Array:
        """Values at points (..., 3), roughly within -1..1."""
        return np.asarray(np.sin(world @ self.directions.T + self.phases) @ self.weights)


def draw_ripple(rng: np.random.Generator, wavelength_mm: float) -> Ripple:
    directions = rng.normal(size=(4, 3))
    directions *= 2 * np.pi / wavelength_mm / np.linalg.norm(directions, axis=1, keepdims=True)
    return Ripple(directions, rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.15, 0.35, 4))


def draw_affine(rng: np.random.Generator, number: int) -> tuple[tuple[int, int, int], Array]:
    """Grid shape in file order (i, j, k) and the affine to RAS+ mm, centred on the world's origin."""
    spacing = np.array([rng.uniform(1.0, 1.35), 0.0, rng.uniform(1.7, 2.4)])
    spacing[1] = spacing[0]
    extent = np.array([rng.uniform(44, 50), rng.uniform(42, 48), rng.uniform(42, 50)])
    size = np.round(extent / spacing).astype(int)
    axes = [LETTERS[letter] for letter in ORIENTATIONS[number % len(ORIENTATIONS)]]
    matrix = np.zeros((3, 3))
    for file_axis, (world_axis, sign) in enumerate(axes):
        matrix[world_axis, file_axis] = sign * spacing[world_axis]
    if number % 5 == 3:  # oblique
        angle = rng.uniform(0.1, 0.2)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        matrix = turn @ matrix
    shape = tuple(int(size[world_axis]) for world_axis, _ in axes)
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = -matrix @ ((np.array(shape) - 1) / 2) + rng.uniform(-2, 2, 3)
    return (shape[0], shape[1], shape[2]), np.round(affine, 6)


def ellipsoid(world: Array, centre: Array, radii: Array) -> Array:
    """Roughly the distance to an ellipsoid's surface in mm, negative inside."""
    return np.asarray((np.linalg.norm((world - centre) / radii, axis=-1) - 1) * radii.min())


def draw_surfaces(rng: np.random.Generator, world: Array) -> dict[str, Array]:
    """Signed distances (mm, negative inside) to the trunk, the lobe, the bean and the vessel."""
    trunk = ellipsoid(world, rng.uniform(-1, 1, 3), np.array([22.0, 19.5, 60.0]) * rng.uniform(0.95, 1.05))
    lobe_centre = np.array([6.0, 2.0, 4.0]) + rng.uniform(-2, 2, 3)
    lobe_radii = np.array([10.5, 11.5, 13.0]) * rng.uniform(0.85, 1.15, 3)
    lobe = ellipsoid(world, lobe_centre, lobe_radii) + 1.8 * draw_ripple(rng, 22.0)(world)
    bean_centre = np.array([-10.5, -4.0, -3.0]) + rng.uniform(-1.5, 1.5, 3)
    bent = world.copy()
    bent[..., 0] += rng.uniform(0.02, 0.05) * (world[..., 2] - bean_centre[2]) ** 2
    bean = ellipsoid(bent, bean_centre, np.array([5.6, 6.6, 10.0]) * rng.uniform(0.85, 1.15, 3))
    bean = np.maximum(bean + 0.6 * draw_ripple(rng, 14.0)(world), 1.0 - lobe)  # they touch nowhere
    path = np.stack([rng.uniform(-3, 0) + 1.5 * np.sin(world[..., 2] / 9), np.full(world.shape[:-1], -11.0)], axis=-1)
    vessel = np.linalg.norm(world[..., :2] - path, axis=-1) - rng.uniform(1.8, 2.6)
    return {"trunk": trunk, "lobe": lobe, "bean": bean, "vessel": vessel}


def make_case(number: int) -> tuple[NDArray[np.int16], NDArray[np.uint8], Array]:
    """Image, labels (both in file order i, j, k) and affine of one case."""
    rng = np.random.default_rng(20240 + number)
    shape, affine = draw_affine(rng, number)
    indices = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    world = indices @ affine[:3, :3].T + affine[:3, 3]
    surfaces = draw_surfaces(rng, world)
    inside = {name: 1 / (1 + np.exp(np.clip(distance / 0.5, -30, 30))) for name, distance in surfaces.items()}
    body = 100 + 7 * draw_ripple(rng, 16.0)(world)
    for name, level in (("lobe", rng.uniform(136, 150)), ("bean", rng.uniform(52, 66)), ("vessel", 165.0)):
        body += (level - body) * inside[name]
    bias = 1 + 0.18 * draw_ripple(rng, 90.0)(world)
    noise = rng.normal(scale=rng.uniform(6, 10), size=shape)
    image = np.where(surfaces["trunk"] < 0, np.maximum(np.rint((body * bias + noise) * rng.uniform(0.8, 1.25)), 1), 0)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[surfaces["lobe"] < 0] = LABELS["lobe"]
    labels[surfaces["bean"] < 0] = LABELS["bean"]
    return image.astype(np.int16), labels, affine


def save(path: Path, array: NDArray[np.generic], affine: Array) -> None:
    """Write NIfTI without a time stamp, so that the same voxels are the same bytes."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=9, mtime=0))


def make_dataset(root: Path) -> None:
    for number in range(TRAINING_CASES + TEST_CASES):
        part = "Tr" if number < TRAINING_CASES else "Ts"
        image, labels, affine = make_case(number)
        save(root / f"images{part}" / f"example_{number + 1:02d}_0000.nii.gz", image, affine)
        save(root / f"labels{part}" / f"example_{number + 1:02d}.nii.gz", labels, affine)
    record = {
        "name": "example",
        "description": "Synthetic volumes: a lobe and a bean in a trunk. Made by make_example_data.py.",
        "licence": "CC0",
        "channel_names": {"0": "MR"},
        "labels": LABELS,
        "numTraining": TRAINING_CASES,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    make_dataset(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
