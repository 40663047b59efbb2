"""Small network descriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from autoseg.records import NetworkSpec


def _spec(
    network: str = "unet",
    dimensions: int = 3,
    features: tuple[int, ...] = (4, 8, 12),
    blocks: tuple[int, ...] | None = None,
    decoder_blocks: int = 2,
    **changes: object,
) -> NetworkSpec:
    stages = len(features)
    entries: dict[str, object] = {
        "network": network,
        "dimensions": dimensions,
        "channels": 1,
        "heads": 3,
        "strides": ((1,) * dimensions,) + ((2,) * dimensions,) * (stages - 1),
        "kernel_sizes": ((3,) * dimensions,) * stages,
        "features_per_stage": features,
        "blocks_per_stage": blocks or (2,) * stages,
        "blocks_per_stage_decoder": (decoder_blocks,) * (stages - 1),
    }
    return NetworkSpec.model_validate(entries | changes)


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., NetworkSpec]:
    """Builds a NetworkSpec: strides 2 and kernels 3 unless told otherwise."""
    return _spec


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Arrays here are too small to share: several threads only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
