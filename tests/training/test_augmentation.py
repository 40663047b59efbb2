from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch

from autoseg.training.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    SampleDraw,
    augment,
    initial_patch_size,
)
from autoseg.training.intensity import Intensity
from autoseg.training.spatial import Spatial

PATCHES = [(8, 12, 10), (3, 16, 14), (16, 14), (20, 10)]

#: Everything happens to every sample.
ALWAYS = Augmentation(
    Spatial(rotation_probability=1, scaling_probability=1, elastic_probability=1),
    Intensity(
        noise_probability=1,
        blur_probability=1,
        brightness_probability=1,
        contrast_probability=1,
        low_resolution_probability=1,
        negated_gamma_probability=1,
        gamma_probability=1,
    ),
    mirrors=True,
    enlarges=True,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng((seed, number)) for number in range(count)]


def _batch(size: tuple[int, ...], samples: int = 3, channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    images = torch.randn(samples, channels, *size, generator=generator)
    return images, torch.randint(-1, 4, (samples, *size), generator=generator).short()


@pytest.mark.parametrize(
    ("patch", "initial"),
    [
        ((128, 128, 128), (205, 205, 205)),
        ((40, 56, 40), (73, 80, 64)),
        ((10, 256, 224), (10, 301, 301)),
        ((512, 512), (602, 602)),
        ((192, 160), (225, 225)),
        ((256, 128), (329, 150)),
    ],
)
def test_initial_patches_are_nnunets(patch: tuple[int, ...], initial: tuple[int, ...]) -> None:
    assert initial_patch_size(patch, AUGMENTATIONS["nnunet"]) == initial
    assert initial_patch_size(patch, AUGMENTATIONS["fast"]) == patch


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("augmentation", [*AUGMENTATIONS.values(), ALWAYS], ids=[*AUGMENTATIONS, "always"])
def test_a_batch_equals_its_samples_one_by_one(patch: tuple[int, ...], augmentation: Augmentation) -> None:
    images, labels = _batch(initial_patch_size(patch, augmentation))
    axes = tuple(range(len(patch)))
    found = augmentation.apply(images, labels, _generators(3), patch, axes, (1,))
    alone = [
        augmentation.apply(images[n : n + 1], labels[n : n + 1], [generator], patch, axes, (1,))
        for n, generator in enumerate(_generators(3))
    ]
    torch.testing.assert_close(found[0], torch.cat([one[0] for one in alone]), atol=1e-5, rtol=1e-5)
    assert torch.equal(found[1], torch.cat([one[1] for one in alone]))


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("augmentation", [*AUGMENTATIONS.values(), ALWAYS], ids=[*AUGMENTATIONS, "always"])
def test_what_comes_out(patch: tuple[int, ...], augmentation: Augmentation) -> None:
    images, labels = _batch(initial_patch_size(patch, augmentation))
    before = images.clone(), labels.clone()
    for seed in range(5):
        found_images, found_labels = augmentation.apply(images, labels, _generators(3, seed), patch, (0, 1))
        assert found_images.shape == (3, 2, *patch)
        assert found_labels.shape == (3, *patch)
        assert found_images.dtype == torch.float32
        assert found_labels.dtype == labels.dtype
        assert bool(found_images.isfinite().all())
        assert set(found_labels.unique().tolist()) <= {0, 1, 2, 3}  # labels stay labels; outside becomes background
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


def test_a_seed_fixes_everything_and_another_changes_it() -> None:
    images, labels = _batch(initial_patch_size((8, 8, 8), ALWAYS))
    first, again, other = (ALWAYS.apply(images, labels, _generators(3, s), (8, 8, 8), (0, 1, 2)) for s in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_the_global_random_state_plays_no_part() -> None:
    images, labels = _batch(initial_patch_size((8, 8), ALWAYS))
    torch.manual_seed(0)
    np.random.seed(0)
    state = torch.get_rng_state()
    ALWAYS.apply(images, labels, _generators(3), (8, 8), (0, 1))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("patch", PATCHES)
def test_nothing_drawn_is_the_centre_crop(patch: tuple[int, ...]) -> None:
    size = initial_patch_size(patch, AUGMENTATIONS["nnunet"])
    images, labels = _batch(size)
    found = augment(images, labels, [SampleDraw()] * 3, patch)
    inner = tuple(
        slice(big // 2 - small // 2, big // 2 - small // 2 + small) for big, small in zip(size, patch, strict=True)
    )
    assert torch.equal(found[0], images[(slice(None), slice(None), *inner)])
    assert torch.equal(found[1], labels[(slice(None), *inner)].clamp(min=0))


def test_masked_channels_are_zero_outside_the_mask() -> None:
    images, labels = _batch((8, 8, 8))
    found, _ = augment(images, labels, [SampleDraw()] * 3, (8, 8, 8), masked_channels=(1,))
    assert not found[:, 1][labels < 0].any()
    assert found[:, 0][labels < 0].all()
    assert found[:, 1][labels >= 0].all()


def test_mirroring_flips_image_and_labels_alike_along_the_allowed_axes() -> None:
    only_mirrors = Augmentation(mirrors=True)
    images = torch.arange(4 * 4 * 4.0).view(1, 1, 4, 4, 4).expand(8, 1, 4, 4, 4)
    labels = images[:, 0].short()
    found_images, found_labels = only_mirrors.apply(images, labels, _generators(8), (4, 4, 4), (1, 2))
    assert torch.equal(found_images[:, 0].short(), found_labels)
    seen = {tuple(found_labels[n].flatten().tolist()) for n in range(8)}
    allowed = {tuple(labels[0].flip(axes).flatten().tolist()) for axes in ([], [1], [2], [1, 2])}
    assert len(seen) > 1
    assert seen <= allowed


def test_probabilities_and_ranges_are_nnunets() -> None:
    draws = [
        AUGMENTATIONS["nnunet"].draw(np.random.default_rng(seed), (40, 56, 40), (0, 1, 2), 1) for seed in range(4000)
    ]

    def share(happened: list[bool]) -> float:
        return sum(happened) / len(happened)

    assert share([draw.spatial is not None for draw in draws]) == pytest.approx(0.36, abs=0.03)
    assert share([draw.intensity.noise is not None for draw in draws]) == pytest.approx(0.1, abs=0.02)
    assert share([bool(draw.intensity.blur) for draw in draws]) == pytest.approx(0.2, abs=0.025)
    assert share([any(row is not None for row in draw.intensity.blur) for draw in draws]) == pytest.approx(
        0.1, abs=0.02
    )
    assert share([bool(draw.intensity.brightness) for draw in draws]) == pytest.approx(0.15, abs=0.025)
    assert share([bool(draw.intensity.contrast) for draw in draws]) == pytest.approx(0.15, abs=0.025)
    assert share([bool(draw.intensity.low_resolution) for draw in draws]) == pytest.approx(0.25, abs=0.025)
    assert share([bool(draw.intensity.negated_gamma) for draw in draws]) == pytest.approx(0.1, abs=0.02)
    assert share([bool(draw.intensity.gamma) for draw in draws]) == pytest.approx(0.3, abs=0.03)
    assert share([0 in draw.mirrors for draw in draws]) == pytest.approx(0.5, abs=0.03)
    gammas = np.array([gamma for draw in draws for gamma in draw.intensity.gamma])
    assert gammas.min() >= 0.7
    assert gammas.max() <= 1.5
    assert np.mean(gammas < 1) == pytest.approx(0.5, abs=0.06)
    scales = [np.linalg.det(draw.spatial.matrix) ** (1 / 3) for draw in draws if draw.spatial is not None]
    assert min(scales) >= 0.7 - 1e-9
    assert max(scales) <= 1.4 + 1e-9


def test_samples_of_a_batch_differ() -> None:
    images, labels = _batch((13, 13, 13), samples=1)
    same_images, same_labels = images.expand(4, -1, -1, -1, -1), labels.expand(4, -1, -1, -1)
    found, _ = ALWAYS.apply(same_images, same_labels, _generators(4), (8, 8, 8), (0, 1, 2))
    assert all(not torch.equal(one, other) for one, other in pairwise(found))
