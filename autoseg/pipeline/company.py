"""The processes of one training: started here (`--gpus N`), or by torchrun on one or several machines."""

from __future__ import annotations

import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import distributed as dist
from torch import multiprocessing
from torch.distributed.distributed_c10d import Store

from autoseg import devices
from autoseg.errors import AutosegError, TrainingError, UsageError
from autoseg.machine import available_cores
from autoseg.pipeline.beside import attend
from autoseg.torchrun import Place, launched_place
from autoseg.training.ranks import ALONE, Order, Ranks, connect
from autoseg.training.watch import GRACE, Watch

#: Seconds between two looks whether all processes that were started have come.
_LOOK_EVERY = 0.05

#: Seconds to wait for the news which process was lost, once computing with the others has failed.
_NEWS_SECONDS = 2.0

_REMEDY = "The last saved state is whole: the same command goes on from there."


@contextmanager
def company(gpus: int | None, device: str) -> Iterator[tuple[Ranks, str]]:
    """The processes that train together, this one among them, and the name of this one's device.

    `gpus` are processes to start on this machine, each with a GPU of its own (or all on the CPU, where `device` says
    so); None leaves it to torchrun, or gives a single process. In a process that is not the first (under torchrun) the
    block is to do nothing: its work is done before.

    Raises UsageError for what does not go together, TrainingError, which names the process, when one is lost.
    """
    place = launched_place()
    if place is not None and gpus is not None:
        raise UsageError("--gpus and torchrun exclude each other", remedy="torchrun says how many processes there are.")
    if place is None and (gpus is None or gpus == 1):
        yield ALONE, device
    elif place is None:
        with _started_here(Place(0, gpus or 1, 0, gpus or 1), device) as joined:
            yield joined
    else:
        chosen = device_of(place, device)
        if place.rank > 0:
            _ignore_signals()  # the first process decides what they mean
        with _connected(place, None, chosen) as ranks:
            if not ranks.is_first:
                attend(ranks, chosen)
            yield ranks, chosen


def device_of(place: Place, name: str) -> str:
    """The device of a process: its own GPU, or the CPU. Raises UsageError where there is none for it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind = devices.choose_device(name)
    if kind.type == "cpu":
        return "cpu"
    if kind.type != "cuda" or ":" in name:
        raise UsageError(
            f"several processes cannot share --device {name}", remedy="Use --device cuda (a GPU for each), or cpu."
        )
    if place.local_world > torch.cuda.device_count():
        raise UsageError(
            f"{place.local_world} processes need as many GPUs, and there are {torch.cuda.device_count()} here"
        )
    return f"cuda:{place.local_rank}"


# ---------------------------------------------------------------------------------------------- processes of ours


@contextmanager
def _started_here(place: Place, device: str) -> Iterator[tuple[Ranks, str]]:
    """Start the other processes on this machine, and end them with the block."""
    if device == "auto" and not torch.cuda.is_available():
        raise UsageError(
            "--gpus needs GPUs, and there are none here",
            remedy="Leave it out; or give --device cpu as well, for several processes on the CPU.",
        )
    chosen = device_of(place, device)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    others = multiprocessing.start_processes(  # type: ignore[attr-defined,no-untyped-call]
        _beside,
        (store.port, place.world, chosen, torch.get_num_threads()),
        place.world - 1,
        join=False,
        daemon=True,
        start_method="spawn",
    )
    try:
        _wait_until_all_have_come(store, others.processes)
        with _connected(place, store, chosen) as ranks:
            yield ranks, chosen
    finally:
        for process in others.processes:
            process.join(GRACE)
            if process.is_alive():
                process.kill()


def _wait_until_all_have_come(store: Store, processes: list[multiprocessing.Process]) -> None:
    waiting = set(range(1, len(processes) + 1))
    while waiting:
        for rank in sorted(waiting):
            if store.check([_arrival(rank)]):
                waiting.discard(rank)
            elif not processes[rank - 1].is_alive():
                code = processes[rank - 1].exitcode
                raise TrainingError(f"process {rank} of {len(processes) + 1} could not start (exit code {code})")
        time.sleep(_LOOK_EVERY)


def _arrival(rank: int) -> str:
    return f"arrived/{rank}"


def _beside(index: int, port: int, world: int, device: str, threads: int) -> None:
    """What a started process does, with no more threads than the first one may have."""
    torch.set_num_threads(threads)
    _ignore_signals()
    place = Place(index + 1, world, index + 1, world)
    own = f"cuda:{place.local_rank}" if device.startswith("cuda") else device
    store = dist.TCPStore("127.0.0.1", port, is_master=False)  # type: ignore[attr-defined]
    store.set(_arrival(place.rank), "")
    try:
        with _connected(place, store, own) as ranks:
            attend(ranks, own)
    except AutosegError:
        sys.exit(1)  # the first process was told, and tells the user


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


# ------------------------------------------------------------------------------------------------ the connection


@contextmanager
def _connected(place: Place, store: Store | None, device: str) -> Iterator[Ranks]:
    """The others, connected and watched until the block ends."""
    threads = torch.get_num_threads()
    with ExitStack() as at_the_end:
        torch.set_num_threads(max(1, min(threads, available_cores() // place.local_world)))
        at_the_end.callback(torch.set_num_threads, threads)
        # of weights with one channel, whose layout has two names
        at_the_end.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        ranks = connect(place, store, torch.device(device))
        at_the_end.callback(dist.destroy_process_group)
        watch = Watch(place)
        try:
            yield ranks
            if ranks.is_first:
                ranks.tell(Order.LEAVE)
        except BaseException as error:
            lost = watch.lost(_NEWS_SECONDS) if isinstance(error, RuntimeError) else ""
            if not lost and not isinstance(error, (AutosegError, KeyboardInterrupt)) and not ranks.is_first:
                traceback.print_exception(error)
            watch.leave(f"{type(error).__name__}: {error}".removesuffix(": "))
            if lost:
                raise TrainingError(lost, remedy=_REMEDY) from error
            raise
        watch.leave()
