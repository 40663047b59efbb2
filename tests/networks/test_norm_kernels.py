"""The GPU's kernels of instance norm: on a GPU, and by Triton's interpreter where Triton is installed without one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from autoseg.networks import normalization
from autoseg.networks.normalization import (
    EPSILON,
    SLOPE,
    InstanceNorm,
    gpu_kernels,
    lays_out_channels_last,
    why_norms_are_slow,
)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

SHAPES = [(2, 3, 4, 5, 6), (9, 32, 40, 56, 40), (3, 80, 7, 9, 11), (2, 320, 4, 4, 4), (5, 33, 65, 129), (2, 1, 8, 8)]

#: Run with TRITON_INTERPRET=1: compares with torch in float64, and prints the largest relative difference.
INTERPRETED = """
import torch
from torch.nn import functional
from autoseg.networks import norm_kernels as kernels

torch.manual_seed(0)
worst = 0.0
for shape in ((2, 3, 4, 5, 6), (1, 32, 8, 8, 8), (3, 80, 3, 4, 5), (2, 5, 7, 9), (2, 1, 6, 6)):
    for slope in (0.01, 1.0):
        x = (torch.randn(shape) * 2 + 30).double().requires_grad_()
        weight, bias = (torch.randn(shape[1]).double().requires_grad_() for _ in range(2))
        wanted = functional.instance_norm(x, weight=weight, bias=bias, eps=1e-5)
        wanted = functional.leaky_relu(wanted, slope)
        towards = torch.randn(shape).double()
        slopes = torch.autograd.grad(wanted, (x, weight, bias), towards)
        layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
        laid = [tensor.detach().float().contiguous(memory_format=layout) for tensor in (x, towards)]
        parameters = [tensor.detach().float() for tensor in (weight, bias)]
        found, mean, inverse = kernels.normalized(laid[0], *parameters, 1e-5, slope)
        found_slopes = kernels.gradients(laid[1], laid[0], *parameters, mean, inverse, slope)
        for one, other in zip((found, *found_slopes), (wanted, *slopes), strict=True):
            worst = max(worst, float((one - other.detach()).norm() / other.detach().norm()))
print(worst)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_interpreted_kernels_equal_torch() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    outcome = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True, check=False
    )
    if "only 0-dimensional arrays" in outcome.stderr:
        pytest.skip("Triton's interpreter does not work with this version of numpy")
    assert outcome.returncode == 0, outcome.stderr
    assert float(outcome.stdout) < 2e-6


@needs_cuda
@pytest.mark.parametrize("features", [1, 5])
def test_on_a_gpu_gradients_may_be_parts_or_one_number(features: int) -> None:
    torch.manual_seed(0)
    norm = InstanceNorm(features).cuda()
    x = torch.randn(2, features, 4, 5, 6, device="cuda", requires_grad=True)
    exact = functional.leaky_relu(functional.instance_norm(x.double(), eps=EPSILON), SLOPE)
    wide = torch.randn(2, features + 3, 4, 5, 6, device="cuda").contiguous(memory_format=torch.channels_last_3d)
    for towards in (wide[:, 1 : features + 1], torch.ones((), device="cuda").expand(exact.shape)):
        (found,) = torch.autograd.grad(norm(x), x, towards)
        (wanted,) = torch.autograd.grad(exact, x, towards.double(), retain_graph=True)
        torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-5)


@needs_cuda
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 4e-3)])
def test_on_a_gpu_norm_and_gradients_equal_torch(
    shape: tuple[int, ...], activation: bool, dtype: torch.dtype, tolerance: float
) -> None:
    if gpu_kernels(torch.device("cuda")) is None:
        pytest.skip("Triton does not work here")
    torch.manual_seed(0)
    x = (torch.randn(shape, device="cuda") * 2 + 3).to(dtype)
    towards = torch.randn(shape, device="cuda").to(dtype)
    norm = InstanceNorm(shape[1], activation=activation).cuda()
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, norm.weight, norm.bias)]
    wanted = functional.instance_norm(exact[0], weight=exact[1], bias=exact[2], eps=EPSILON)
    wanted = functional.leaky_relu(wanted, SLOPE) if activation else wanted
    learning = x.clone().requires_grad_()
    found = norm(learning)
    assert found.dtype == dtype
    slopes = torch.autograd.grad(found, (learning, norm.weight, norm.bias), towards)
    exact_slopes = torch.autograd.grad(wanted, exact, towards.double())
    for one, other in zip((found, *slopes), (wanted, *exact_slopes), strict=True):
        assert float((one.double() - other).norm() / other.norm()) < tolerance


def test_without_a_gpu_there_are_no_kernels_and_a_cpu_lays_out_channels_last() -> None:
    assert gpu_kernels(torch.device("cpu")) is None
    assert lays_out_channels_last(torch.device("cpu"))
    assert gpu_kernels(torch.device("mps")) is None
    assert not lays_out_channels_last(torch.device("mps"))
    assert why_norms_are_slow(InstanceNorm(2), torch.device("cpu")) == ""


def test_kernels_that_do_not_work_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    normalization._tried_kernels.cache_clear()
    monkeypatch.setitem(sys.modules, "triton", None)  # importing it raises ImportError
    monkeypatch.delitem(sys.modules, "autoseg.networks.norm_kernels", raising=False)
    monkeypatch.delattr("autoseg.networks.norm_kernels", raising=False)
    monkeypatch.setattr(normalization, "_suited", lambda _: True)
    assert gpu_kernels(torch.device("cuda:7")) is None
    assert not lays_out_channels_last(torch.device("cuda:7"))
    assert "triton" in why_norms_are_slow(InstanceNorm(2), torch.device("cuda:7"))
    assert why_norms_are_slow(torch.nn.InstanceNorm3d(2), torch.device("cuda:7")) == ""
    normalization._tried_kernels.cache_clear()
