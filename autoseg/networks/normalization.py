"""Instance normalization joined with the leaky ReLU that follows it, written for the memory's sake.

A convolution runs near a CPU's peak; normalization and activation wait for memory. Laid out channels last, where
convolutions are fastest, torch's own instance norm is slow: it copies to another layout and back. Here the forward
pass is four sweeps over the features (mean and variance by matrix products, scale and shift, rectify in place), the
backward pass five.

On a GPU torch's instance norm leaves most of the processors idle, and copies in the same way; Triton's kernels
(`networks.norm_kernels`) take its place where they work.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from autoseg.networks.acceleration import in_short

#: Added to the variance (nnU-Net's value).
EPSILON = 1e-5

#: Negative slope of every leaky ReLU (nnU-Net's value).
SLOPE = 0.01

#: Up to so many channels, sums of products are the diagonals of matrix products.
FEW_CHANNELS = 32

#: Square of the mean, in variances, from which the mean square minus that square has lost too many digits.
CANCELLING = 50.0


def is_traced() -> bool:
    """Whether the network is being exported or compiled: then only torch's standard operations may be used."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return tracing or torch.compiler.is_compiling()


def gpu_kernels(device: torch.device) -> ModuleType | None:
    """The kernels for a GPU; None where they do not work: no Triton, no compiler, another kind of device."""
    return _tried_kernels(device)[0]


def _suited(device: torch.device) -> bool:
    """Whether the kernels were made for such a card: where convolutions are slow channels last, nothing is gained."""
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def _tried_kernels(device: torch.device) -> tuple[ModuleType | None, str]:
    if device.type != "cuda" or not _suited(device):
        return None, ""
    try:
        from autoseg.networks import norm_kernels

        x = torch.linspace(0, 1, 64, device=device).view(1, 4, 4, 4).contiguous(memory_format=torch.channels_last)
        ones = torch.ones(4, device=device)
        result, mean, inverse = norm_kernels.normalized(x, ones, ones, EPSILON, SLOPE)
        norm_kernels.gradients(result, x, ones, ones, mean, inverse, SLOPE)
        torch.cuda.synchronize(device)
    except Exception as error:  # whatever the reason is, there is another way to compute the same
        return None, in_short(error)
    return norm_kernels, ""


def lays_out_channels_last(device: torch.device) -> bool:
    """Whether features are to lie channels last on this device: where the normalization does so too."""
    return device.type == "cpu" or gpu_kernels(device) is not None


class InstanceNorm(nn.Module):
    """Instance normalization (Ulyanov et al. 2016) with learned scale and shift, then a leaky ReLU.

    `activation=False` leaves the leaky ReLU out.
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
        if x.device.type == "cuda" and x.dtype != torch.float64 and not is_traced() and gpu_kernels(x.device):
            slope = SLOPE if self.activation else 1.0
            fused: Tensor = _GpuInstanceNorm.apply(x, self.weight, self.bias, slope)
            return fused
        x = functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=EPSILON)
        return functional.leaky_relu_(x, SLOPE) if self.activation else x


def why_norms_are_slow(network: nn.Module, device: torch.device) -> str:
    """Why a network's norms have to do without the kernels that they were to have on a GPU, in short; else empty."""
    ours = any(isinstance(module, InstanceNorm) for module in network.modules())
    return _tried_kernels(device)[1] if ours else ""


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
        if x.dtype != weight.dtype:
            return *_half_precision_gradients(gradient, x, mean, inverse, weight), None
        total = _channel_sums(gradient)
        # the normalized x is (x - mean) * inverse; its products with the gradient, summed
        products = (_channel_products(gradient, x) - mean * total) * inverse
        scale = weight * inverse
        slope = -scale * inverse * products / x[0, 0].numel()
        shift = -scale * total / x[0, 0].numel() - slope * mean
        to_x = _scaled(x, slope, shift).addcmul_(gradient.movedim(1, -1), _per_voxel(scale, x.ndim))
        return to_x.movedim(-1, 1), products.sum(0), total.sum(0), None


