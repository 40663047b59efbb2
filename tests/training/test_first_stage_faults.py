"""Faults in the first stage's labels: nnU-Net's sizes, label maps that stay label maps, and each sample on its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.training.augmentation import AUGMENTATIONS, Augmentation, initial_patch_size
from autoseg.training.cascade import (
    OPERATORS,
    FaultDraw,
    FirstStageFaults,
    Operator,
    add_faults,
    apply_operator,
    ball,
    draw_faults,
    remove_piece,
)
from autoseg.training.intensity import Intensity
from autoseg.training.spatial import Spatial

ALWAYS = FirstStageFaults(operator_probability=1, removal_probability=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def blobs(shape: tuple[int, ...] = (18, 22, 20), seed: int = 0) -> torch.Tensor:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2.5)
    labels = (noise > 0.02).astype(np.int16) + (noise > 0.06)
    return torch.from_numpy(labels.astype(np.int16))


@pytest.mark.parametrize(("radius", "voxels"), [(1.0, 7), (1.3, 7), (1.5, 8), (2.7, 56)])
def test_balls_are_nnunets(radius: float, voxels: int) -> None:
    assert ball(int(2 * radius + 1), 3).sum() == voxels


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("radius", [1.0, 3.0])
def test_operators_are_those_of_mathematical_morphology(operator: Operator, radius: float) -> None:
    padded = np.zeros((30, 32, 28), dtype=bool)
    padded[8:-8, 8:-8, 8:-8] = blobs((14, 16, 12), seed=3).numpy() > 0
    labels = torch.from_numpy(padded.astype(np.int16))
    apply_operator(labels, 1, operator, radius)
    expected = getattr(ndimage, f"binary_{operator}")(padded, structure=ball(int(2 * radius + 1), 3))
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(labels.numpy() == 1, expected)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("radius", [1.5, 2.0, 2.7])
def test_each_operator_only_takes_or_only_gives(operator: Operator, radius: float) -> None:
    before = blobs()
    after = before.clone()
    apply_operator(after, 1, operator, radius)
    old, new = before == 1, after == 1
    if operator in ("erosion", "opening"):
        assert not bool((new & ~old).any())
        assert bool((after[old & ~new] == 0).all())
    else:
        assert not bool((old & ~new).any())
    assert torch.equal(before[~old & ~new], after[~old & ~new])
    apply_operator(after, 7, operator, radius)  # a label that is not there


def test_nothing_is_worn_away_from_the_edge_of_the_patch() -> None:
    labels = torch.ones(6, 7, 8, dtype=torch.int16)
    for operator in OPERATORS:
        apply_operator(labels, 1, operator, 2.0)
    assert bool((labels == 1).all())


def test_one_small_piece_is_lost_and_no_large_one() -> None:
    labels = torch.zeros(10, 10, 10, dtype=torch.int16)
    labels[:6, :6, :6] = 1  # 216 of 1000 voxels
    labels[8:, 8:, 8:] = 1
    labels[8:, 0, 0] = 1
    labels[7, 1, 1] = 1  # hangs together with the one before by a corner
    labels[9, 0, 9] = 2
    lost = labels.clone()
    remove_piece(lost, 1, 0.99, 0.15)
    assert {int((labels - lost).sum())} <= {8, 3}
    assert bool((lost[:6, :6, :6] == 1).all())
    remove_piece(lost, 1, 0.0, 0.15)
    remove_piece(lost, 1, 0.0, 0.15)  # nothing small is left
    assert int((lost == 1).sum()) == 216
    assert int((lost == 2).sum()) == 1


def test_how_often_faults_are_drawn() -> None:
    settings = FirstStageFaults()
    draws = [draw_faults(np.random.default_rng((5, number)), settings, 3) for number in range(2000)]
    operators = [draw.operators for draw in draws if draw.operators]
    removals = [draw.removals for draw in draws if draw.removals]
    some = 1 - 0.5**3  # of three labels at least one
    assert len(operators) / len(draws) == pytest.approx(0.4 * some, abs=0.03)
    assert len(removals) / len(draws) == pytest.approx(0.2 * some, abs=0.03)
    assert {name for one in operators for _, name, _ in one} == set(OPERATORS)
    assert {label for one in operators for label, _, _ in one} == {1, 2, 3}
    radii = [radius for one in operators for _, _, radius in one]
    assert 1 <= min(radii) < 1.1
    assert 7.9 < max(radii) <= 8
    assert len({tuple(label for label, _, _ in one) for one in operators if len(one) == 3}) > 3  # in any order


def _batch(size: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    previous = torch.stack([blobs(size, seed) for seed in range(3)])
    images = torch.randn(3, 2, *size, generator=generator)
    return torch.cat([images, previous[:, None].float()], dim=1), previous


@pytest.mark.parametrize("patch", [(8, 12, 10), (3, 16, 14)])
def test_a_batch_equals_its_samples_and_labels_stay_labels(patch: tuple[int, ...]) -> None:
    augmentation = Augmentation(
        Spatial(rotation_probability=1, scaling_probability=1),
        Intensity(noise_probability=1, gamma_probability=1),
        mirrors=True,
        enlarges=True,
        faults=ALWAYS,
    )
    images, labels = _batch(initial_patch_size(patch, augmentation))

    def made(chosen: slice) -> tuple[torch.Tensor, torch.Tensor]:
        generators = [np.random.default_rng((1, number)) for number in range(3)[chosen]]
        return augmentation.apply(images[chosen], labels[chosen], generators, patch, (0, 1, 2), (1,), 2)

    whole = made(slice(0, 3))
    alone = [made(slice(number, number + 1)) for number in range(3)]
    torch.testing.assert_close(whole[0], torch.cat([one[0] for one in alone]), atol=1e-5, rtol=1e-5)
    assert torch.equal(whole[1], torch.cat([one[1] for one in alone]))
    assert whole[0].shape == (3, 3, *patch)
    assert set(whole[0][:, 2].unique().tolist()) <= {0.0, 1.0, 2.0}
    assert not torch.equal(whole[0][:, 2], whole[1].float())  # there are faults


@pytest.mark.parametrize("patch", [(8, 12, 10), (3, 16, 14)])
def test_first_stage_and_labels_move_together(patch: tuple[int, ...]) -> None:
    """Without faults a first stage that found everything stays right, whatever is turned, bent and mirrored."""
    augmentation = Augmentation(
        Spatial(rotation_probability=1, scaling_probability=1, elastic_probability=1),
        Intensity(noise_probability=1),
        mirrors=True,
        enlarges=True,
    )
    images, labels = _batch(initial_patch_size(patch, augmentation))
    generators = [np.random.default_rng((1, number)) for number in range(3)]
    made, places = augmentation.apply(images, labels, generators, patch, (0, 1, 2), (), 2)
    assert torch.equal(made[:, 2], places.float())
    assert len(places.unique()) == 3


def test_the_image_of_a_second_stage_is_augmented_as_that_of_a_first() -> None:
    patch = (8, 12, 10)
    augmentation = AUGMENTATIONS["nnunet"]
    images, labels = _batch(initial_patch_size(patch, augmentation))
    generators = [[np.random.default_rng((8, number)) for number in range(3)] for _ in range(2)]
    second, _ = augmentation.apply(images, labels, generators[0], patch, (0, 1, 2), (), 2)
    first, _ = augmentation.apply(images[:, :2], labels, generators[1], patch, (0, 1, 2))
    assert torch.equal(second[:, :2], first)


def test_nothing_drawn_changes_nothing() -> None:
    labels = torch.stack([blobs(seed=seed) for seed in range(2)])
    before = labels.clone()
    add_faults(labels, [FaultDraw(), FaultDraw()], ALWAYS)
    assert torch.equal(labels, before)
