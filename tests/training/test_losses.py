from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_builders import deep_supervision_loss
from torch.nn import functional

from autoseg.errors import TrainingError
from autoseg.records import Labels
from autoseg.training.loss_sums import label_sums, region_sums
from autoseg.training.losses import (
    LOSSES,
    downsample_labels,
    level_weights,
)

THREE = Labels(names={"background": 0, "left": 1, "right": 2})
IGNORING = Labels(names={"background": 0, "left": 1, "right": 2}, ignore=3)
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
REGIONS_IGNORING = REGIONS.model_copy(update={"ignore": 3})


def _scores(heads: int = 3, shape: tuple[int, ...] = (4, 5, 6), batch: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, heads, *shape, generator=generator, dtype=torch.float64, requires_grad=True)


def _labels(highest: int = 2, shape: tuple[int, ...] = (4, 5, 6), batch: int = 2, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, highest + 1, (batch, *shape), generator=generator).short()


@pytest.mark.parametrize(("batch_dice", "total", "dice"), [(True, 1.463073, -0.322918), (False, 1.463287, -0.322703)])
def test_nnunets_recorded_values(batch_dice: bool, total: float, dice: float) -> None:
    scores = (2 * torch.sin(0.37 * torch.arange(2 * 3 * 64).double())).view(2, 3, 4, 4, 4).float()
    labels = (torch.arange(128) % 3).view(2, 4, 4, 4).short()
    assert float(LOSSES["dice_ce"](THREE, batch_dice)(scores, labels)) == pytest.approx(total, abs=2e-6)
    assert float(LOSSES["dice"](THREE, batch_dice)(scores, labels)) == pytest.approx(dice, abs=2e-6)
    assert float(LOSSES["ce"](THREE, batch_dice)(scores, labels)) == pytest.approx(1.78599, abs=1e-5)


