"""How the threads of the numeric libraries wait for one another."""

from __future__ import annotations

import os


def sleep_while_waiting() -> None:
    """Let threads sleep, not spin, while they wait for the others; has to be called before torch is loaded.

    OpenMP's threads spin at the end of every parallel loop, which is quick as long as each has a core to itself. Where
    anything else runs on the machine, a spinning thread keeps the one it waits for off its core: a training step took
    3.6 s instead of 0.5 s beside other work (docs/decisions/0050-threads-sleep.md). The variable is OpenMP's own, and
    stays as it is where the user has set it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
