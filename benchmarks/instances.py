"""What is lost when objects go through a representation that a network can learn, and come back.

    python benchmarks/instances.py [--data FOLDER] [--cases 40] [--seeds 4]

Compared are cores and borders (`autoseg.arrays.cores`, with several margins), the distance to the surface as a share of
the greatest in the object, with a watershed from its maxima, and the offset of each voxel to the centre of its object,
with votes for centres. Each is turned back as it is, and as an unsure network would give it: blurred by a Gaussian (the
standard deviation is in voxels), and blurred with smooth noise (a share of the channel's own standard deviation in the
foreground). The figure is the panoptic quality, mean over scenes. FOLDER is a dataset with instance maps; without it
scenes of discs and ellipsoids that touch are made from seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, mean
from scipy.spatial import cKDTree
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from autoseg.arrays.cores import deepest, depths, object_cores, pieces_of
from autoseg.arrays.objects import find_objects
from autoseg.dataset.counted import MARGIN_SHARE
from autoseg.dataset.instance_maps import read_scene
from autoseg.dataset.layouts import open_dataset
from autoseg.evaluation.instances import means, score_instances
from autoseg.records import InstanceScore

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "arrays"))
from scenes import touching

Ids = NDArray[np.integer]
Channels = NDArray[np.float32]  # (C, Z, Y, X); the first is the foreground
TOUCHING = np.ones((3, 3, 3))

#: (standard deviation of the blur in voxels, noise as a share of a channel's own standard deviation)
SPOILT = ((0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (1.0, 0.3), (2.0, 0.6))

#: A maximum of the distance counts that is so much higher than the saddle to a higher one.
DYNAMIC = 0.1


def core_channels(ids: Ids, margin: float) -> Channels:
    return np.stack([ids > 0, object_cores(ids, (1.0, 1.0, 1.0), margin)]).astype(np.float32)


def from_cores(channels: Channels, use_energy: bool) -> Ids:
    foreground, core = channels > 0.5
    energy = 2.0 - channels[0] - channels[1] if use_energy else None
    return find_objects(foreground, core & foreground, (1.0, 1.0, 1.0), energy)


def distance_channels(ids: Ids) -> Channels:
    pieces, count = pieces_of(ids)
    depth = depths(pieces, (1.0, 1.0, 1.0))
    most = deepest(pieces, depth, count)
    most[0] = 1.0
    return np.stack([(ids > 0).astype(np.float32), (depth / most[pieces]).astype(np.float32)])


def from_distance(channels: Channels) -> Ids:
    foreground = channels[0] > 0.5
    markers, _ = label(h_maxima(channels[1], DYNAMIC) * foreground, TOUCHING)
    return watershed(-channels[1], markers, connectivity=TOUCHING, mask=foreground)


def offset_channels(ids: Ids) -> Channels:
    """Offsets in voxels to the voxel of the object that is nearest to its mean place."""
    pieces, count = pieces_of(ids)
    places = np.indices(ids.shape).astype(np.float32)
    centres = np.zeros((count + 1, 3), dtype=np.float32)
    for axis in range(3):
        centres[1:, axis] = mean(places[axis], pieces, range(1, count + 1)) if count else 0
    for number in range(1, count + 1):
        own = np.argwhere(pieces == number)
        centres[number] = own[np.argmin(((own - centres[number]) ** 2).sum(1))]
    offsets = (centres[pieces].transpose(3, 0, 1, 2) - places) * (ids > 0)
    return np.concatenate([(ids > 0)[None].astype(np.float32), offsets])


def from_offsets(channels: Channels) -> Ids:
    foreground = channels[0] > 0.5
    places = np.argwhere(foreground)
    if not len(places):
        return np.zeros(foreground.shape, np.uint32)
    ends = places + channels[1:][:, foreground].T
    votes = np.zeros(foreground.shape)
    limits = np.array(foreground.shape) - 1
    np.add.at(votes, tuple(np.clip(np.rint(ends), 0, limits).astype(int).T), 1.0)
    smooth = gaussian_filter(votes, 1.5)
    seeds, count = label(smooth > 0.25 * smooth.max(), TOUCHING)
    centres = np.array([np.argwhere(seeds == number).mean(0) for number in range(1, count + 1)])
    ids = np.zeros(foreground.shape, np.uint32)
    ids[foreground] = cKDTree(centres).query(ends)[1] + 1
    return ids


def spoilt(channels: Channels, blur: float, noise: float, seed: int) -> Channels:
    """As an unsure network would give it; offsets are blurred among voxels of the foreground only."""
    if not blur:
        return channels
    sigma = [blur if size > 1 else 0.0 for size in channels.shape[1:]]
    weight = gaussian_filter(channels[0], sigma)
    generator = np.random.default_rng(seed)
    found = []
    for number, channel in enumerate(channels):
        smooth = gaussian_filter(channel, sigma)
        if number and channel.min() < 0:
            smooth /= np.maximum(weight, 1e-3)
        wave = gaussian_filter(generator.normal(size=channel.shape), sigma)
        inside = channel[channels[0] > 0]
        scale = noise * (inside.std() if number else 0.5) / wave.std()
        found.append(smooth + scale * wave)
    return np.stack(found).astype(np.float32)


Way = tuple[Callable[[Ids], Channels], Callable[[Channels], Ids]]


def ways(ids: Ids) -> dict[str, Way]:
    pieces, count = pieces_of(ids)
    every = deepest(pieces, depths(pieces, (1.0, 1.0, 1.0)), count)[1:]
    own = max(1.0, MARGIN_SHARE * float(np.median(every[np.isfinite(every)]))) if count else 1.0
    found: dict[str, Way] = {}
    for name, margin in (("1", 1.0), ("2", 2.0), ("a quarter", own)):
        found[f"cores, margin {name}"] = partial(core_channels, margin=margin), partial(from_cores, use_energy=False)
    found["cores, a quarter, energy"] = partial(core_channels, margin=own), partial(from_cores, use_energy=True)
    found["distance"] = distance_channels, from_distance
    found["offsets"] = offset_channels, from_offsets
    return found


def scenes(data: Path | None, cases: int, seeds: int) -> Iterator[tuple[str, Ids]]:
    if data is None:
        for seed in range(seeds):
            yield "discs", touching(seed, (1, 256, 256), 60, (7, 16), smallest=40)
            yield "ellipsoids", touching(seed, (32, 80, 80), 40, (6, 12), smallest=150)
        return
    dataset = open_dataset(data)
    for case in dataset.cases[:: max(1, len(dataset.cases) // cases)][:cases]:
        yield dataset.name, read_scene(case, dataset.labels)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=4)
    asked = parser.parse_args()
    scores: dict[tuple[str, str], list[list[InstanceScore]]] = {}
    seconds: dict[tuple[str, str], float] = {}
    for number, (kind, ids) in enumerate(scenes(asked.data, asked.cases, asked.seeds)):
        for name, (there, back) in ways(ids).items():
            begin = time.perf_counter()
            channels = there(ids)
            row = [score_instances(ids, back(spoilt(channels, *how, number))) for how in SPOILT]
            scores.setdefault((kind, name), []).append(row)
            seconds[kind, name] = seconds.get((kind, name), 0.0) + time.perf_counter() - begin
    titles = " ".join(f"{f'{blur:g}/{noise:g}':>8}" for blur, noise in SPOILT)
    print(f"{'scenes':12} {'representation':26} {titles}  seconds   (columns: blur/noise)")
    for (kind, name), rows in scores.items():
        told = [means(column).panoptic_quality for column in zip(*rows, strict=True)]
        figures = " ".join("       -" if value is None else f"{value:8.4f}" for value in told)
        print(f"{kind[:12]:12} {name:26} {figures} {seconds[kind, name]:8.1f}")


if __name__ == "__main__":
    main()
