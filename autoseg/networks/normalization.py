"""Instance normalization joined with the leaky ReLU that follows it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Added to the variance (nnU-Net's value).
EPSILON = 1e-5

#: Negative slope of every leaky ReLU (nnU-Net's value).
SLOPE = 0.01


class InstanceNorm(nn.Module):
    """Instance normalization with learned scale and shift, then a leaky ReLU unless `activation` is off."""

    def __init__(self, features: int, *, activation: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Normalized (and rectified) x, of the same shape and dtype."""
        x = functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=EPSILON)
        return functional.leaky_relu(x, SLOPE) if self.activation else x
