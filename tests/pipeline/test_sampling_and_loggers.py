from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from volume_builders import planned_quickly, write_volumes

from autoseg.errors import UsageError
from autoseg.files import read_record
from autoseg.pipeline.train import TrainReport, train
from autoseg.progress import SilentProgress
from autoseg.records import TrainSettings
from autoseg.report import watch
from autoseg.workspace import Workspace


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    data = write_volumes(tmp_path / "data", ["MR"], {"background": 0, "ball": 1, "dot": 2})
    return planned_quickly(data, tmp_path / "work", patch_size=(8, 8, 8))


def run(work: Workspace, **options: object) -> TrainReport:
    return train(
        work, configuration="3d_fullres", device="cpu", workers=0, progress=SilentProgress(), seed=3, **options
    )  # type: ignore[arg-type]


def test_another_sampling_gives_other_weights(work: Workspace) -> None:
    weights = []
    for sampling in ("foreground", "small", "balanced"):
        report = run(work, epochs=1, fold="all", overrides={"sampling": sampling})
        assert read_record(report.run.settings, TrainSettings).sampling == sampling
        weights.append(load_file(report.run.model))
        report.run.folder.rename(report.run.folder.with_name(f"kept_{len(weights)}"))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not all(torch.equal(weights[first][name], weights[second][name]) for name in weights[0])


def test_an_unknown_sampling_is_refused(work: Workspace) -> None:
    with pytest.raises(UsageError, match="setting sampling: Input should be 'foreground', 'balanced' or 'small'"):
        run(work, overrides={"sampling": "large"})


def test_loggers_are_told_of_each_epoch_and_opened_before_the_first(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []

    @contextmanager
    def remembering(watched: watch.Watched) -> Iterator[watch.Tell]:
        told.append(watched.name)
        yield lambda record: told.append(record.epoch)
        told.append("closed")

    monkeypatch.setitem(watch.LOGGERS, "memory", remembering)
    with pytest.raises(UsageError, match="--log paper is unknown"):
        run(work, epochs=2, log=("memory", "paper"))
    assert not work.run("default", "3d_fullres", "0").model.exists()
    told.clear()
    run(work, epochs=2, log=("memory",))
    assert told == ["default, 3d_fullres, fold 0", 0, 1, "closed"]
