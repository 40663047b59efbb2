"""Noticing at once that another process of a training has ended, whatever this one is doing.

A process that is killed takes its connections with it: whoever waits on one of them is told by the system within
milliseconds. So the first process has a thread waiting on each of the others, and each of them has one waiting on the
first. Nothing is ever sent over these connections but a last word.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

import torch
from torch import distributed as dist

from autoseg.torchrun import Place
from autoseg.training.ranks import FOR_EVER

#: Bytes of a last word.
_WORDS = 1000

#: What a process says that leaves in good order.
_GOODBYE = "goodbye"

#: Seconds that a process has to end by itself after another one was lost. Computing may hang for ever in NCCL then.
GRACE = 5.0


class Watch:
    """Watches over the other processes from a group of its own; all processes have to make one at the same time."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._group = dist.new_group(backend="gloo", timeout=FOR_EVER)
        self._changing = threading.Lock()
        self._left = threading.Event()
        self._lost = ""
        self._known = threading.Event()
        self._peers = range(1, place.world) if place.rank == 0 else range(1)
        self._threads = [
            threading.Thread(target=self._listen, args=(peer,), daemon=True, name=f"watch {peer}")
            for peer in self._peers
        ]
        for thread in self._threads:
            thread.start()

    def lost(self, seconds: float = 0.0) -> str:
        """Which process was lost, in words, waiting so long for the news; empty where none was."""
        self._known.wait(seconds)
        return self._lost

    def leave(self, why: str = "") -> None:
        """Leave; with a reason where it is before the time."""
        with self._changing:
            self._left.set()
        self._say(self._sentence(self._place.rank, why) if why else _GOODBYE)
        for thread in self._threads:  # until the others have said goodbye as well, or have ended
            thread.join(GRACE)

    def _note(self, sentence: str) -> None:
        """Take notice of a loss and tell the others; this process then has GRACE seconds to end by itself."""
        with self._changing:
            if self._left.is_set() or self._lost:
                return
            self._lost = sentence
        self._known.set()
        if self._place.rank == 0:
            self._say(self._lost)
        if not self._left.wait(GRACE):
            sys.stderr.write(f"Error: {self._lost}\n")
            sys.stderr.flush()
            os._exit(1)

    def _listen(self, peer: int) -> None:
        heard = torch.zeros(_WORDS, dtype=torch.uint8)
        try:
            dist.recv(heard, src=peer, group=self._group)
        except RuntimeError:
            self._note(self._sentence(peer, "it was killed, or its machine or the network failed"))
            return
        words = heard.numpy().tobytes().rstrip(b"\0").decode("utf-8", "replace")
        if words == _GOODBYE or self._left.is_set():
            return
        if peer == 0:
            os._exit(1)  # the first process has told the user why; this one has nothing to save, and may wait in vain
        self._note(words)

    def _sentence(self, rank: int, why: str) -> str:
        return f"process {rank} of {self._place.world} has ended: {why}"

    def _say(self, words: str) -> None:
        sent = torch.zeros(_WORDS, dtype=torch.uint8)
        encoded = words.encode("utf-8")[:_WORDS]
        sent[: len(encoded)] = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
        for peer in self._peers:
            with suppress(RuntimeError):  # it may be gone
                dist.send(sent, dst=peer, group=self._group)
