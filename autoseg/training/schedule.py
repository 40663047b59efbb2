"""Optimizers, and the learning rate as a function of how much of the run is done."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from autoseg.errors import UsageError
from autoseg.records import TrainSettings

OptimizerBuilder = Callable[[nn.Module, TrainSettings], torch.optim.Optimizer]


def sgd(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Nesterov momentum with weight decay on every parameter (nnU-Net's)."""
    return torch.optim.SGD(
        network.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=True,
        weight_decay=settings.weight_decay,
    )


def adamw(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); no decay on norms and biases, which have nothing to lose but scale."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)


OPTIMIZERS: dict[str, OptimizerBuilder] = {"sgd": sgd, "adamw": adamw}


@dataclass(frozen=True)
class Schedule:
    """A course of the learning rate over a run."""

    factor: Callable[[TrainSettings, float], float]  # (settings, share of the run that is done) -> 0 to 1
    final_decay: float  # share of the run at which the decay begins that only a run which ends here needs


#: Share of a warmup-stable-decay run in which the rate falls.
WSD_DECAY_SHARE = 0.2


def polynomial(settings: TrainSettings, done: float) -> float:
    """Falls over the whole run, to 0 exactly at its end (nnU-Net's, with a power of 0.9)."""
    left: float = 1.0 - done
    return float(left**settings.decay_power)


def stable_then_decay(settings: TrainSettings, done: float) -> float:  # noqa: ARG001
    """Stays, and falls in the last share of the run (warmup-stable-decay: Hu et al. 2024, Hägele et al. 2024)."""
    return falling(1.0 - (1.0 - done) / WSD_DECAY_SHARE)


def falling(share: float) -> float:
    """From 1 to 0 as `share` goes from 0 to 1, fast at first: 1 - sqrt (better than a line: Hägele et al. 2024)."""
    return 1.0 - math.sqrt(min(max(share, 0.0), 1.0))


SCHEDULES: dict[str, Schedule] = {
    # the last tenth of a polynomial decay: beyond it the rate is below an eighth of its start
    "poly": Schedule(polynomial, final_decay=0.9),
    "wsd": Schedule(stable_then_decay, final_decay=1.0 - WSD_DECAY_SHARE),
}


def find_schedule(name: str) -> Schedule:
    """The schedule of that name. Raises UsageError, with the known names, if there is none."""
    if name not in SCHEDULES:
        raise UsageError(f"unknown schedule {name!r}", remedy=f"Known: {', '.join(SCHEDULES)}.")
    return SCHEDULES[name]


def learning_rate(settings: TrainSettings, step: int, done: float) -> float:
    """The rate for a step: linear warm-up, times the course of the schedule.

    Args:
        settings: rate, warm-up steps, schedule and what it needs.
        step: steps made so far.
        done: share of the run that is done, 0 to 1: of the epochs, or of the time budget.
    """
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps > 0 else 1.0
    return settings.learning_rate * warm * find_schedule(settings.schedule).factor(settings, min(max(done, 0.0), 1.0))
