"""The clock of a training that has a time budget."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from training_builders import tiny_training


def test_a_limit_that_is_changed_leaves_time_to_come_to_an_end(tmp_path: Path) -> None:
    training = tiny_training(tmp_path)
    training.limit(100.0, 3.0, True)
    training.change_limit(200.0, False)
    assert training.loop_seconds == 200.0
    assert not training.state.score_with_mirroring
    training._clock_zero = time.monotonic() - 90.0
    training.change_limit(50.0, False)
    assert training.loop_seconds == pytest.approx(1.25 * 90.0, abs=0.5)
