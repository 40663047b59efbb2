"""What scoring is expected to take of a budget."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from autoseg.errors import UsageError
from autoseg.pipeline import budget as budget_module
from autoseg.pipeline.budget import ENDING_SECONDS, Budget, limit_to_budget, middle
from autoseg.records import Case


def cases(count: int) -> list[Case]:
    return [Case(id=f"c{number}", images=(Path("x"),)) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "wanted", "names"), [(5, 1, "c2"), (5, 3, "c1 c2 c3"), (4, 2, "c1 c2"), (2, 9, "c0 c1"), (1, 1, "c0")]
)
def test_cases_of_middling_size(count: int, wanted: int, names: str) -> None:
    assert [case.id for case in middle(cases(count), wanted)] == names.split()


class Training:
    """What a budget needs of a training."""

    def __init__(self) -> None:
        self.setup = SimpleNamespace(configuration=SimpleNamespace(next_stage=None))
        self.state = SimpleNamespace(overhead_seconds=0.0)
        self.cool_down = None
        self.seconds = 0.0
        self.loop_seconds: float | None = None
        self.mirroring: bool | None = None

    @property
    def done(self) -> float:
        return self.seconds / (self.loop_seconds or 1.0)

    def limit(self, loop_seconds: float, _: float, mirroring: bool) -> None:
        self.loop_seconds, self.mirroring = loop_seconds, mirroring

    def change_limit(self, loop_seconds: float, mirroring: bool) -> None:
        self.loop_seconds, self.mirroring = loop_seconds, mirroring


class Lines:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def budgeted(monkeypatch: pytest.MonkeyPatch, *scoring: tuple[float, float]) -> tuple[Budget, Training, Lines]:
    """A training with 100 s, whose scoring is measured as told (without and with mirroring), in turn."""
    measured = iter(scoring)
    monkeypatch.setattr(budget_module, "scoring_seconds", lambda *_: next(measured))
    training, lines = Training(), Lines()
    return Budget(training, None, {}, None, cases(3), 100.0, lines), training, lines  # type: ignore[arg-type]


def test_scoring_that_seemed_to_take_long_is_measured_again_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    budget, training, lines = budgeted(monkeypatch, (50.0, 90.0), (4.0, 6.0))
    look_again = limit_to_budget(budget, began=time.monotonic())
    first = 100 - 50 - ENDING_SECONDS
    assert training.loop_seconds == pytest.approx(first, abs=1)
    assert training.mirroring is False
    training.seconds = 0.4 * first
    look_again()
    assert training.loop_seconds == pytest.approx(first, abs=1)
    training.seconds = 0.6 * first
    look_again()
    assert training.loop_seconds == pytest.approx(100 - 6 - ENDING_SECONDS, abs=1)
    assert training.mirroring is True
    training.seconds = 80.0
    look_again()  # once is enough: there is nothing further to measure
    assert lines.said[0].endswith("about 50 s to score 3 cases without mirroring")
    assert lines.said[1:] == [
        "Budget, as scoring was measured once more: 90 s to train, about 6 s to score 3 cases with mirroring"
    ]


@pytest.mark.parametrize("scoring", [(4.0, 9.0), (0.5, 0.5)])
def test_scoring_that_takes_little_is_measured_once(
    monkeypatch: pytest.MonkeyPatch, scoring: tuple[float, float]
) -> None:
    budget, training, lines = budgeted(monkeypatch, scoring)
    look_again = limit_to_budget(budget, began=time.monotonic())
    training.seconds = 80.0
    look_again()
    assert len(lines.said) == 1


def test_a_run_that_goes_on_in_its_second_half_does_not_measure_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    budget, training, lines = budgeted(monkeypatch, (40.0, 40.0))
    training.seconds = 50.0
    look_again = limit_to_budget(budget, began=time.monotonic())
    look_again()
    assert len(lines.said) == 1


def test_a_budget_that_scoring_takes_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    budget, _, _ = budgeted(monkeypatch, (97.0, 99.0))
    with pytest.raises(UsageError, match="a budget of 100 s leaves no time to train"):
        limit_to_budget(budget, began=time.monotonic())


def test_a_second_look_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    budget, training, lines = budgeted(monkeypatch, (50.0, 50.0))
    look_again = limit_to_budget(budget, began=time.monotonic())
    before = training.loop_seconds

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(budget_module, "scoring_seconds", fail)
    training.seconds = 30.0
    look_again()
    assert training.loop_seconds == before
    assert lines.said[1].startswith("Scoring could not be measured once more (RuntimeError: CUDA out of memory)")
