"""What is lost when objects go through a representation that a network can learn, and come back.

    python benchmarks/instances.py [--data FOLDER | --maps FILE …] [--cases 40] [--seeds 4]

Compared are cores and borders (`autoseg.arrays.cores`, with several margins), the distance to the surface as a share of
the greatest in the object, with a watershed from its maxima, and the offset of each voxel to the centre of its object,
with votes for centres. Each is turned back as it is, and as an unsure network would give it: blurred by a Gaussian (the
standard deviation is in voxels), and blurred with smooth noise (a share of the channel's own standard deviation in the
foreground). Of each result specks do not count that are smaller than a tenth of the smallest object. The figure is the
panoptic quality, mean over scenes. FOLDER is a dataset with instance maps, FILE one such map, whose objects may be
chosen (--below: those with a smaller id); without them scenes of discs and ellipsoids that touch are made from seeds.
An object that the end of its image cuts into pieces is as many objects.
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
from scipy.ndimage import center_of_mass, gaussian_filter, label, maximum_filter
from scipy.ndimage import find_objects as find_boxes
from scipy.spatial import cKDTree
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from autoseg.arrays.cores import deepest, depths, object_cores, pieces_of
from autoseg.arrays.objects import find_objects
from autoseg.dataset.counted import MARGIN_SHARE
from autoseg.dataset.instance_maps import ids_of, read_scene
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_labels
from autoseg.evaluation.instances import means, score_instances
from autoseg.records import InstanceScore

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "arrays"))
from scenes import touching

Ids = NDArray[np.integer]
Spacing = tuple[float, float, float]
Channels = NDArray[np.float32]  # (C, Z, Y, X); the first is the foreground
TOUCHING = np.ones((3, 3, 3))

#: (standard deviation of the blur in voxels, noise as a share of a channel's own standard deviation)
SPOILT = ((0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (1.0, 0.3), (2.0, 0.6))

#: A maximum of the distance counts that is so much higher than the saddle to a higher one.
DYNAMIC = 0.1

#: Standard deviation in voxels with which votes for centres are smoothed.
VOTE_BLUR = 1.5


def core_channels(ids: Ids, spacing: Spacing, margin: float) -> Channels:
    return np.stack([ids > 0, object_cores(ids, spacing, margin)]).astype(np.float32)


def from_cores(channels: Channels, spacing: Spacing, smallest: int) -> Ids:
    foreground, core = channels > 0.5
    return find_objects(foreground, core & foreground, spacing, smallest)


def from_cores_by_watershed(channels: Channels, _spacing: Spacing, smallest: int) -> Ids:
    """As most do it: the cores flood the foreground in the order of the network's doubt."""
    foreground, core = channels > 0.5
    markers, _ = label(core & foreground, TOUCHING)
    sizes = np.bincount(markers.reshape(-1))
    markers = np.where(sizes[markers] >= smallest, markers, 0)
    return watershed(-channels.sum(0), markers, connectivity=TOUCHING, mask=foreground)


def distance_channels(ids: Ids, spacing: Spacing) -> Channels:
    pieces, count = pieces_of(ids)
    depth = depths(pieces, spacing)
    most = deepest(pieces, depth, count)
    most[0] = 1.0
    return np.stack([(ids > 0).astype(np.float32), (depth / most[pieces]).astype(np.float32)])


def from_distance(channels: Channels, _spacing: Spacing, _smallest: int) -> Ids:
    foreground = channels[0] > 0.5
    markers, _ = label(h_maxima(channels[1], DYNAMIC) * foreground, TOUCHING)
    return watershed(-channels[1], markers, connectivity=TOUCHING, mask=foreground)


def offset_channels(ids: Ids, _spacing: Spacing) -> Channels:
    """Offsets in voxels to the voxel of the object that is nearest to its mean place."""
    pieces, count = pieces_of(ids)
    places = np.indices(ids.shape).astype(np.float32)
    centres = np.zeros((count + 1, 3), dtype=np.float32)
    boxes = find_boxes(pieces)
    for number, box in enumerate(boxes, 1):
        own = np.argwhere(pieces[box] == number) + [side.start for side in box]
        centres[number] = own[np.argmin(((own - own.mean(0)) ** 2).sum(1))]
    offsets = (centres[pieces].transpose(3, 0, 1, 2) - places) * (ids > 0)
    return np.concatenate([(ids > 0)[None].astype(np.float32), offsets])