class _GpuInstanceNorm(Function):
    """Instance norm and leaky ReLU (a slope of 1 is none) of x (B, C, *space) by the GPU's kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
        kernels = gpu_kernels(x.device)
        if kernels is None:
            raise ValueError("there are no kernels for this device")
        x = in_channels_last(x)
        result, mean, inverse = kernels.normalized(x, weight, bias, EPSILON, slope)
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        ctx.slope = slope
        normalized: Tensor = result
        return normalized

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, bias, mean, inverse = ctx.saved_tensors
        kernels = gpu_kernels(x.device)
        if kernels is None:
            raise ValueError("there are no kernels for this device")
        return *kernels.gradients(in_channels_last(gradient), x, weight, bias, mean, inverse, ctx.slope), None


def in_channels_last(x: Tensor) -> Tensor:
    """Features (B, C, *space) laid out channels last."""
    if x.shape[1] == 1:
        # with one channel both layouts are the same memory, but torch tells them apart by the strides
        return x.reshape(x.shape[0], *x.shape[2:], 1).contiguous().movedim(-1, 1)
    return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)


def _normalized(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalized x, and mean and inverse standard deviation (B, C) in the parameters' precision."""
    batch, channels = x.shape[:2]
    voxels = x[0, 0].numel()
    if x.dtype != weight.dtype:
        # half precision: this kernel reads it and counts in float32
        result, mean, inverse = torch.native_group_norm(x, weight, bias, batch, channels, voxels, channels, EPSILON)
        return result, mean, inverse
    mean = _channel_sums(x) / voxels
    square = mean * mean
    variance = (_channel_products(x, x) / voxels - square).clamp_(min=0)
    if bool((square > CANCELLING * variance).any()):
        centred = x - mean.view(batch, channels, *(1,) * (x.ndim - 2))
        variance = _channel_products(centred, centred) / voxels
    inverse = (variance + EPSILON).rsqrt_()
    scale = weight * inverse
    return _scaled(x, scale, bias - scale * mean).movedim(-1, 1), mean, inverse


def _half_precision_gradients(
    gradient: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, scale and shift by torch's kernel that reads half precision and counts in float32."""
    # a batch of one makes batch norm an instance norm
    parts = [
        torch.ops.aten.native_batch_norm_backward(
            gradient[n : n + 1], x[n : n + 1], weight, None, None, mean[n], inverse[n], True, EPSILON, [True] * 3
        )
        for n in range(len(x))
    ]
    to_x, to_weight, to_bias = zip(*parts, strict=True)
    return torch.cat(to_x), torch.stack(to_weight).sum(0), torch.stack(to_bias).sum(0)


def _slabs(x: Tensor) -> Tensor:
    """(B, C, Z, *rest) as matrices (B * Z, voxels of a slab, C)."""
    return x.movedim(1, -1).reshape(x.shape[0] * x.shape[2], -1, x.shape[1])


def _channel_sums(x: Tensor) -> Tensor:
    """Sums (B, C) over voxels: a product with ones per slab, then over slabs.

    Per slab, since one long float32 sum loses digits: an error common to all voxels of a channel, which the gradients
    of the weights would add up voxel by voxel. And the slabs are summed in parallel.
    """
    slabs = _slabs(x)
    ones = x.new_ones(1, 1, slabs.shape[1]).expand(len(slabs), -1, -1)
    return (ones @ slabs).view(x.shape[0], -1, x.shape[1]).sum(1)


def _channel_products(x: Tensor, y: Tensor) -> Tensor:
    """Sums (B, C) over voxels of x times y."""
    if x.shape[1] > FEW_CHANNELS:
        return _channel_sums(x * y)
    # the diagonal of a matrix product, which costs less than writing and reading x * y while channels are few
    products = torch.diagonal(_slabs(x).mT @ _slabs(y), dim1=1, dim2=2)
    return products.view(x.shape[0], -1, x.shape[1]).sum(1)


def _scaled(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x * scale + shift, the factors (B, C), as (B, *space, C)."""
    return torch.addcmul(_per_voxel(shift, x.ndim), x.movedim(1, -1), _per_voxel(scale, x.ndim))


def _per_voxel(values: Tensor, dimensions: int) -> Tensor:
    """(B, C) as (B, 1, ..., C)."""
    return values.view(values.shape[0], *(1,) * (dimensions - 2), values.shape[1])
