from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from autoseg.training.intensity import (
    Intensity,
    add_noise,
    blur,
    brighten,
    change_contrast,
    change_gamma,
    draw_intensity,
    lower_resolution,
    mix_channels,
)
from autoseg.training.operators import apply_along_axes, blur_operator, low_resolution_operator


def _volumes(seed: int = 0) -> torch.Tensor:
    return torch.randn(3, 6, 7, 8, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def test_noise_has_its_deviation_and_its_own_seed() -> None:
    images = torch.zeros(3, 2, 20, 20, 20)
    add_noise(images, [(0.1, 7), None, (0.1, 7)])
    assert float(images[0].std()) == pytest.approx(0.1, rel=0.02)
    assert not images[1].any()
    assert torch.equal(images[0], images[2])
    assert not torch.equal(images[0, 0], images[0, 1])


def test_colours_are_mixed_and_turned_into_their_negatives() -> None:
    images = torch.randn(3, 2, 5, 6, generator=torch.Generator().manual_seed(1))
    before = images.clone()
    mix_channels(images, [((1.0, 0.5), (-0.25, 2.0)), (), ()], [True, False, True])
    torch.testing.assert_close(images[0, 0], -(before[0, 0] + 0.5 * before[0, 1]))
    torch.testing.assert_close(images[0, 1], -(-0.25 * before[0, 0] + 2 * before[0, 1]))
    assert torch.equal(images[1], before[1])
    assert torch.equal(images[2], -before[2])


def test_what_never_happens_draws_nothing() -> None:
    """So that a seed goes on giving the same patches."""
    plain, coloured = (np.random.default_rng(4) for _ in range(2))
    draws = [draw_intensity(plain, Intensity(), 3, 2) for _ in range(50)]
    assert not any(draw.mixing or draw.inverted for draw in draws)
    found = [draw_intensity(coloured, Intensity(mixing_probability=1, inversion_probability=1), 3, 2)]
    assert found[0].gamma == draws[0].gamma
    assert np.shape(found[0].mixing) == (3, 3)
    assert found[0].inverted


@pytest.mark.parametrize(("sigma", "taps"), [(0.5, 3), (0.58, 3), (0.59, 5), (0.91, 5), (0.92, 7), (1.0, 7)])
def test_blur_has_nnunets_taps(sigma: float, taps: int) -> None:
    operator = blur_operator(21, sigma)
    assert int((operator[10] > 0).sum()) == taps
    np.testing.assert_allclose(operator.sum(1), 1, atol=1e-6)


def test_blur_is_a_convolution_with_reflected_edges() -> None:
    volumes = _volumes()
    wanted = volumes.clone()
    for axis, sigma in enumerate((0.7, 0.55, 0.95)):
        radius = int((6 * sigma + 0.5) / 2)
        weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
        rows = wanted.movedim(axis + 1, -1)
        shape = rows.shape
        flat = functional.pad(rows.reshape(-1, 1, shape[-1]), (radius, radius), mode="reflect")
        wanted = functional.conv1d(flat, (weights / weights.sum())[None, None]).view(shape).movedim(-1, axis + 1)
    found = volumes.clone()
    blur(found, {1: (0.7, 0.55, 0.95)})
    torch.testing.assert_close(found[1], wanted[1])
    assert torch.equal(found[0], volumes[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.floats(0.5, 1))
def test_low_resolution_is_torchs_nearest_exact_and_linear(size: int, factor: float) -> None:
    fewer = max(1, round(size * factor))
    # a centre halfway between two voxels: torch's float32 falls to either side, the operator is exact
    assume(all((2 * place + 1) * size % (2 * fewer) for place in range(fewer) if size != fewer))
    rows = torch.randn(4, 1, size)
    down = functional.interpolate(rows, size=fewer, mode="nearest-exact")
    wanted = functional.interpolate(down, size=size, mode="linear", align_corners=False)
    found = rows @ torch.from_numpy(low_resolution_operator(size, fewer).copy()).T
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_low_resolution_in_three_axes_and_flat() -> None:
    volumes = _volumes()
    found, flat = volumes.clone(), volumes.clone()
    lower_resolution(found, {0: 0.6, 2: 0.9}, keep_first=False)
    for row, factor in ((0, 0.6), (2, 0.9)):
        size = [round(edge * factor) for edge in volumes.shape[1:]]
        down = functional.interpolate(volumes[row][None, None], size=size, mode="nearest-exact")
        wanted = functional.interpolate(down, size=volumes.shape[1:], mode="trilinear", align_corners=False)[0, 0]
        torch.testing.assert_close(found[row], wanted)
    lower_resolution(flat, {0: 0.6}, keep_first=True)
    alone = volumes[0, 2][None].clone()
    lower_resolution(alone, {0: 0.6}, keep_first=False)
    torch.testing.assert_close(flat[0, 2], alone[0])


def test_brightness_multiplies() -> None:
    volumes = _volumes()
    found = volumes.clone()
    brighten(found, {2: 1.2})
    torch.testing.assert_close(found[2], volumes[2] * 1.2)
    assert torch.equal(found[:2], volumes[:2])


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_contrast_stretches_about_the_mean_within_the_range(factor: float) -> None:
    volumes = _volumes()
    found = volumes.clone()
    change_contrast(found, {1: factor})
    volume = volumes[1]
    wanted = ((volume - volume.mean()) * factor + volume.mean()).clamp(float(volume.min()), float(volume.max()))
    torch.testing.assert_close(found[1], wanted)


@pytest.mark.parametrize("negated", [True, False])
@pytest.mark.parametrize("gamma", [0.7, 1.4])
def test_gamma_keeps_mean_and_deviation(negated: bool, gamma: float) -> None:
    volumes = _volumes()
    found = volumes.clone()
    change_gamma(found, {0: gamma}, negated=negated)
    volume = -volumes[0] if negated else volumes[0]
    extent = volume.max() - volume.min()
    changed = ((volume - volume.min()) / extent) ** gamma * extent + volume.min()
    wanted = (changed - changed.mean()) / changed.std() * volume.std() + volume.mean()
    torch.testing.assert_close(found[0], -wanted if negated else wanted, atol=1e-4, rtol=1e-4)
    assert torch.equal(found[1:], volumes[1:])


def test_constant_volumes_stay_finite() -> None:
    volumes = torch.full((1, 4, 4, 4), 3.0)
    change_gamma(volumes, {0: 0.8}, negated=False)
    change_gamma(volumes, {0: 0.8}, negated=True)
    change_contrast(volumes, {0: 1.2})
    torch.testing.assert_close(volumes, torch.full((1, 4, 4, 4), 3.0))


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6)])
def test_operators_apply_along_their_axes(shape: tuple[int, ...]) -> None:
    volumes = torch.randn(2, *shape)
    operators = [torch.randn(2, size + 1, size) for size in shape]
    letters = "xyz"[: len(shape)]
    wanted = volumes
    for axis, operator in enumerate(operators):
        letter = letters[axis]
        wanted = torch.einsum(f"b{letters},bw{letter}->b{letters.replace(letter, 'w')}", wanted, operator)
    torch.testing.assert_close(apply_along_axes(volumes, operators), wanted)
    assert torch.equal(apply_along_axes(volumes, [None] * len(shape)), volumes)
