"""How much memory of a device a piece of work takes at its peak."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch

#: Seconds between two looks at the memory in use, where the system does not remember the peak.
LOOK_EVERY = 0.01


@contextmanager
def memory_growth(device: torch.device) -> Iterator[Callable[[], int]]:
    """Gives a function that tells by how many bytes the device's memory in use has grown at most in this block.

    On a CPU it is the resident memory of this process. What the process had taken and freed before is used again and
    does not show, so it should be a fresh one.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_reserved(device)
        yield lambda: torch.cuda.max_memory_reserved(device) - before
    elif device.type == "mps":
        # Apple's allocator keeps what it got: what it holds at the end is the peak
        before = torch.mps.driver_allocated_memory()
        yield lambda: torch.mps.driver_allocated_memory() - before
    else:
        with _watched_resident_memory() as watched:
            before, peak_before = int(psutil.Process().memory_info().rss), remembered_peak()

            def growth() -> int:
                # a peak from before this block tells nothing of it
                peak = remembered_peak()
                # between two looks at it the process may have given memory back
                return max(before, watched(), peak if peak > peak_before else 0) - before

            yield growth


def remembered_peak() -> int:
    """The largest resident memory of this process so far, in bytes, as the system remembers it; 0 if it does not."""
    usage = psutil.Process().memory_info()
    if hasattr(usage, "peak_wset"):  # Windows
        return int(usage.peak_wset)
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


@contextmanager
def _watched_resident_memory() -> Iterator[Callable[[], int]]:
    """Gives a function that tells the largest resident memory that a thread has seen since."""
    process, ended = psutil.Process(), threading.Event()
    largest = [int(process.memory_info().rss)]

    def look() -> None:
        while not ended.wait(LOOK_EVERY):
            largest[0] = max(largest[0], int(process.memory_info().rss))

    thread = threading.Thread(target=look, daemon=True, name="memory")
    thread.start()
    try:
        yield lambda: largest[0]
    finally:
        ended.set()
        thread.join()
