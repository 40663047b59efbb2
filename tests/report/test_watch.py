from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from autoseg.errors import UsageError
from autoseg.progress import SilentProgress
from autoseg.records import EpochRecord, TrainSettings
from autoseg.report.watch import LOGGERS, Watched, scalars, watching

RECORD = EpochRecord(
    epoch=4, step=50, seconds=9.0, data_wait=0.01, learning_rate=0.1, train_loss=-0.5, patch_dice=None,
    patch_dice_per_label={"left|lung": 0.5, "right": None},
)  # fmt: skip


@dataclass
class Told(SilentProgress):
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def run(tmp_path: Path) -> Watched:
    settings = TrainSettings(epochs=5, learning_rate=0.1, weight_decay=0.0)
    return Watched(tmp_path, "default, 2d, fold 0", "Hippocampus", settings)


class Calls:
    """Remembers what was called on it, with which words."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*words: Any, **options: Any) -> Any:
            self.made.append((name, words, options))
            return self.answer(name)

        return call

    def answer(self, name: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="run-1")) if name == "start_run" else self

    def named(self, name: str) -> list[tuple[Any, Any]]:
        return [(words, options) for other, words, options in self.made if other == name]


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **entries: Any) -> None:
    for parent in [name.rsplit(".", 1)[0]] if "." in name else []:
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    module = ModuleType(name)
    for key, value in entries.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


def test_scalars_leave_out_what_does_not_exist() -> None:
    values = scalars(RECORD)
    assert values["train_loss"] == -0.5
    assert values["patch_dice_per_label/left_lung"] == 0.5
    assert "patch_dice" not in values
    assert "patch_dice_per_label/right" not in values


def test_tensorboard_gets_every_number(monkeypatch: pytest.MonkeyPatch, run: Watched) -> None:
    calls = Calls()
    fake(
        monkeypatch, "tensorboard.summary", Writer=lambda folder: calls.made.append(("folder", (folder,), {})) or calls
    )
    with watching(["tensorboard"], run, SilentProgress()) as tell:
        tell(RECORD)
    assert calls.named("folder") == [((str(run.folder / "tensorboard"),), {})]
    assert (("train_loss", -0.5), {"step": 5}) in calls.named("add_scalar")
    assert len(calls.named("add_scalar")) == len(scalars(RECORD))
    assert calls.named("close")


def test_mlflow_goes_on_in_the_same_run(monkeypatch: pytest.MonkeyPatch, run: Watched) -> None:
    calls = Calls()
    entries = ("set_experiment", "start_run", "log_params", "log_metrics", "end_run")
    fake(monkeypatch, "mlflow", **{name: getattr(calls, name) for name in entries})
    for _ in range(2):
        with watching(["mlflow"], run, SilentProgress()) as tell:
            tell(RECORD)
    assert calls.named("set_experiment")[0] == (("Hippocampus",), {})
    assert calls.named("start_run") == [((), {"run_name": run.name}), ((), {"run_id": "run-1"})]
    assert len(calls.named("log_params")) == 1
    assert calls.named("log_metrics")[0] == ((scalars(RECORD),), {"step": 5})
    assert calls.named("end_run") == [(("FINISHED",), {})] * 2


def test_wandb_is_told_settings_but_no_data(monkeypatch: pytest.MonkeyPatch, run: Watched) -> None:
    calls = Calls()
    fake(monkeypatch, "wandb", init=calls.init)
    with watching(["wandb"], run, SilentProgress()) as tell:
        tell(RECORD)
    options = calls.named("init")[0][1]
    assert (options["project"], options["resume"], options["id"]) == ("Hippocampus", "allow", run.key)
    assert options["config"]["learning_rate"] == 0.1
    assert calls.named("log") == [((scalars(RECORD),), {"step": 5})]
    assert calls.named("finish")


@pytest.mark.parametrize("name", list(LOGGERS))
def test_a_missing_package_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, run: Watched, name: str
) -> None:
    for module in (name, f"{name}.summary"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"pip install '.\[{name}\]'"), watching([name], run, SilentProgress()):
        pass
    extras = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\n{name} = [" in extras


def test_a_logger_that_cannot_be_started_is_refused_before_the_training(
    monkeypatch: pytest.MonkeyPatch, run: Watched
) -> None:
    def init(**_options: object) -> None:
        raise OSError("not logged in")

    fake(monkeypatch, "wandb", init=init)
    with pytest.raises(UsageError, match="not logged in"), watching(["wandb"], run, SilentProgress()):
        pass


def test_an_unknown_logger_is_refused(run: Watched) -> None:
    with pytest.raises(UsageError, match="tensorboard, mlflow, wandb"), watching(["excel"], run, SilentProgress()):
        pass


def test_a_logger_that_fails_is_left_out_and_the_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, run: Watched
) -> None:
    told: list[str] = []

    class Server:
        def log(self, *_words: object, **_options: object) -> None:
            told.append("log")
            raise OSError("no network")

        def finish(self) -> None:
            raise OSError("still none")

    fake(monkeypatch, "wandb", init=lambda **_options: Server())
    progress = Told()
    with watching(["wandb"], run, progress) as tell:
        tell(RECORD)
        tell(RECORD)
    assert told == ["log"]
    assert "no network" in progress.warnings[0]
    assert "still none" in progress.warnings[1]


def test_the_end_of_a_training_is_not_hidden_by_a_logger(monkeypatch: pytest.MonkeyPatch, run: Watched) -> None:
    calls = Calls()
    fake(monkeypatch, "wandb", init=calls.init)
    with pytest.raises(KeyboardInterrupt), watching(["wandb"], run, SilentProgress()):
        raise KeyboardInterrupt
    assert calls.named("finish")


def test_nothing_is_imported_unless_asked_for(run: Watched) -> None:
    with watching([], run, SilentProgress()) as tell:
        tell(RECORD)
    assert not {"mlflow", "wandb"} & sys.modules.keys()
