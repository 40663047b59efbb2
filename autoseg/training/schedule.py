"""Optimizers, and the learning rate as a function of how much of the run is done."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

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


def learning_rate(settings: TrainSettings, step: int, done: float) -> float:
    """The rate for a step: linear warm-up, then polynomial decay to 0 exactly at the end.

    Args:
        settings: rate, warm-up steps and decay power.
        step: steps made so far.
        done: share of the run that is done, 0 to 1: of the epochs, or of the time budget.
    """
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps > 0 else 1.0
    left: float = 1.0 - min(max(done, 0.0), 1.0)
    return float(settings.learning_rate * warm * left**settings.decay_power)
