"""Losses and online Dice of samples in which some labels were not drawn."""

from __future__ import annotations

import pytest
import torch
from loss_builders import deep_supervision_loss
from torch.nn import functional

from autoseg.records import Labels
from autoseg.training.losses import LOSSES
from autoseg.training.online import PatchDice
from autoseg.training.setup import partly_drawn

FOUR = Labels(names={"background": 0, "a": 1, "b": 2, "c": 3})
FOUR_IGNORING = FOUR.model_copy(update={"ignore": 4})
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2, "vessel": 3})
REGIONS_IGNORING = REGIONS.model_copy(update={"ignore": 4})
SHAPE = (3, 4, 5)
#: Two samples: in the first label 2 was not drawn, in the second all but label 3.
DRAWN = torch.tensor([[True, True, False, True], [True, False, False, True]])
DRAWN_REGIONS = torch.tensor([[True, False, True], [False, False, True]])


def _scores(heads: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, heads, *SHAPE, generator=generator, dtype=torch.float64, requires_grad=True)


def _labels(values: list[list[int]], seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    samples = [torch.tensor(kept)[torch.randint(0, len(kept), SHAPE, generator=generator)] for kept in values]
    return torch.stack(samples).short()


def _plain_dice(p: torch.Tensor, y: torch.Tensor, counts: torch.Tensor, batch_dice: bool) -> torch.Tensor:
    """Mean Dice over what counts: p, y (B, K, *space), counts (B, K)."""
    axes = tuple(range(2, p.ndim))
    p, y = p * counts[:, :, None, None, None], y * counts[:, :, None, None, None]
    sums = [(p * y).sum(axes), p.sum(axes), y.sum(axes)]
    if batch_dice:
        sums, counts = [part.sum(0) for part in sums], counts.any(0)
    return ((2 * sums[0] + 1e-5) / (sums[1] + sums[2] + 1e-5))[counts].mean()


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("ignores", [True, False])
def test_softmax_equals_the_marginal_written_out(batch_dice: bool, ignores: bool) -> None:
    extra = [4] if ignores else []
    labels = _labels([[0, 1, 3, *extra], [0, 3, *extra]])
    found_scores, wanted_scores = _scores(4), _scores(4)
    found = LOSSES["dice_ce"](FOUR_IGNORING if ignores else FOUR, batch_dice)(found_scores, labels, DRAWN)

    valid = (labels != 4).double()
    p = wanted_scores.softmax(1)
    background = p[:, 0] + (p * ~DRAWN[:, :, None, None, None]).sum(1)  # the probability of all that was not drawn
    marginal = torch.cat([background[:, None], p[:, 1:]], 1)
    own = marginal.gather(1, (labels.long() * (labels != 4))[:, None])[:, 0]
    cross_entropy = -(own.log() * valid).sum() / valid.sum()
    one_hot = functional.one_hot((labels.long() * (labels != 4)), 4).movedim(-1, 1) * valid[:, None]
    dice = _plain_dice((p * valid[:, None])[:, 1:], one_hot[:, 1:], DRAWN[:, 1:], batch_dice)
    wanted = cross_entropy - dice
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-5)
    found.backward()
    wanted.backward()
    torch.testing.assert_close(found_scores.grad, wanted_scores.grad, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("ignores", [True, False])
def test_regions_count_where_they_were_drawn(batch_dice: bool, ignores: bool) -> None:
    extra = [4] if ignores else []
    labels = _labels([[0, 1, 3, *extra], [0, 3, *extra]])
    found_scores, wanted_scores = _scores(3), _scores(3)
    found = LOSSES["dice_ce"](REGIONS_IGNORING if ignores else REGIONS, batch_dice)(found_scores, labels, DRAWN_REGIONS)

    valid = (labels != 4)[:, None].double()
    counts = DRAWN_REGIONS[:, :, None, None, None] * valid
    regions = torch.stack([(labels == 1) | (labels == 2), labels == 2, labels == 3], 1).double()
    bce = functional.binary_cross_entropy_with_logits(wanted_scores, regions, reduction="none") * counts
    # with an ignore label nnU-Net divides by voxels, not by voxels times regions
    mean = bce.sum() / counts.sum() * (3 if ignores else 1)
    wanted = mean - _plain_dice(wanted_scores.sigmoid() * valid, regions * valid, DRAWN_REGIONS, batch_dice)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-5)
    found.backward()
    wanted.backward()
    torch.testing.assert_close(found_scores.grad, wanted_scores.grad, atol=1e-7, rtol=1e-4)
    assert found_scores.grad is not None
    assert not found_scores.grad[~DRAWN_REGIONS].any()
    assert found_scores.grad[DRAWN_REGIONS].any()


