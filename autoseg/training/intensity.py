"""Changes of intensity for training patches: noise, blur, brightness, contrast, resolution, gamma (nnU-Net's).

All work on rows: one row per sample and channel, all of a patch's voxels in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.devices import sent
from autoseg.training.operators import apply_along_axes, blur_operator, low_resolution_operator

Value = TypeVar("Value")

#: Least range and deviation that gamma divides by (nnU-Net's values).
SMALLEST_RANGE = 1e-7
SMALLEST_DEVIATION = 1e-8


@dataclass(frozen=True)
class Intensity:
    """How often and how much intensities are changed. Probabilities per sample; ranges are uniform."""

    noise_probability: float = 0.1
    noise_deviation: tuple[float, float] = (0.0, 0.1)
    blur_probability: float = 0.2
    blur_sigma: tuple[float, float] = (0.5, 1.0)  # in voxels
    brightness_probability: float = 0.15
    contrast_probability: float = 0.15
    multiplier: tuple[float, float] = (0.75, 1.25)  # of brightness and contrast: below or above 1 with equal chance
    low_resolution_probability: float = 0.25
    low_resolution_factor: tuple[float, float] = (0.5, 1.0)
    negated_gamma_probability: float = 0.1
    gamma_probability: float = 0.3
    gamma: tuple[float, float] = (0.7, 1.5)  # below or above 1 with equal chance
    channel_probability: float = 0.5  # of each channel, in blur and low resolution
    mixing_probability: float = 0.0  # colours that turn into one another a little: another stain, lamp or camera
    mixing_strength: float = 0.15  # standard deviation of what a channel gets of each
    inversion_probability: float = 0.0  # light becomes dark: fluorescence and bright field


@dataclass(frozen=True)
class IntensityDraw:
    """What was drawn for one sample. Per-channel entries are None, or () as a whole, where nothing happens."""

    noise: tuple[float, int] | None = None  # standard deviation, and the seed of its pattern
    blur: tuple[tuple[float, ...] | None, ...] = ()  # sigma per axis
    brightness: tuple[float, ...] = ()
    contrast: tuple[float, ...] = ()
    low_resolution: tuple[float | None, ...] = ()
    negated_gamma: tuple[float, ...] = ()
    gamma: tuple[float, ...] = ()
    mixing: tuple[tuple[float, ...], ...] = ()  # (C, C) a row per new channel
    inverted: bool = False


def draw_intensity(
    generator: np.random.Generator, settings: Intensity, channels: int, dimensions: int
) -> IntensityDraw:
    """The changes of one sample, each independent of the others."""

    def happens(probability: float) -> bool:
        return bool(generator.random() < probability)

    def around_one(limits: tuple[float, float]) -> float:
        low, high = limits
        return float(generator.uniform(low, 1) if happens(0.5) else generator.uniform(1, high))

    def each(limits: tuple[float, float], probability: float) -> tuple[float, ...]:
        return tuple(around_one(limits) for _ in range(channels)) if happens(probability) else ()

    noise = None
    if happens(settings.noise_probability):
        noise = float(generator.uniform(*settings.noise_deviation)), int(generator.integers(2**62))
    blur: tuple[tuple[float, ...] | None, ...] = ()
    if happens(settings.blur_probability):
        sigmas = [generator.uniform(*settings.blur_sigma, size=dimensions) for _ in range(channels)]
        blur = tuple(tuple(map(float, row)) if happens(settings.channel_probability) else None for row in sigmas)
    brightness = each(settings.multiplier, settings.brightness_probability)
    contrast = each(settings.multiplier, settings.contrast_probability)
    low_resolution: tuple[float | None, ...] = ()
    if happens(settings.low_resolution_probability):
        factors = generator.uniform(*settings.low_resolution_factor, size=channels)
        low_resolution = tuple(float(f) if happens(settings.channel_probability) else None for f in factors)
    negated_gamma = each(settings.gamma, settings.negated_gamma_probability)
    gamma = each(settings.gamma, settings.gamma_probability)
    mixing: tuple[tuple[float, ...], ...] = ()
    # nothing is drawn of what never happens: other augmentations stay what they were
    if settings.mixing_probability and happens(settings.mixing_probability):
        matrix = np.eye(channels) + generator.normal(0, settings.mixing_strength, size=(channels, channels))
        mixing = tuple(tuple(map(float, row)) for row in matrix)
    inverted = settings.inversion_probability > 0 and happens(settings.inversion_probability)
    return IntensityDraw(
        noise, blur, brightness, contrast, low_resolution, negated_gamma, gamma, mixing=mixing, inverted=inverted
    )


def change_intensities(images: Tensor, draws: Sequence[IntensityDraw], *, flat: bool) -> None:
    """Apply what was drawn to images (B, C, *patch), contiguous, in place and in nnU-Net's order (colours first).

    `flat` patches keep their resolution along the first axis.
    """
    channels = images.shape[1]
    rows = partial(_rows, channels=channels)
    volumes = images.view(-1, *images.shape[2:])
    mix_channels(images, [draw.mixing for draw in draws], [draw.inverted for draw in draws])
    add_noise(images, [draw.noise for draw in draws])
    blur(volumes, rows([draw.blur for draw in draws]))
    brighten(volumes, rows([draw.brightness for draw in draws]))
    change_contrast(volumes, rows([draw.contrast for draw in draws]))
    lower_resolution(volumes, rows([draw.low_resolution for draw in draws]), keep_first=flat)
    change_gamma(volumes, rows([draw.negated_gamma for draw in draws]), negated=True)
    change_gamma(volumes, rows([draw.gamma for draw in draws]), negated=False)


def _rows(drawn: Sequence[Sequence[Value | None]], channels: int) -> dict[int, Value]:
    """Row (sample times channels plus channel) -> what was drawn for it."""
    return {
        sample * channels + channel: value
        for sample, values in enumerate(drawn)
        for channel, value in enumerate(values)
        if value is not None
    }


def draw_dropped(generator: np.random.Generator, channels: int, probability: float) -> tuple[int, ...]:
    """The channels of one sample that are dropped, each with the same probability, but never all of them."""
    dropped = [channel for channel in range(channels) if generator.random() < probability]
    if len(dropped) == channels:
        dropped.pop(int(generator.integers(channels)))
    return tuple(dropped)


def drop_channels(
    images: Tensor, generators: Sequence[np.random.Generator], probability: float, channels: int | None = None
) -> None:
    """Replace channels of images (B, C, *patch) by zeros, the mean of what was normalized, in place.

    Only the first `channels` are ever dropped (None: all). Nothing is drawn where the probability is 0.
    """
    if probability <= 0:
        return
    count = images.shape[1] if channels is None else channels
    for number, generator in enumerate(generators):
        for channel in draw_dropped(generator, count, probability):
            images[number, channel].zero_()


def mix_channels(images: Tensor, matrices: Sequence[Sequence[Sequence[float]]], inverted: Sequence[bool]) -> None:
    """Each channel of samples (B, C, *patch) becomes a sum of all by a row of a matrix (C, C), in place; then inverted.

    Channels are normalized, so that 0 is the middle of each: the negative is the image of another contrast.
    """
    for number, (matrix, negative) in enumerate(zip(matrices, inverted, strict=True)):
        if matrix:
            mixed = sent(torch.tensor(matrix, dtype=images.dtype), images.device) @ images[number].flatten(1)
            images[number] = mixed.view_as(images[number])
        if negative:
            images[number].neg_()


def add_noise(images: Tensor, draws: Sequence[tuple[float, int] | None]) -> None:
    """Add Gaussian noise to samples of images (B, C, *patch), in place, from each sample's own seed."""
    for number, draw in enumerate(draws):
        if draw is not None:
            deviation, seed = draw
            generator = torch.Generator(images.device).manual_seed(seed)
            noise = torch.randn(images.shape[1:], generator=generator, device=images.device)
            images[number].add_(noise, alpha=deviation)


