"""How much memory a case took at its peak, as it is told beside its mask."""

from __future__ import annotations

import threading

import torch

from autoseg.machine import own_memory

#: Seconds between two looks at this process's memory: what comes and goes between them is not seen.
LOOK_EVERY = 0.05


class MemoryWatch:
    """The largest memory in use since the last `take`: of this process, and of a GPU that it computes on."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._ended, self._lock = device, threading.Event(), threading.Lock()
        self._largest = own_memory()
        self._restart_device()
        self._thread = threading.Thread(target=self._look, daemon=True, name="autoseg-memory")
        self._thread.start()

    def take(self) -> dict[str, int]:
        """Bytes of "main" memory, and of the "device" where that has memory of its own; the next count begins."""
        now = own_memory()
        with self._lock:
            found, self._largest = {"main": max(self._largest, now)}, now
        if self._device.type == "cuda":
            found["device"] = int(torch.cuda.max_memory_allocated(self._device))
        self._restart_device()
        return found

    def close(self) -> None:
        """End the watch."""
        self._ended.set()
        self._thread.join()

    def _restart_device(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            now = own_memory()
            with self._lock:
                self._largest = max(self._largest, now)
