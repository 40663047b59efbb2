"""What the other processes of a training do: the steps of the first one, each with its own share of the batch."""

from __future__ import annotations

from contextlib import ExitStack, closing

from autoseg.errors import TrainingError
from autoseg.training.learner import Learner
from autoseg.training.ranks import Order
from autoseg.training.setup import TrainingSetup
from autoseg.training.stream import BatchStream


def follow(setup: TrainingSetup) -> int:
    """Follow the first process until it says that the training has ended; gives the number of steps made."""
    learner = Learner(setup)
    batches: BatchStream | None = None
    made = 0
    with ExitStack() as open_streams:
        while True:
            told = setup.ranks.hear()
            if told.order is Order.END:
                return made
            if told.order is Order.STATE:
                learner.take_over(told.content)
            elif told.order is Order.STEP:
                if batches is None:
                    batches = learner.batches.stream(told.step)
                    open_streams.enter_context(closing(batches))
                batch = batches.next()
                if batch.step != told.step:  # the first process went back to an earlier state
                    batches.restart(told.step)
                    batch = batches.next()
                learner.step(batch, told.step, told.rate)
                made += 1
            else:
                raise TrainingError(f"the first process said {told.order.name} in the middle of a training")
