"""What is the same for all tests of training."""

from __future__ import annotations

import pytest

from autoseg.training import loop


@pytest.fixture(autouse=True)
def _states_are_saved_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk is in that moment."""
    monkeypatch.setattr(loop, "CHEAP_SAVE", 60.0)
