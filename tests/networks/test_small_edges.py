"""Half precision on a CPU where features have next to no extent: in float32, whatever autocast says."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from autoseg.networks.blocks import SOUND_EDGE, ConvolutionUnit, channels_last

#: glibc's `mallopt` parameter by which memory is filled when it is given out and when it is given back.
M_PERTURB = -6


class _Convolutions(TorchDispatchMode):
    """Notes the precision of every convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "convolution" in str(func):
            self.seen.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((SOUND_EDGE, 8, 8), torch.bfloat16),
        ((8, 8, SOUND_EDGE - 1), torch.float32),
        ((1, 8, 8), torch.float32),
        ((16, 2), torch.float32),
        ((16, 16), torch.bfloat16),
    ],
)
def test_short_edges_are_convolved_in_float32(size: tuple[int, ...], expected: torch.dtype) -> None:
    unit = ConvolutionUnit(len(size), 4, 8, (3,) * len(size))
    with _Convolutions() as convolutions, torch.autocast("cpu", dtype=torch.bfloat16):
        features = unit(torch.randn(2, 4, *size))
        features.float().sum().backward()
    assert features.dtype == torch.bfloat16
    assert set(convolutions.seen) == {expected}


@contextmanager
def _memory_with_garbage() -> Iterator[None]:
    library = ctypes.CDLL(None)
    library.mallopt(M_PERTURB, 1)  # every byte is 0xFE: -1.7e38 in bfloat16
    try:
        yield
    finally:
        library.mallopt(M_PERTURB, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc fills memory on request")
@pytest.mark.parametrize("size", [(2, 2, 2), (1, 1, 1), (2, 4, 4), (4, 4, 2), (3, 1, 4), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_do_not_depend_on_what_memory_held(size: tuple[int, ...], stride: int) -> None:
    torch.manual_seed(0)
    unit = ConvolutionUnit(len(size), 64, 64, (3,) * len(size), (stride,) * len(size))
    image = torch.randn(2, 64, *size)
    with _memory_with_garbage(), torch.autocast("cpu", dtype=torch.bfloat16):
        unit(channels_last(image)).float().square().sum().backward()
    gradient = unit.convolution.weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e4
