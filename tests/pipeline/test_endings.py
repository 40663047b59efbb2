"""`train` that is asked to end, to stop, to be longer; what is left, and what the same command does then."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from volume_builders import quicken

from autoseg import interrupts
from autoseg.errors import WorkspaceError
from autoseg.files import read_record
from autoseg.interrupts import Terminated
from autoseg.model_file import read_header
from autoseg.pipeline import epochs as epochs_module
from autoseg.pipeline.epochs import Curves, Lines, epoch_line
from autoseg.pipeline.evaluate import ScoreTask, score_files
from autoseg.pipeline.prepare import prepare_together
from autoseg.pipeline.reports import TrainReport
from autoseg.pipeline.status import status
from autoseg.pipeline.train import train
from autoseg.progress import SilentProgress
from autoseg.records import EpochRecord, Receipt, TrainSettings
from autoseg.training.checkpoint import read_state
from autoseg.training.loop import Training
from autoseg.workspace import Run, Workspace


class Told(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(f"warning: {text}")


@pytest.fixture
def work(planned: Workspace) -> Workspace:
    """A plan with twelve steps an epoch."""
    quicken(planned, 12)
    return planned


def run(work: Workspace, told: Told | None = None, **options: object) -> TrainReport:
    return train(work, device="cpu", workers=0, progress=told or Told(), **options)  # type: ignore[arg-type]


def before_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Do something once, when so many steps were made."""
    make = Training._step
    done = False

    def acting(self: Training, batches: object) -> None:
        nonlocal done
        if self.state.step == step and not done:
            done = True
            act()
        make(self, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(Training, "_step", acting)
    monkeypatch.setattr(interrupts, "LOOK_EVERY", -1.0)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.model)


def lines(run: Run) -> list[dict[str, object]]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


@pytest.mark.parametrize("asked_by", ["Ctrl-C", "STOP in the run's folder", "STOP in the work folder"])
def test_a_run_that_is_asked_to_end_leaves_a_scored_model_and_goes_on_later(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, asked_by: str
) -> None:
    entry = work.run("default", "3d_fullres", "0")
    acts: dict[str, Callable[[], None]] = {
        "Ctrl-C": lambda: signal.raise_signal(signal.SIGINT),
        "STOP in the run's folder": lambda: entry.stop.touch(),
        "STOP in the work folder": lambda: work.stop.touch(),
    }
    with monkeypatch.context() as patch:
        before_step(patch, 20, acts[asked_by])
        report = run(work, epochs=4)
    assert "ended early at step 23 by" in report.ended_early
    assert report.summary is not None
    assert read_header(report.run.model).ended_early == report.ended_early
    assert read_record(report.run.receipt, Receipt).course["ended_early"] == report.ended_early
    assert [line["phase"] for line in lines(entry)] == ["train", "cool-down"]
    assert not entry.stop.exists()
    assert ("run default/3d_fullres/fold_0", f"trained and scored, {report.ended_early}") in status(work).lines


