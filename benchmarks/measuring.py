"""Seconds and memory of commands."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_EVERY = 0.05


@dataclass(frozen=True)
class Cost:
    seconds: float
    peak_bytes: int  # largest sum of Pss
    own_bytes: int = 0  # largest sum of anonymous and shared memory; 0 where the system does not tell

    def __add__(self, other: Cost) -> Cost:
        seconds = self.seconds + other.seconds
        return Cost(seconds, max(self.peak_bytes, other.peak_bytes), max(self.own_bytes, other.own_bytes))


def tree_pss(root: psutil.Process) -> int:
    """Pss of a process and all its descendants, in bytes; those that have just ended count nothing."""
    total = 0
    with suppress(psutil.Error):
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total


def tree_own(root: psutil.Process) -> int:
    """Anonymous and shared memory of a process and all its descendants, in bytes; shared pages count once."""
    total = 0
    with suppress(psutil.Error):
        for process in (root, *root.children(recursive=True)):
            with suppress(OSError, ValueError):
                for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                        total += int(line.split()[1]) * 1024
    return total


def measured(command: list[str], environment: dict[str, str] | None = None, *, sample_memory: bool) -> Cost:
    """Wall time of a command and, if asked for, the largest Pss of its process tree; its output is shown if it fails.

    Looking at Pss stops the processes that are looked at for a moment: seconds are to be taken from runs without.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        largest, ended = [0, 0], threading.Event()

        def sample() -> None:
            root = psutil.Process(process.pid)
            while not ended.is_set():
                largest[0] = max(largest[0], tree_pss(root))
                largest[1] = max(largest[1], tree_own(root))
                ended.wait(SAMPLE_EVERY)

        sampler = threading.Thread(target=sample, daemon=True)
        if sample_memory:
            sampler.start()
        code = process.wait()
        seconds = time.monotonic() - began
        ended.set()
        if sample_memory:
            sampler.join()
        if code != 0:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)}\nfailed:\n{log.read().decode(errors='replace')[-4000:]}")
    return Cost(seconds, *largest)
