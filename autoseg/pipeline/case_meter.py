"""How far a prediction is: by passes through the networks, since cases differ in size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from autoseg.pipeline.choosing_speed import CasePlan
from autoseg.progress import LiveView, duration


class CaseMeter:
    """Follows cases in their order, of which tiles are finished before the cases are.

    While one case is being written the next is in the networks, so tiles run ahead of cases. A case that is done counts
    as a whole, however many passes it needed: crops and regions of interest save some.
    """

    def __init__(self, view: LiveView, plans: Sequence[CasePlan], clock: Callable[[], float] = time.monotonic) -> None:
        self._view = view
        self._clock = clock
        self._began = clock()
        self._passes = [passes_of(plan) for plan in plans]
        tiles = sum(plan.forecast.tiles for plan in plans if plan.forecast is not None)
        self._passes_per_tile = sum(self._passes) / max(1, tiles)
        self._done = 0.0
        self._cases = 0

    def tiles(self, count: int) -> None:
        """Take in finished tiles."""
        # at most two cases can be ahead of the last one that is done: one in the networks, one being written
        limit = sum(self._passes[: self._cases + 2])
        self._done = min(max(limit, self._done), self._done + count * self._passes_per_tile)
        self._show()

    def case(self) -> None:
        """Take in a finished case, with or without a mask."""
        self._cases += 1
        self._done = max(self._done, float(sum(self._passes[: self._cases])))
        self._show()

    @property
    def left(self) -> float | None:
        """Seconds until all are done, at the speed so far; None while nothing is known."""
        if self._done <= 0:
            return None
        return (self._clock() - self._began) / self._done * (sum(self._passes) - self._done)

    def _show(self) -> None:
        left = self.left
        figures = {"cases": f"{self._cases} of {len(self._passes)}"}
        if left is not None:
            figures["left"] = f"about {duration(left)}"
        self._view.show(round(self._done), figures)


def passes_of(plan: CasePlan) -> int:
    """What a case counts for; one whose header cannot be read fails at once."""
    return 1 if plan.forecast is None else plan.forecast.passes
