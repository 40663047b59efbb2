"""What torchrun says of this process: its place among those that train together.

torchrun, and the launchers of clusters that follow it, speak through environment variables; they are read here alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from autoseg.errors import UsageError

#: Variables that a launcher of several processes sets for each of them.
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Place:
    """The place of a process among those that train together."""

    rank: int = 0  # 0 is the first process: it decides, writes and prints
    world: int = 1  # processes in all
    local_rank: int = 0  # on this machine
    local_world: int = 1

    def share(self, samples: int) -> range:
        """The places of the global batch that this process computes: even shares, or such as differ by one."""
        return range(self.rank * samples // self.world, (self.rank + 1) * samples // self.world)


def launched_place() -> Place | None:
    """The place that a launcher gave this process; None where it was started by itself, or alone.

    Raises UsageError where a launcher says only half of it.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or "RANK" not in os.environ:
        return None
    numbers = []
    for name in _VARIABLES:
        words = os.environ.get(name, "")
        if not words.isdecimal():
            raise UsageError(
                f"the variable {name} that tells a process its place is {words!r}",
                remedy="Start the processes with torchrun, which sets RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, "
                "MASTER_ADDR and MASTER_PORT; to train with one process unset them.",
            )
        numbers.append(int(words))
    return Place(*numbers)
