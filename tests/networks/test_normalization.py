from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from autoseg.networks.normalization import EPSILON, SLOPE, InstanceNorm

SHAPES = [(2, 3, 5, 6, 7), (1, 36, 4, 4, 4), (3, 5, 9, 8), (2, 34, 3, 5), (2, 4, 1, 1, 2)]


def _standard(x: torch.Tensor, norm: InstanceNorm) -> torch.Tensor:
    result = functional.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=EPSILON)
    return functional.leaky_relu(result, SLOPE) if norm.activation else result


def _norm(channels: int, activation: bool, dtype: torch.dtype = torch.float32) -> InstanceNorm:
    norm = InstanceNorm(channels, activation=activation).to(dtype)
    with torch.no_grad():
        norm.weight.uniform_(-1, 2)
        norm.weight[0] = 0.0  # as residual blocks begin
        norm.bias.normal_()
    return norm


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", [True, False])
@pytest.mark.parametrize("layout", ["plain", "channels last"])
def test_equals_torch_forward_and_backward(shape: tuple[int, ...], activation: bool, layout: str) -> None:
    torch.manual_seed(0)
    norm = _norm(shape[1], activation, torch.float64)
    x = torch.randn(shape, dtype=torch.float64) * 3 + 5
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    towards = torch.randn(shape, dtype=torch.float64)
    wanted_x, found_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    parameters = (norm.weight, norm.bias)
    wanted, found = _standard(wanted_x, norm), norm(found_x)
    torch.testing.assert_close(found, wanted)
    for one, other in zip(
        torch.autograd.grad(found, (found_x, *parameters), towards),
        torch.autograd.grad(wanted, (wanted_x, *parameters), towards),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("channels", [2, 33])
def test_gradients_are_those_of_finite_differences(channels: int) -> None:
    torch.manual_seed(1)
    norm = _norm(channels, True, torch.float64)
    x = torch.randn(2, channels, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: norm(x * 1.0), (x,))


@pytest.mark.parametrize("offset", [0, 4, 20, 1000])
def test_float32_statistics_are_exact_in_a_large_volume(offset: int) -> None:
    torch.manual_seed(2)
    norm = InstanceNorm(4)
    x = (torch.randn(1, 4, 16, 64, 64) + offset).contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        found = norm(x)
        wanted = _standard(x.double(), norm.double())
    assert float((found.double() - wanted).abs().max()) < 4e-5 + 1e-6 * offset


def test_constant_channels_become_the_shift() -> None:
    norm = _norm(3, False)
    found = norm(torch.full((2, 3, 4, 4, 4), 7.0))
    torch.testing.assert_close(found, norm.bias.detach().view(1, 3, 1, 1, 1).expand_as(found), atol=1e-3, rtol=0)


def test_half_precision_counts_in_float32() -> None:
    torch.manual_seed(3)
    norm = _norm(6, True)
    x = (torch.randn(2, 6, 8, 8, 8) + 3).bfloat16()
    full, half = x.float().requires_grad_(), x.clone().requires_grad_()
    wanted, found = _standard(full, norm), norm(half)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.03, rtol=0.02)
    towards = torch.randn_like(wanted)
    grads = torch.autograd.grad(wanted, (full, norm.weight), towards)
    half_grads = torch.autograd.grad(found, (half, norm.weight), towards.bfloat16())
    assert half_grads[0].dtype == torch.bfloat16
    assert half_grads[1].dtype == torch.float32
    for one, other in zip(half_grads, grads, strict=True):
        assert float((one.float() - other).norm() / other.norm()) < 0.02
