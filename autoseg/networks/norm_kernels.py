"""GPU kernels of instance normalization joined with leaky ReLU, for features laid out channels last.

Torch's instance norm gives each sample and channel to one block of threads, which leaves most of a large GPU idle, and
copies to another layout and back where features are laid out channels last, as its convolutions want them. Here the
voxels of a sample are shared out among as many blocks as keep the GPU busy. The forward pass reads the features twice
and writes them once, the backward pass reads features and gradients twice and writes once: the least without keeping
them on the chip. Sums are in float32, in a fixed order, about the value of each channel's first voxel, so that a mean
that is large beside the deviation costs no digits.

Written in Triton, which comes with torch's builds for CUDA on Linux; where it is missing this module can't be imported.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Blocks of threads that keep a large GPU busy (an H100 runs some eight of these on each of its 132 processors).
BLOCKS = 1024

#: Channels and elements of the piece that a block works on at a time.
CHANNELS, ELEMENTS = 64, 4096

#: Partial sums that are added at a time.
PARTS = 32


@triton.jit
def _moments_kernel(x, partial, voxels, channels, share, VOXELS: tl.constexpr, CHANNELS: tl.constexpr):
    part, sample = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    base = x + sample.to(tl.int64) * voxels * channels
    first = tl.load(base + channel, mask=known, other=0.0).to(tl.float32)
    total = tl.zeros((VOXELS, CHANNELS), tl.float32)
    square = tl.zeros((VOXELS, CHANNELS), tl.float32)
    begin = part * share
    end = tl.minimum(begin + share, voxels)
    for start in range(begin, end, VOXELS):
        voxel = start + tl.arange(0, VOXELS)
        inside = (voxel < end)[:, None] & known[None, :]
        place = voxel.to(tl.int64)[:, None] * channels + channel[None, :]
        value = tl.load(base + place, mask=inside, other=0.0).to(tl.float32) - first[None, :]
        value = tl.where(inside, value, 0.0)
        total += value
        square += value * value
    target = partial + (sample * tl.num_programs(0) + part) * 2 * channels + channel
    tl.store(target, tl.sum(total, 0), mask=known)
    tl.store(target + channels, tl.sum(square, 0), mask=known)


@triton.jit
def _statistics_kernel(
    x, partial, mean, inverse, voxels, channels, parts, epsilon, PARTS: tl.constexpr, CHANNELS: tl.constexpr
):
    sample = tl.program_id(1)
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    first = tl.load(x + sample.to(tl.int64) * voxels * channels + channel, mask=known, other=0.0).to(tl.float32)
    total = tl.zeros((PARTS, CHANNELS), tl.float32)
    square = tl.zeros((PARTS, CHANNELS), tl.float32)
    for start in range(0, parts, PARTS):
        part = start + tl.arange(0, PARTS)
        inside = (part < parts)[:, None] & known[None, :]
        place = partial + (sample * parts + part)[:, None] * 2 * channels + channel[None, :]
        total += tl.load(place, mask=inside, other=0.0)
        square += tl.load(place + channels, mask=inside, other=0.0)
    offset = tl.sum(total, 0) / voxels
    variance = tl.maximum(tl.sum(square, 0) / voxels - offset * offset, 0.0)
    tl.store(mean + sample * channels + channel, first + offset, mask=known)
    tl.store(inverse + sample * channels + channel, 1.0 / tl.sqrt(variance + epsilon), mask=known)


@triton.jit
def _apply_kernel(
    x, weight, bias, mean, inverse, result, voxels, channels, slope, VOXELS: tl.constexpr, CHANNELS: tl.constexpr
):
    sample = tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    voxel = tl.program_id(0) * VOXELS + tl.arange(0, VOXELS)
    known = channel < channels
    inside = (voxel < voxels)[:, None] & known[None, :]
    place = (sample.to(tl.int64) * voxels + voxel)[:, None] * channels + channel[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    middle = tl.load(mean + sample * channels + channel, mask=known, other=0.0)
    scale = tl.load(inverse + sample * channels + channel, mask=known, other=0.0)
    factor = tl.load(weight + channel, mask=known, other=0.0)
    shift = tl.load(bias + channel, mask=known, other=0.0)
    value = (value - middle[None, :]) * scale[None, :] * factor[None, :] + shift[None, :]
    value = tl.where(value > 0, value, value * slope)
    tl.store(result + place, value.to(result.dtype.element_ty), mask=inside)


@triton.jit
def _slopes_kernel(
    x,
    gradient,
    weight,
    bias,
    mean,
    inverse,
    partial,
    voxels,
    channels,
    share,
    slope,
    VOXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    part, sample = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    middle = tl.load(mean + sample * channels + channel, mask=known, other=0.0)
    scale = tl.load(inverse + sample * channels + channel, mask=known, other=0.0)
    factor = tl.load(weight + channel, mask=known, other=0.0)
    shift = tl.load(bias + channel, mask=known, other=0.0)
    origin = sample.to(tl.int64) * voxels * channels
    total = tl.zeros((VOXELS, CHANNELS), tl.float32)
    product = tl.zeros((VOXELS, CHANNELS), tl.float32)
    begin = part * share
    end = tl.minimum(begin + share, voxels)
    for start in range(begin, end, VOXELS):
        voxel = start + tl.arange(0, VOXELS)
        inside = (voxel < end)[:, None] & known[None, :]
        place = origin + voxel.to(tl.int64)[:, None] * channels + channel[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        value = (value - middle[None, :]) * scale[None, :]
        upward = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
        upward = tl.where(value * factor[None, :] + shift[None, :] > 0, upward, upward * slope)
        total += upward
        product += upward * value
    target = partial + (sample * tl.num_programs(0) + part) * 2 * channels + channel
    tl.store(target, tl.sum(total, 0), mask=known)
    tl.store(target + channels, tl.sum(product, 0), mask=known)


@triton.jit
def _sums_kernel(partial, sums, channels, parts, PARTS: tl.constexpr, CHANNELS: tl.constexpr):
    sample = tl.program_id(1)
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    total = tl.zeros((PARTS, CHANNELS), tl.float32)
    product = tl.zeros((PARTS, CHANNELS), tl.float32)
    for start in range(0, parts, PARTS):
        part = start + tl.arange(0, PARTS)
        inside = (part < parts)[:, None] & known[None, :]
        place = partial + (sample * parts + part)[:, None] * 2 * channels + channel[None, :]
        total += tl.load(place, mask=inside, other=0.0)
        product += tl.load(place + channels, mask=inside, other=0.0)
    target = sums + sample * 2 * channels + channel
    tl.store(target, tl.sum(total, 0), mask=known)
    tl.store(target + channels, tl.sum(product, 0), mask=known)


@triton.jit
def _gradient_kernel(
    x,
    gradient,
    weight,
    bias,
    mean,
    inverse,
    sums,
    result,
    voxels,
    channels,
    slope,
    VOXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    sample = tl.program_id(1)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    voxel = tl.program_id(0) * VOXELS + tl.arange(0, VOXELS)
    known = channel < channels
    inside = (voxel < voxels)[:, None] & known[None, :]
    place = (sample.to(tl.int64) * voxels + voxel)[:, None] * channels + channel[None, :]
    middle = tl.load(mean + sample * channels + channel, mask=known, other=0.0)
    scale = tl.load(inverse + sample * channels + channel, mask=known, other=0.0)
    factor = tl.load(weight + channel, mask=known, other=0.0)
    shift = tl.load(bias + channel, mask=known, other=0.0)
    total = tl.load(sums + sample * 2 * channels + channel, mask=known, other=0.0) / voxels
    product = tl.load(sums + sample * 2 * channels + channels + channel, mask=known, other=0.0) / voxels
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    value = (value - middle[None, :]) * scale[None, :]
    upward = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
    upward = tl.where(value * factor[None, :] + shift[None, :] > 0, upward, upward * slope)
    value = (upward - total[None, :] - value * product[None, :]) * (factor * scale)[None, :]
    tl.store(result + place, value.to(result.dtype.element_ty), mask=inside)


class _Work:
    """How features (B, C, *space) are shared out among blocks of threads."""

    def __init__(self, x: Tensor) -> None:
        self.samples, self.channels = x.shape[:2]
        self.voxels = x[0, 0].numel()
        self.piece_channels = min(CHANNELS, triton.next_power_of_2(self.channels))
        self.piece_voxels = min(ELEMENTS // self.piece_channels, max(16, triton.next_power_of_2(self.voxels)))
        pieces = triton.cdiv(self.channels, self.piece_channels)
        wanted = triton.cdiv(BLOCKS, self.samples * pieces)
        steps = triton.cdiv(self.voxels, self.piece_voxels)  # pieces of voxels, of which a block takes several
        steps_each = triton.cdiv(steps, min(wanted, steps))
        self.share = steps_each * self.piece_voxels  # voxels of a block
        self.parts = triton.cdiv(self.voxels, self.share)
        self.summing = (self.parts, self.samples, pieces)
        self.mapping = (steps, self.samples, pieces)
        self.sizes = {"VOXELS": self.piece_voxels, "CHANNELS": self.piece_channels}


def normalized(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalized and rectified x, laid out channels last, and mean and inverse standard deviation (B, C), float32.

    Args:
        x: (B, C, *space), laid out channels last.
        weight: (C,) float32.
        bias: (C,) float32.
        epsilon: added to the variance.
        slope: of what is negative; 1 rectifies nothing.
    """
    work = _Work(x)
    partial = torch.empty(work.samples, work.parts, 2, work.channels, dtype=torch.float32, device=x.device)
    mean = torch.empty(work.samples, work.channels, dtype=torch.float32, device=x.device)
    inverse = torch.empty_like(mean)
    result = torch.empty_like(x)
    with _on(x):
        _moments_kernel[work.summing](x, partial, work.voxels, work.channels, work.share, **work.sizes)
        blocks = triton.cdiv(work.channels, work.piece_channels)
        _statistics_kernel[blocks, work.samples](
            *(x, partial, mean, inverse, work.voxels, work.channels, work.parts, epsilon),
            PARTS=PARTS,
            CHANNELS=work.piece_channels,
        )
        _apply_kernel[work.mapping](
            *(x, weight, bias, mean, inverse, result, work.voxels, work.channels, slope), **work.sizes
        )
    return result, mean, inverse


def gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, from that of the result (laid out channels last) and what `normalized` gave."""
    work = _Work(x)
    partial = torch.empty(work.samples, work.parts, 2, work.channels, dtype=torch.float32, device=x.device)
    sums = torch.empty(work.samples, 2, work.channels, dtype=torch.float32, device=x.device)
    to_x = torch.empty_like(x)
    with _on(x):
        _slopes_kernel[work.summing](
            *(x, gradient, weight, bias, mean, inverse, partial, work.voxels, work.channels, work.share, slope),
            **work.sizes,
        )
        blocks = triton.cdiv(work.channels, work.piece_channels)
        _sums_kernel[blocks, work.samples](
            partial, sums, work.channels, work.parts, PARTS=PARTS, CHANNELS=work.piece_channels
        )
        _gradient_kernel[work.mapping](
            *(x, gradient, weight, bias, mean, inverse, sums, to_x, work.voxels, work.channels, slope), **work.sizes
        )
    to_bias, to_weight = sums.sum(0)
    return to_x, to_weight.to(weight.dtype), to_bias.to(bias.dtype)


def _on(x: Tensor) -> AbstractContextManager[Any]:
    """Launch on the device of x; Triton's interpreter computes on the CPU."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