def _plain_dice(p: torch.Tensor, y: torch.Tensor, batch_dice: bool) -> torch.Tensor:
    axes = tuple(range(2, p.ndim))
    sums = [(p * y).sum(axes), p.sum(axes), y.sum(axes)]
    if batch_dice:
        sums = [part.sum(0) for part in sums]
    return ((2 * sums[0] + 1e-5) / (sums[1] + sums[2] + 1e-5)).mean()


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("ignores", [True, False])
@pytest.mark.parametrize("shape", [(4, 5, 6), (7, 5)])
def test_labels_against_autograd(batch_dice: bool, ignores: bool, shape: tuple[int, ...]) -> None:
    labels = _labels(3 if ignores else 2, shape)
    found_scores, wanted_scores = _scores(shape=shape), _scores(shape=shape)
    found = LOSSES["dice_ce"](IGNORING if ignores else THREE, batch_dice)(found_scores, labels)
    valid = (labels != 3)[:, None].double()
    one_hot = functional.one_hot(labels.long() % 3, 3).movedim(-1, 1) * valid
    p = wanted_scores.softmax(1) * valid
    ce = functional.cross_entropy(wanted_scores, labels.long(), ignore_index=3)
    wanted = ce - _plain_dice(p[:, 1:], one_hot[:, 1:], batch_dice)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-5)
    found.backward()
    wanted.backward()
    torch.testing.assert_close(found_scores.grad, wanted_scores.grad, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("ignores", [True, False])
def test_regions_against_autograd(batch_dice: bool, ignores: bool) -> None:
    labels = _labels(3 if ignores else 2)
    found_scores, wanted_scores = _scores(2), _scores(2)
    found = LOSSES["dice_ce"](REGIONS_IGNORING if ignores else REGIONS, batch_dice)(found_scores, labels)
    valid = (labels != 3)[:, None].double()
    regions = torch.stack([(labels == 1) | (labels == 2), labels == 2], 1).double() * valid
    p = wanted_scores.sigmoid() * valid
    bce = functional.binary_cross_entropy_with_logits(wanted_scores, regions, reduction="none") * valid
    # with an ignore label nnU-Net divides by voxels, not by voxels times regions
    wanted = (bce.sum() / valid.sum() if ignores else bce.mean()) - _plain_dice(p, regions, batch_dice)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-5)
    found.backward()
    wanted.backward()
    torch.testing.assert_close(found_scores.grad, wanted_scores.grad, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("labels", [IGNORING, REGIONS_IGNORING])
def test_ignored_voxels_have_no_gradient_and_no_influence(name: str, labels: Labels) -> None:
    reference = _labels(3)
    scores = _scores(labels.heads)
    loss = LOSSES[name](labels, False)
    value = loss(scores, reference)
    value.backward()
    assert scores.grad is not None
    ignored = (reference == 3)[:, None].expand_as(scores)
    assert not scores.grad[ignored].any()
    assert scores.grad[~ignored].all()
    changed = scores.detach().clone()
    changed[ignored] += 5
    assert float(loss(changed, reference)) == pytest.approx(float(value.detach()), abs=1e-6)


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("labels", [IGNORING, REGIONS_IGNORING])
def test_nothing_valid_is_finite(name: str, labels: Labels) -> None:
    scores = _scores(labels.heads)
    loss = LOSSES[name](labels, True)(scores, torch.full((2, 4, 5, 6), 3, dtype=torch.int16))
    loss.backward()
    assert scores.grad is not None
    assert bool(loss.detach().isfinite())
    assert not scores.grad.any()


def test_voxels_outside_count_as_background() -> None:
    labels = _labels()
    outside = torch.where(labels == 0, torch.tensor(-1, dtype=torch.int16), labels)
    for name in LOSSES:
        loss = LOSSES[name](THREE, False)
        assert torch.equal(loss(_scores(), labels), loss(_scores(), outside))


def test_labels_are_left_as_they_were() -> None:
    labels = _labels() - 1
    before = labels.clone()
    label_sums(_scores(), labels, None)
    region_sums(_scores(2), labels, None, ((1, 2), (2,)))
    assert torch.equal(labels, before)


def test_layout_and_half_precision_do_not_matter() -> None:
    labels = _labels()
    loss = LOSSES["dice_ce"](THREE, False)
    wanted = float(loss(_scores(), labels).detach())
    last = _scores().detach().contiguous(memory_format=torch.channels_last_3d)
    assert float(loss(last, labels)) == pytest.approx(wanted, abs=1e-6)
    half = _scores().detach().bfloat16().requires_grad_()
    value = loss(half, labels)
    value.backward()
    assert value.dtype == torch.float32
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16
    assert float(value.detach()) == pytest.approx(wanted, abs=0.02)


def test_only_background_is_refused() -> None:
    with pytest.raises(TrainingError, match="nothing to learn"):
        LOSSES["dice_ce"](Labels(names={"background": 0}), False)


@pytest.mark.parametrize(
    ("levels", "wanted"),
    [
        (1, (1.0,)),
        (2, (1.0, 0.0)),
        (3, (0.6667, 0.3333, 0)),
        (4, (0.5714, 0.2857, 0.1429, 0)),
        (5, (0.5333, 0.2667, 0.1333, 0.0667, 0)),
    ],
)
def test_level_weights_are_nnunets(levels: int, wanted: tuple[float, ...]) -> None:
    assert level_weights(levels) == pytest.approx(wanted, abs=1e-4)


def test_deep_supervision_weighs_the_levels() -> None:
    labels = _labels(shape=(4, 8, 8))
    levels = [_scores(shape=shape) for shape in ((4, 8, 8), (2, 4, 4), (1, 2, 2))]
    loss = LOSSES["dice_ce"](THREE, False)
    found = deep_supervision_loss(levels, labels, loss)
    coarser = labels[:, 1::2, 1::2, 1::2]
    wanted = 2 / 3 * loss(levels[0], labels) + 1 / 3 * loss(levels[1], coarser)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(deep_supervision_loss(levels[0], labels, loss), loss(levels[0], labels))
    torch.testing.assert_close(deep_supervision_loss(levels[:1], labels, loss), loss(levels[0], labels))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=3), st.integers(0, 99))
def test_downsampling_is_torchs_nearest_exact(sizes: list[tuple[int, int]], seed: int) -> None:
    shape, new = zip(*sizes, strict=True)
    labels = torch.randint(-1, 5, (2, *shape), generator=torch.Generator().manual_seed(seed)).short()
    wanted = functional.interpolate(labels[:, None].double(), size=list(new), mode="nearest-exact")[:, 0].short()
    assert torch.equal(downsample_labels(labels, new), wanted)