def blur(volumes: Tensor, sigmas: Mapping[int, Sequence[float]]) -> None:
    """Blur rows of volumes (n, *space) in place; `sigmas` in voxels per axis."""
    size = volumes.shape[1:]
    _apply_operators(
        volumes,
        list(sigmas),
        [[blur_operator(edge, row[axis]) for row in sigmas.values()] for axis, edge in enumerate(size)],
    )


def lower_resolution(volumes: Tensor, factors: Mapping[int, float], *, keep_first: bool) -> None:
    """Shrink rows of volumes (n, *space) by a factor, nearest voxel, and enlarge them again linearly, in place."""
    operators: list[list[NDArray[np.float32]] | None] = [
        [low_resolution_operator(edge, max(1, round(edge * factor))) for factor in factors.values()]
        for edge in volumes.shape[1:]
    ]
    _apply_operators(volumes, list(factors), [None, *operators[1:]] if keep_first else operators)


def _apply_operators(
    volumes: Tensor, rows: Sequence[int], operators: Sequence[Sequence[NDArray[np.float32]] | None]
) -> None:
    if rows:
        index = sent(torch.tensor(rows), volumes.device)
        stacks = [None if each is None else sent(np.stack(each), volumes.device) for each in operators]
        volumes[index] = apply_along_axes(volumes[index], stacks)


def brighten(volumes: Tensor, factors: Mapping[int, float]) -> None:
    """Multiply rows of volumes (n, *space) in place."""
    for row, factor in factors.items():
        volumes[row] *= factor


def change_contrast(volumes: Tensor, factors: Mapping[int, float]) -> None:
    """Stretch rows of volumes (n, *space) about their mean, clipped to their range, in place."""
    for row, factor in factors.items():
        volume = volumes[row]
        mean, (low, high) = volume.mean(), torch.aminmax(volume)
        volume.sub_(mean).mul_(factor).add_(mean).clamp_(low, high)


def change_gamma(volumes: Tensor, gammas: Mapping[int, float], *, negated: bool) -> None:
    """Raise rows of volumes (n, *space), scaled to 0..1, to a power, in place; mean and deviation stay.

    `negated` does so to the negative, which treats bright voxels as the other treats dark ones.
    """
    for row, gamma in gammas.items():
        volume = volumes[row]
        deviation, mean = torch.std_mean(volume)
        low, high = torch.aminmax(volume)
        extent = (high - low).clamp(min=SMALLEST_RANGE)
        scaled = (high - volume if negated else volume - low).div_(extent).pow_(gamma)
        changed = scaled.neg_() if negated else scaled
        new_deviation, new_mean = torch.std_mean(changed)
        scale = deviation / (new_deviation * extent).clamp(min=SMALLEST_DEVIATION) * extent
        volumes[row] = changed.sub_(new_mean).mul_(scale).add_(mean)
