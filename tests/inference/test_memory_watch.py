"""The memory that a case took at its peak."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from autoseg.inference.memory_watch import LOOK_EVERY, MemoryWatch

MANY = 300_000_000


@pytest.fixture
def watch() -> Iterator[MemoryWatch]:
    made = MemoryWatch(torch.device("cpu"))
    yield made
    made.close()


def test_memory_that_came_and_went_is_told_once(watch: MemoryWatch) -> None:
    before = watch.take()["main"]
    held = np.ones(MANY, np.uint8)
    time.sleep(20 * LOOK_EVERY)
    del held
    assert watch.take()["main"] > before + 0.8 * MANY
    assert watch.take()["main"] < before + 0.5 * MANY


def test_a_processor_has_no_memory_of_its_own(watch: MemoryWatch) -> None:
    assert set(watch.take()) == {"main"}


def test_a_closed_watch_leaves_no_thread() -> None:
    before = threading.active_count()
    MemoryWatch(torch.device("cpu")).close()
    assert threading.active_count() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine")
def test_the_memory_of_a_gpu_is_told_once() -> None:
    made = MemoryWatch(torch.device("cuda"))
    try:
        made.take()
        held = torch.ones(MANY, dtype=torch.uint8, device="cuda")
        del held
        first, second = made.take()["device"], made.take()["device"]
        assert first >= second + MANY
    finally:
        made.close()
