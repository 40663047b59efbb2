"""The compute device: which one, how much memory it has, and which precision it gains from."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg import machine
from autoseg.errors import UsageError
from autoseg.networks.catalog import half_on_cpu

#: Memory of an accelerator that training leaves alone: for the driver's own needs, libraries and the screen.
MARGIN_BYTES = 2**30

#: Share of Apple's recommended memory that training takes at most: the rest of the system lives there too.
APPLE_SHARE = 0.9

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises UsageError where the named device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}", remedy="Use auto, cpu, cuda, cuda:1 or mps.") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise UsageError(f"there is no device {name!r} here", remedy="Leave --device out to use what there is.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("there is no MPS device here", remedy="Leave --device out to use what there is.")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device {name!r} is not supported", remedy="Use auto, cpu, cuda or mps.")
    return device


def memory_gb(device: torch.device) -> int:
    """Total memory of the device in whole GB, rounded down: it does not change from one moment to the next."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory / 2**30)
    return int(machine.total_memory() / 2**30)


def memory_limit(device: torch.device) -> int:
    """Bytes of the device that a training step may take."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory) - MARGIN_BYTES
    if device.type == "mps":
        return int(APPLE_SHARE * torch.mps.recommended_max_memory())
    return machine.usable_memory()


def free_memory(device: torch.device) -> int:
    """Bytes of the device that nobody uses now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return machine.free_memory()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def sent(values: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """The values on the device. A GPU fetches them when it comes to it: the host does not wait."""
    tensor = torch.as_tensor(values)
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def fetched(values: Tensor) -> list[float]:
    """Numbers (n,) of a device. Meanwhile other threads may hand over work, which a plain copy from a GPU holds up."""
    if values.device.type != "cuda":
        return [float(value) for value in values.tolist()]
    here = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    here.copy_(values, non_blocking=True)
    done = torch.cuda.current_stream(values.device).record_event()
    done.synchronize()
    return [float(value) for value in here.tolist()]


def release_memory(device: torch.device) -> None:
    """Give memory that is kept in reserve back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def use_threads(count: int | None) -> None:
    """Compute with so many threads on the CPU; None leaves the library's own number, one per core.

    The library sees to which cores a process is bound, but not a container's quota of processor time: more threads
    than that pays for would stand still together for most of the time.
    """
    if count is None and machine.under_quota():
        count = min(machine.available_cores(), torch.get_num_threads())
    if count is not None:
        torch.set_num_threads(count)


def describe(device: torch.device) -> str:
    """One line for plans and receipts."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {memory_gb(device)} GB"
    return f"{device.type}, {machine.available_cores()} cores, {memory_gb(device)} GB"


def best_precision(device: torch.device) -> Precision:
    """The fastest precision that the device computes in hardware.

    bfloat16 on a CPU pays only with AMX or AVX-512 BF16 instructions: without them oneDNN emulates it and a training
    step takes 1.7 times as long as in float32 (measured on an Ice Lake server).
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    if device.type == "cpu" and _cpu_has_bfloat16():
        return "bfloat16"
    return "float32"


def _cpu_has_bfloat16() -> bool:
    return any(
        bool(getattr(torch.cpu, probe, lambda: False)())
        for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    )


def choose_precision(name: str, device: torch.device, networks: Iterable[str] = ()) -> Precision:
    """`auto` gives the best precision of the device for these networks; a name is taken at its word.

    Raises UsageError for a name that is none.
    """
    if name == "auto":
        if device.type == "cpu" and not all(half_on_cpu(network) for network in networks):
            return "float32"
        return best_precision(device)
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}", remedy=f"Use auto, {', '.join(PRECISIONS)}.")
    return name  # type: ignore[return-value]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Mixed precision for the `with` block; nothing for float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=PRECISIONS[precision])
