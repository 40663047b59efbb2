"""Functions for processes that import them by name."""

from __future__ import annotations

import os
import time
from pathlib import Path

from autoseg.errors import ReadError


def square(number: int) -> int:
    return number * number


def fail_on_three(number: int) -> int:
    if number == 3:
        raise ReadError("is truncated", where="three.nii.gz", remedy="Copy it again.")
    if number == 5:
        raise ValueError("our fault")
    return number


def die_on_two(number: int) -> int:
    if number == 2:
        os._exit(137)
    return number


def die_once(item: tuple[int, str]) -> int:
    number, flag = item
    if number == 1 and not Path(flag).exists():
        Path(flag).touch()
        os._exit(9)
    return number


def sleep_long(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fill_memory(megabytes: int) -> int:
    block = bytearray(megabytes << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    time.sleep(30)
    return len(block)