@pytest.mark.parametrize("name", list(LOSSES))
def test_what_was_not_drawn_may_be_anything_there(name: str) -> None:
    """Neither scores of undrawn regions nor stray voxels of undrawn labels change the loss."""
    loss = LOSSES[name](REGIONS, True)
    labels = _labels([[0, 1, 3], [0, 3]])
    scores = _scores(3).detach()
    changed = torch.where(DRAWN_REGIONS[:, :, None, None, None], scores, scores + 7)
    assert torch.equal(loss(scores, labels, DRAWN_REGIONS), loss(changed, labels, DRAWN_REGIONS))
    softmax = LOSSES[name](FOUR, True)
    stray = labels.clone()
    stray[1][stray[1] == 0] = 2
    plain = _scores(4).detach()
    assert torch.equal(softmax(plain, labels, DRAWN), softmax(plain, stray, DRAWN))


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("labels", [FOUR, FOUR_IGNORING, REGIONS, REGIONS_IGNORING])
@pytest.mark.parametrize("batch_dice", [True, False])
def test_all_drawn_is_the_usual_loss(name: str, labels: Labels, batch_dice: bool) -> None:
    loss = LOSSES[name](labels, batch_dice)
    reference = _labels([[0, 1, 2, 3]] * 2)
    usual, told = _scores(labels.heads), _scores(labels.heads)
    wanted = loss(usual, reference)
    found = loss(told, reference, torch.ones(2, labels.heads, dtype=torch.bool))
    wanted.backward()
    found.backward()
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-6)
    torch.testing.assert_close(told.grad, usual.grad, atol=1e-8, rtol=1e-5)


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("labels", [FOUR, REGIONS])
def test_nothing_drawn_teaches_nothing(name: str, labels: Labels) -> None:
    scores = _scores(labels.heads)
    drawn = torch.tensor(labels.drawn_outputs(())).expand(2, -1)
    value = LOSSES[name](labels, True)(scores, torch.zeros(2, *SHAPE, dtype=torch.int16), drawn)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-6)
    assert scores.grad is not None
    assert float(scores.grad.abs().max()) < 1e-7


def test_half_precision_scores_have_gradients_of_their_type() -> None:
    for labels, drawn in ((FOUR, DRAWN), (REGIONS, DRAWN_REGIONS)):
        half = _scores(labels.heads).detach().bfloat16().requires_grad_()
        LOSSES["dice_ce"](labels, True)(half, _labels([[0, 1, 3], [0, 3]]), drawn).backward()
        assert half.grad is not None
        assert half.grad.dtype == torch.bfloat16
        assert bool(half.grad.isfinite().all())


def test_every_resolution_is_told() -> None:
    labels = _labels([[0, 1, 3], [0, 3]])
    levels = [_scores(4), _scores(4, seed=2)[:, :, :2, :2, :3], _scores(4)[:, :, :1, :1, :1]]
    loss = LOSSES["dice_ce"](FOUR, False)
    found = deep_supervision_loss(levels, labels, loss, DRAWN)
    usual = deep_supervision_loss(levels, labels, loss)
    assert float(found.detach()) < float(usual.detach())  # the marginal is never less likely than the background alone


def test_only_cases_that_lack_something_are_kept() -> None:
    annotated = {"x": ("a",), "y": ("a", "b", "c")}
    assert partly_drawn(FOUR, annotated) == {"x": (True, True, False, False)}
    assert partly_drawn(REGIONS, {"x": ("core", "vessel")}) == {"x": (False, True, True)}


@pytest.mark.parametrize("labels", [FOUR, Labels(names={"background": 0, "a": 1, "b": 2, "c": 3, "ab": (1, 2)})])
def test_the_online_dice_counts_what_was_drawn(labels: Labels) -> None:
    reference = _labels([[0, 1, 2, 3]] * 2)
    members = [(0,), (1,), (2,), (3,)] if not labels.has_regions else list(labels.foreground.values())
    inside = torch.stack([sum(reference == value for value in values) for values in members], 1)
    scores = inside.float() * 20 - 10
    scores[1] *= -1  # the second sample is all wrong
    drawn = torch.ones(2, labels.heads, dtype=torch.bool)
    drawn[1] = False
    online = PatchDice(labels)
    online.add(scores, reference, drawn)
    assert set(online.per_label().values()) == {1.0}
    online.add(scores, reference)
    assert all(value is not None and value < 1 for value in online.per_label().values())
