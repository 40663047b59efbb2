"""Commands in processes of their own, to be killed and limited: forked from one that has loaded everything.

Starting Python and loading torch takes seconds; a fork takes none.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from pathlib import Path

import psutil

from .builders import words
from .catalog import REPOSITORY

#: Seconds after which a command that should have ended counts as hanging.
PATIENCE = 240.0

#: Beginning of the line in which a child tells how much memory it took at most.
PEAK = "peak bytes: "

#: The first that a child says: from now on it is the command. And what it says when the command is at its end.
BEGUN = "The command begins."
ENDED = "The command ends with code"


#: What commands load, loaded once. Modules that Python finds by itself: this folder is not among its places there.
PRELOADED = (
    *("torch", "torch._dynamo", "nibabel", "scipy.ndimage", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *(f"autoseg.{name}" for name in ("cli", "options", "console", "tables")),
    *(f"autoseg.pipeline.{name}" for name in ("check", "plan", "prepare", "train", "predict", "evaluate")),
)


@dataclass(frozen=True)
class Limits:
    """What a child may use. Bytes of address space are counted from what it has when it begins."""

    further_bytes: int | None = None
    file_bytes: int | None = None
    cores: int | None = None


class Child:
    """A command that runs by itself in a folder; what it says goes to a file there."""

    def __init__(self, folder: Path, line: str, *more: object, limits: Limits = Limits()) -> None:
        context = multiprocessing.get_context("forkserver")
        _start_server()
        self.line = line
        self.log = folder / f".said-{time.monotonic_ns()}.txt"
        self.process = context.Process(target=_run, args=(words(line, *more), folder, self.log, limits))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    @property
    def said(self) -> str:
        """What it has said so far, with single spaces."""
        return " ".join(self.log.read_text(errors="replace").replace("|", " ").split()) if self.log.exists() else ""

    @property
    def peak_bytes(self) -> int:
        """The most memory that it had in use."""
        return int(self.said.rpartition(PEAK)[2].split()[0])

    def end(self, patience: float = PATIENCE) -> int:
        """Wait for its end; the exit code (minus the signal, where it was killed)."""
        self.process.join(patience)
        if self.process.exitcode is None:
            self.kill()
            raise AssertionError(f"{self.line}: not ended after {patience} s\n{self.said}")
        return self.process.exitcode

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):  # it has just ended
            if self.process.exitcode is None:
                os.kill(self.pid, number)

    def wait_for(self, happened: Callable[[], object], patience: float = PATIENCE) -> bool:
        """Wait until something has happened; False where the command ended before."""
        deadline = time.monotonic() + patience
        while not happened():
            if self.process.exitcode is not None:
                return False
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{self.line}: waited in vain\n{self.said}")
            time.sleep(0.0005)
        return True

    def descendants(self) -> list[psutil.Process]:
        """The processes that it has started."""
        return psutil.Process(self.pid).children(recursive=True)


@cache
def _start_server() -> None:
    """Start the process from which children are forked; it finds the program where the tests do."""
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *([before] if before else [])])
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _run(arguments: list[str], folder: Path, log: Path, limits: Limits) -> None:
    os.chdir(folder)
    with open(log, "w", buffering=1) as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
    import torch

    torch.set_num_threads(1)
    import resource

    from autoseg.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    _limit(limits)
    print(BEGUN, flush=True)
    code = main(arguments)
    print(ENDED, code)
    print(PEAK, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)
    sys.exit(code)


def _limit(limits: Limits) -> None:
    import resource

    if limits.further_bytes is not None:
        most = psutil.Process().memory_info().vms + limits.further_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if limits.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
    if limits.cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: limits.cores])