def from_offsets(channels: Channels, _spacing: Spacing, smallest: int) -> Ids:
    """Centres are the maxima of the smoothed votes within 5 voxels; each voxel is of the centre nearest to its end."""
    foreground = channels[0] > 0.5
    places = np.argwhere(foreground)
    if not len(places):
        return np.zeros(foreground.shape, np.uint32)
    ends = places + channels[1:][:, foreground].T
    votes = np.zeros(foreground.shape)
    limits = np.array(foreground.shape) - 1
    np.add.at(votes, tuple(np.clip(np.rint(ends), 0, limits).astype(int).T), 1.0)
    sigma = [VOTE_BLUR if size > 1 else 0.0 for size in foreground.shape]
    smooth = gaussian_filter(votes, sigma, mode="constant")
    one = (np.sqrt(2 * np.pi) * VOTE_BLUR) ** -sum(value > 0 for value in sigma)  # height of one vote
    peaks = (smooth == maximum_filter(smooth, 11)) & (smooth >= max(smallest, 1) * one * 0.5)
    seeds, count = label(peaks, TOUCHING)
    if not count:
        return np.zeros(foreground.shape, np.uint32)
    centres = np.array(center_of_mass(peaks, seeds, range(1, count + 1)))
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


def without_specks(ids: Ids, smallest: int) -> Ids:
    """The objects that are large enough."""
    _, places = np.unique(ids, return_inverse=True)
    sizes = np.bincount(places.reshape(-1))
    return np.where(sizes[places.reshape(ids.shape)] >= smallest, ids, 0)


Way = tuple[Callable[[Ids, Spacing], Channels], Callable[[Channels, Spacing, int], Ids]]


def ways(margin: float) -> dict[str, Way]:
    """Every representation there and back; the margin is that which the program chooses."""
    found: dict[str, Way] = {}
    for name, share in (("half", 0.5), ("the program's", 1.0), ("double", 2.0)):
        found[f"cores, margin {name}"] = partial(core_channels, margin=share * margin), from_cores
    found["cores, watershed of doubt"] = partial(core_channels, margin=margin), from_cores_by_watershed
    found["distance"] = distance_channels, from_distance
    found["offsets"] = offset_channels, from_offsets
    return found


def chosen_margin(ids: Ids, spacing: Spacing) -> float:
    pieces, count = pieces_of(ids)
    every = deepest(pieces, depths(pieces, spacing), count)[1:]
    every = every[np.isfinite(every)]
    return max(min(spacing), MARGIN_SHARE * float(np.median(every))) if every.size else min(spacing)


def scenes(asked: argparse.Namespace) -> Iterator[tuple[str, Ids, Spacing, float]]:
    """Kind, ids of pieces, spacing and margin."""
    for path in asked.maps:
        label_map = read_labels(path)
        found, spacing = ids_of(label_map, path), label_map.geometry.spacing
        ids = pieces_of(np.where(found < asked.below, found, 0) if asked.below else found)[0]
        yield path.name, ids, spacing, chosen_margin(ids, spacing)
    if asked.data is not None:
        dataset = open_dataset(asked.data)
        for case in dataset.cases[:: max(1, len(dataset.cases) // asked.cases)][: asked.cases]:
            found, _, label_map = read_scene(case, dataset.labels)
            yield dataset.name, pieces_of(found)[0], label_map.geometry.spacing, dataset.labels.core_margin_mm or 0.0
    if asked.maps or asked.data is not None:
        return
    for seed in range(asked.seeds):
        for kind, ids in (
            ("discs", touching(seed, (1, 256, 256), 60, (7, 16), smallest=40)),
            ("ellipsoids", touching(seed, (32, 80, 80), 40, (6, 12), smallest=150)),
        ):
            yield kind, ids, (1.0, 1.0, 1.0), chosen_margin(ids, (1.0, 1.0, 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--maps", type=Path, nargs="+", default=[])
    parser.add_argument("--below", type=int, default=0)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=4)
    asked = parser.parse_args()
    scores: dict[tuple[str, str], list[list[InstanceScore]]] = {}
    seconds: dict[tuple[str, str], float] = {}
    for number, (kind, ids, spacing, margin) in enumerate(scenes(asked)):
        sizes = np.bincount(ids.reshape(-1))[1:]
        smallest = max(1, int(sizes[sizes > 0].min() // 10)) if ids.any() else 1
        for name, (there, back) in ways(margin).items():
            begin = time.perf_counter()
            channels = there(ids, spacing)
            found = [back(spoilt(channels, *how, number), spacing, smallest) for how in SPOILT]
            row = [score_instances(ids, without_specks(each, smallest)) for each in found]
            scores.setdefault((kind, name), []).append(row)
            seconds[kind, name] = seconds.get((kind, name), 0.0) + time.perf_counter() - begin
    titles = " ".join(f"{f'{blur:g}/{noise:g}':>8}" for blur, noise in SPOILT)
    print(f"{'scenes':24} {'representation':26} {titles}  seconds   (columns: blur/noise)")
    for (kind, name), rows in scores.items():
        told = [means(column).panoptic_quality for column in zip(*rows, strict=True)]
        figures = " ".join("       -" if value is None else f"{value:8.4f}" for value in told)
        print(f"{kind[:24]:24} {name:26} {figures} {seconds[kind, name]:8.1f}")


if __name__ == "__main__":
    main()
