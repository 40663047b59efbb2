"""The processes that train together: how they sum numbers, and how the first one tells the others what to do.

The first process runs the training loop as if it were alone, takes every decision, and writes every file. Before each
step it tells the others its number and learning rate; they make the same step with their own share of the batch. Two
groups connect the processes: one for orders and words, in main memory (gloo), and one for totals and gradients, on the
training's device (NCCL on CUDA).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import Store

from autoseg.torchrun import Place

#: How long a process waits for an order: for ever, since the first one may score or draw; a dead one is noticed at once
#: (`training.watch`).
FOR_EVER = timedelta(days=365)


class Order(IntEnum):
    """What the first process tells the others to do."""

    TRAIN = 1  # begin with a training; its description comes with it
    STEP = 2  # make a step
    STATE = 3  # take over weights and optimizer state, which come with it
    END = 4  # the training has ended; wait for the next
    LEAVE = 5  # there is no next


@dataclass(frozen=True)
class Told:
    """An order as it was heard."""

    order: Order
    step: int
    rate: float  # the learning rate of the step
    content: bytes


@dataclass(frozen=True, eq=False)
class Ranks:
    """This process among those that train together; without groups it is alone."""

    place: Place = field(default_factory=Place)
    control: dist.ProcessGroup | None = None  # gloo
    compute: dist.ProcessGroup | None = None  # of the training's device

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.place.world > 1

    @property
    def is_first(self) -> bool:
        """Whether this process decides, writes and prints."""
        return self.place.rank == 0

    def summed(self, totals: Tensor) -> Tensor:
        """The sum of the totals of all processes, the same number to the last bit in each; `totals` is overwritten."""
        if self.several:
            dist.all_reduce(totals, group=self.compute)
        return totals

    def tell(self, order: Order, step: int = 0, rate: float = 0.0, content: bytes = b"") -> None:
        """Give an order to the other processes; nothing where there are none."""
        if not self.several:
            return
        dist.broadcast(torch.tensor([order, step, rate, len(content)], dtype=torch.float64), 0, group=self.control)
        if content:
            dist.broadcast(torch.frombuffer(bytearray(content), dtype=torch.uint8), 0, group=self.control)

    def hear(self) -> Told:
        """Wait for the first process's next order."""
        head = torch.zeros(4, dtype=torch.float64)
        dist.broadcast(head, 0, group=self.control)
        order, step, rate, size = head.tolist()
        content = torch.zeros(int(size), dtype=torch.uint8)
        if size:
            dist.broadcast(content, 0, group=self.control)
        return Told(Order(int(order)), int(step), rate, content.numpy().tobytes())


#: The only process of its training.
ALONE = Ranks()


def connect(place: Place, store: Store | None, device: torch.device) -> Ranks:
    """Join the others: waits until all processes have come. Without a store torchrun's variables name it."""
    if store is None:
        dist.init_process_group("gloo", timeout=FOR_EVER)
    else:
        dist.init_process_group("gloo", store=store, rank=place.rank, world_size=place.world, timeout=FOR_EVER)
    control = dist.group.WORLD
    if device.type != "cuda" or not dist.is_nccl_available():
        return Ranks(place, control, control)
    torch.cuda.set_device(device)
    # NCCL waits only while a step is computed: half an hour without progress is a fault
    return Ranks(place, control, dist.new_group(backend="nccl", timeout=timedelta(minutes=30)))
