"""The device to plan for, found without loading torch where there can be no accelerator."""

from __future__ import annotations

import ctypes.util
import platform

from autoseg.machine import available_cores, total_memory
from autoseg.planning.presets import DeviceBudget


def device_budget(name: str) -> DeviceBudget:
    """Kind, cores and memory of the named device (`auto`, `cpu`, `cuda`, `cuda:1`, `mps`).

    Loading torch takes seconds, and planning needs nothing else of it: on a machine without an NVIDIA driver and
    without Apple's GPU the answer is the CPU.
    """
    if name == "cpu" or (name == "auto" and not _accelerator_possible()):
        return DeviceBudget("cpu", available_cores(), int(total_memory() / 2**30))
    from autoseg import devices  # loads torch

    device = devices.choose_device(name)
    return DeviceBudget(device.type, available_cores(), devices.memory_gb(device))  # type: ignore[arg-type]


def _accelerator_possible() -> bool:
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    return ctypes.util.find_library("nvcuda" if platform.system() == "Windows" else "cuda") is not None