def test_a_run_that_was_ended_goes_on_as_if_it_had_not_been(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = work.run("default", "3d_fullres", "0")
    with monkeypatch.context() as patch:
        before_step(patch, 20, work.stop.touch)
        first = run(work, epochs=3)
    told = Told()
    again = run(work, told)
    assert (again.ended_early, again.epochs, again.steps) == ("", 3, 36)
    assert read_header(again.run.model).ended_early == ""
    assert again.summary != first.summary
    assert any("STOP" in line and "is ignored" in line for line in told.lines)
    ended = weights(entry)
    entry.folder.rename(entry.folder.with_name("fold_ended"))
    straight = weights(run(work, epochs=3).run)
    assert all(torch.equal(straight[name], ended[name]) for name in straight)


def test_a_run_that_has_hardly_begun_is_stopped_not_ended(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before_step(monkeypatch, 3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(work, epochs=4)
    entry = work.run("default", "3d_fullres", "0")
    assert not entry.model.exists()
    assert read_state(entry.state_tensors).step == 4


def test_a_second_interrupt_stops_with_the_state_from_before(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before_step(monkeypatch, 30, twice)
    with pytest.raises(KeyboardInterrupt):
        run(work, epochs=4)
    entry = work.run("default", "3d_fullres", "0")
    assert not entry.model.exists()
    assert read_state(entry.state_tensors).step == 31


def test_an_interrupt_while_cases_are_prepared_stops_after_the_case(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    def interrupted(tasks: object) -> None:
        prepare_together(tasks)  # type: ignore[arg-type]
        made.append(tasks)
        if len(made) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("autoseg.pipeline.prepare.prepare_together", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(work, epochs=1)
    assert len(made) == 2
    assert run(work, epochs=1).summary is not None
    assert len(made) == 6  # what was prepared is not prepared again


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_an_interrupt_while_cases_are_scored_stops_and_nothing_is_trained_again(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, raised: type[BaseException]
) -> None:
    scored: list[object] = []

    def interrupted(task: ScoreTask, threads: int = 1) -> object:
        scored.append(task)
        if len(scored) == 1:
            signal.raise_signal(number)
        return score_files(task, threads)

    monkeypatch.setattr("autoseg.pipeline.evaluate.score_files", interrupted)
    with pytest.raises(raised):
        run(work, epochs=1)
    entry = work.run("default", "3d_fullres", "0")
    assert len(scored) == 1
    assert not entry.summary.exists()
    before = entry.model.read_bytes()
    assert run(work).summary is not None
    assert entry.model.read_bytes() == before


def test_a_model_whose_state_was_removed_stays_as_it_is(work: Workspace) -> None:
    first = run(work, epochs=1)
    before = first.run.model.read_bytes()
    first.run.state_tensors.unlink()
    first.run.kept_state.unlink()
    told = Told()
    assert run(work, told).summary == first.summary
    assert any(line.startswith("warning: ") and "is gone" in line for line in told.lines)
    with pytest.raises(WorkspaceError, match="the state is gone from which it could go on"):
        run(work, epochs=2)
    assert first.run.model.read_bytes() == before
    assert read_record(first.run.settings, TrainSettings).epochs == 1


def test_a_finished_run_is_made_longer_from_before_its_final_decay(work: Workspace) -> None:
    first = run(work, epochs=2)
    before = weights(first.run)
    told = Told()
    longer = run(work, told, epochs=5)
    assert (longer.epochs, longer.steps) == (5, 60)
    assert any("Made longer: going on from step 21" in line and "rate changes" in line for line in told.lines)
    after = weights(longer.run)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert longer.summary is not None
    assert longer.summary != first.summary
    assert [line["epoch"] for line in lines(longer.run)] == list(range(5))
    rates = [line["learning_rate"] for line in lines(longer.run)]
    longer.run.folder.rename(longer.run.folder.with_name("fold_longer"))
    assert rates[1:] == [line["learning_rate"] for line in lines(run(work, epochs=5).run)][1:]


def test_patience_ends_a_run_and_more_of_it_goes_on(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "autoseg.training.loop.watched",
        lambda state, *_a, **_k: state.model_copy(update={"best": 1.0, "best_epoch": 1}),
    )
    report = run(work, epochs=12, patience=2)
    assert "by --patience 2" in report.ended_early
    assert report.by_patience
    assert report.steps == 36 + 3
    assert report.summary is not None
    again = run(work)
    assert (again.steps, again.summary) == (39, report.summary)
    more = run(work, patience=4)
    assert "by --patience 4" in more.ended_early
    assert more.steps == 60 + 6


def test_all_cases_train_without_any_dice(work: Workspace) -> None:
    told = Told()
    report = run(work, told, fold="all", epochs=1)
    assert report.summary is None
    assert lines(report.run)[0]["patch_dice"] is None
    record = EpochRecord(**lines(report.run)[0])  # type: ignore[arg-type]
    assert "Dice" not in epoch_line(record)
    assert not any("Dice" in line for line in told.lines)
    shown = status(work)
    assert ("run default/3d_fullres/fold_all", "trained on all cases") in shown.lines
    assert shown.next_command.startswith("autoseg predict")


# ----------------------------------------------------------------------------------------------- records and curves


def record_of(epoch: int, loss: float = 1.0) -> EpochRecord:
    return EpochRecord(epoch, epoch + 1, 1.0, 0.01, 0.1, loss, 0.5, {"a": 0.5}, 4.0)


def test_a_line_of_the_log_names_the_dice_for_what_it_is() -> None:
    line = epoch_line(record_of(2))
    assert "patch Dice (a proxy) 0.500" in line
    assert "0.250 s per step" in line
    assert "data wait 1.0%" in line


def test_lines_on_short_epochs_come_every_ten_seconds_and_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = [0.0], list[str]()
    monkeypatch.setattr(epochs_module.time, "monotonic", lambda: clock[0])
    lines_of_log = Lines(written.append)
    for epoch in range(26):
        clock[0] += 1.0
        lines_of_log.add(record_of(epoch))
    lines_of_log.add(replace(record_of(26), phase="cool-down"))
    lines_of_log.end()
    lines_of_log.end()
    assert [int(line.split()[1]) for line in written] == [1, 11, 21, 26, 27]
    slow = Lines(written.append)
    for epoch in range(3):
        clock[0] += 11.0
        slow.add(record_of(epoch))
    slow.end()
    assert [int(line.split()[1]) for line in written[5:]] == [1, 2, 3]


def test_drawing_takes_no_more_than_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    drawn: list[float] = []

    def draw(*_arguments: object) -> None:
        drawn.append(clock[0])
        clock[0] += 0.5

    monkeypatch.setattr(epochs_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(epochs_module, "draw_curves", draw)
    curves = Curves(tmp_path / "progress.png", "", [record_of(0)])
    while clock[0] < 1000:
        clock[0] += 1.0
        curves.draw_if_cheap()
    assert drawn[0] <= 152
    assert 15 <= len(drawn) <= 20
