"""Instance normalization joined with the leaky ReLU that follows it, written for the memory's sake.

A convolution runs near a CPU's peak; normalization and activation wait for memory. Laid out channels last, where
convolutions are fastest, torch's own instance norm is slow: it copies to another layout and back. Here the forward
pass is four sweeps over the features (mean and variance by two matrix products, scale and shift, rectify in place),
the backward pass one for the activation and torch's batch norm kernel per sample, which knows this layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: Added to the variance (nnU-Net's value).
EPSILON = 1e-5

#: Negative slope of every leaky ReLU (nnU-Net's value).
SLOPE = 0.01


def is_traced() -> bool:
    """Whether the network is being exported or compiled: then only torch's standard operations may be used."""
    return bool(torch.jit.is_tracing()) or torch.compiler.is_compiling()


class InstanceNorm(nn.Module):
    """Instance normalization (Ulyanov et al. 2016) with learned scale and shift, then a leaky ReLU.

    `activation=False` leaves the leaky ReLU out. The input's memory may be reused: it must be nobody else's.
    """

    def __init__(self, features: int, *, activation: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Normalized (and rectified) x, of the same shape and dtype, by the statistics of each sample and channel."""
        if x.device.type == "cpu" and not is_traced():
            result: Tensor = _ChannelsLastInstanceNorm.apply(x, self.weight, self.bias, self.activation)
            return result
        x = functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=EPSILON)
        return functional.leaky_relu_(x, SLOPE) if self.activation else x


class _ChannelsLastInstanceNorm(Function):
    """Instance norm and, if `activates`, leaky ReLU of x (B, C, *space), for tensors laid out channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, activates: bool) -> Tensor:
        result, mean, inverse = _normalized(x, weight, bias)
        if activates:
            functional.leaky_relu_(result, SLOPE)
        ctx.activates = activates
        ctx.save_for_backward(x, result if activates else None, mean, inverse, weight)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, result, mean, inverse, weight = ctx.saved_tensors
        if ctx.activates:
            # the sign of the result is the sign of what was rectified
            gradient = torch.ops.aten.leaky_relu_backward(gradient, result, SLOPE, True)
        # a batch of one makes batch norm an instance norm
        parts = [
            torch.ops.aten.native_batch_norm_backward(
                gradient[n : n + 1], x[n : n + 1], weight, None, None, mean[n], inverse[n], True, EPSILON, [True] * 3
            )
            for n in range(len(x))
        ]
        to_x, to_weight, to_bias = zip(*parts, strict=True)
        return torch.cat(to_x), torch.stack(to_weight).sum(0), torch.stack(to_bias).sum(0), None


def _normalized(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalized x, and mean and inverse standard deviation (B, C) in the parameters' precision."""
    batch, channels = x.shape[:2]
    if x.dtype != weight.dtype:
        # half precision: this kernel reads it and counts in float32
        voxels = x[0, 0].numel()
        result, mean, inverse = torch.native_group_norm(x, weight, bias, batch, channels, voxels, channels, EPSILON)
        return result, mean, inverse
    last = x.movedim(1, -1)
    slabs = last.reshape(batch * last.shape[1], -1, channels)
    # a sum over voxels is a product with ones, one of squares the diagonal of a product: sums per slab, in parallel,
    # and as exact as pairwise summation
    ones = x.new_ones(1, 1, slabs.shape[1]).expand(len(slabs), -1, -1)
    voxels = len(slabs) // batch * slabs.shape[1]
    mean = (ones @ slabs).view(batch, -1, channels).sum(1) / voxels
    squares = torch.diagonal(slabs.mT @ slabs, dim1=1, dim2=2).view(batch, -1, channels).sum(1) / voxels
    inverse = (squares - mean * mean).clamp_(min=0).add_(EPSILON).rsqrt_()
    scale = weight * inverse
    shift = torch.addcmul(bias, scale, mean, value=-1)
    per_voxel = (batch, *(1,) * (x.ndim - 2), channels)
    result = torch.addcmul(shift.view(per_voxel), last, scale.view(per_voxel))
    return result.movedim(-1, 1), mean, inverse
