"""How the threads of the numeric libraries wait for one another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil

#: Cores that other programs keep busy, from which threads had better sleep.
BUSY_CORES = 0.3

#: Seconds for which the machine is looked at.
LOOK_SECONDS = 0.2


def suit_the_machine() -> bool:
    """Let threads sleep, not spin, while they wait for the others, if other programs are busy; whether they will.

    Has to be called before torch is loaded. OpenMP's threads spin at the end of every parallel loop: the quickest way
    as long as each has a core to itself. Where anything else runs on the machine, a spinning thread keeps the one it
    waits for off its core (docs/decisions/0050-waiting-threads.md). The variable is OpenMP's own, and stays as it is
    where the user has set it.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        return os.environ["OMP_WAIT_POLICY"].upper() == "PASSIVE"
    busy = psutil.cpu_percent(interval=LOOK_SECONDS) / 100 * (psutil.cpu_count() or 1)
    if busy < BUSY_CORES:
        return False
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return True


def cores_of_others() -> Callable[[], float]:
    """Begin to watch the machine; what is given back tells how many cores other programs kept busy since then."""
    process = psutil.Process()

    def looked() -> tuple[float, float]:
        times, own = psutil.cpu_times(), process.cpu_times()
        resting = times.idle + getattr(times, "iowait", 0.0)
        counted_twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # Linux: within user and nice
        return time.monotonic(), sum(times) - resting - counted_twice - own.user - own.system

    began, before = looked()

    def others() -> float:
        now, after = looked()
        return max(0.0, after - before) / max(now - began, 1e-9)

    return others
