"""The live view: figures that are redrawn on a terminal, lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from autoseg.console import RichProgress


def test_on_a_terminal_the_latest_figures_are_shown_and_no_lines() -> None:
    stream = io.StringIO()
    progress = RichProgress(Console(file=stream, force_terminal=True, width=100))
    with progress.live("Training [x]", 20) as view:
        view.show(3, {"patch Dice (a proxy)": "0.812", "left": "3 min 0 s"})
        view.line("epoch 3")
        progress.say("half the rate")
    for words in ("Training [x]", "3/20", "patch Dice (a proxy)", "0.812", "3 min 0 s", "half the rate"):
        assert words in stream.getvalue()
    assert "epoch 3" not in stream.getvalue()


def test_in_a_log_there_are_lines_and_now_and_then_what_is_left() -> None:
    stream, now = io.StringIO(), [0.0]
    progress = RichProgress(Console(file=stream, width=120), clock=lambda: now[0])
    with progress.live("Training", 20) as view:
        for done in range(1, 5):
            now[0] += 10.0
            view.show(done, {"loss": "0.1"})
        view.line("epoch 4  loss 0.1000")
    assert stream.getvalue().splitlines() == ["Training: 3 of 20, about 2 min 50 s left", "epoch 4  loss 0.1000"]


def test_a_resumed_stage_tells_what_is_left_by_what_this_start_does() -> None:
    stream, now = io.StringIO(), [0.0]
    progress = RichProgress(Console(file=stream, width=120), clock=lambda: now[0])
    with progress.live("Training", 100, before=50) as view:
        now[0] = 31.0
        view.show(50, {})
        now[0] = 62.0
        view.show(60, {})
    assert stream.getvalue().splitlines() == ["Training: 50 of 100", "Training: 60 of 100, about 4 min 8 s left"]


@pytest.mark.parametrize(("terminal", "words"), [(True, "60/80"), (False, "Training: 60 of 80, about 10 s left")])
def test_a_total_may_change_on_the_way(terminal: bool, words: str) -> None:
    stream, now = io.StringIO(), [0.0]
    console = Console(file=stream, force_terminal=terminal, width=100)
    with RichProgress(console, clock=lambda: now[0]).live("Training", 100) as view:
        now[0] = 31.0
        view.show(60, {}, 80)
    assert words in stream.getvalue()
