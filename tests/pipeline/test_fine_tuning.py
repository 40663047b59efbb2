from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from volume_builders import Told, planned_quickly, write_volumes

from autoseg.errors import ModelError, PlanError, UsageError
from autoseg.files import read_record
from autoseg.model_file import read_header
from autoseg.pipeline.plans import explain, read_plan
from autoseg.pipeline.train import TrainReport, train
from autoseg.progress import SilentProgress
from autoseg.records import TrainSettings
from autoseg.workspace import Workspace


def run(work: Workspace, progress: SilentProgress | None = None, **options: object) -> TrainReport:
    options = {"epochs": 1, **options}
    return train(work, device="cpu", workers=0, progress=progress or SilentProgress(), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one channel and one label, with a patch and a batch of its own."""
    folder = tmp_path_factory.mktemp("source")
    data = write_volumes(folder / "data", ["T1"], {"background": 0, "ball": 1})
    return run(planned_quickly(data, folder / "work", patch_size=(16, 16, 16), batch_size=3)).run.model


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the same kind with a channel and a label more."""
    folder = tmp_path_factory.mktemp("target")
    return write_volumes(folder / "data", ["T2", "T1"], {"background": 0, "dot": 2, "ball": 1})


def test_a_model_of_other_channels_and_labels_is_taken_over(model: Path, other: Path, tmp_path: Path) -> None:
    work, told = planned_quickly(other, tmp_path / "work"), Told()
    before = work.plan().read_bytes()
    first = run(work, told, init=model)
    name = next(name for name in work.plan_names() if name != "default")
    assert name.startswith("from-model-")
    assert work.plan().read_bytes() == before
    made, theirs = read_plan(work, name), read_header(model).members[0].configuration
    entry = made.configurations["3d_fullres"]
    for field in ("patch_size", "batch_size", "spacing", "network", "features_per_stage"):
        assert getattr(entry, field) == getattr(theirs, field)
    preparation = entry.preparation
    assert preparation.intensities[1] == theirs.preparation.intensities[0]  # T1 is the second channel here
    assert preparation.labels == made.labels
    assert "New channels: T2" in told.text
    assert "New outputs: dot" in told.text
    assert "Loaded in part" in told.text
    assert f"from {model}" in told.text
    assert explain(work, name, "patch_size")[0].because.startswith("From model.safetensors")
    settings = read_record(first.run.settings, TrainSettings)
    assert settings.initial == made.training.initial
    assert first.summary is not None

    header = read_header(first.run.model)
    assert header.channels == ("T2", "T1")
    again = Told()
    run(work, again, init=model)  # the same command: it is trained and scored, and nothing is loaded again
    assert "Loaded" not in again.text
    run(work, plan=name)  # under way or done, it needs the model no more
    with pytest.raises(UsageError, match="--init MODEL"):
        run(work, plan=name, fold="1")
    with pytest.raises(PlanError, match="another model"):
        run(work, plan=name, init=first.run.model)


def test_the_first_weights_are_those_of_the_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_volumes(tmp_path / "data", ["T1"], {"background": 0, "ball": 1})
    work, told = planned_quickly(data, tmp_path / "work"), Told()
    # a rate so small that five steps leave the weights as they are
    tuned = run(work, told, init=model, overrides={"learning_rate": "1e-12", "weight_decay": "0"})
    source, after = load_file(model), load_file(tuned.run.model)
    assert source.keys() == after.keys()
    assert all(torch.allclose(source[name], after[name], atol=1e-6) for name in source)
    assert f"Loaded {len(source)} of {len(source)} tensors" in told.text
    assert "New" not in told.text


def test_models_that_cannot_be_taken_over_are_refused(model: Path, other: Path, tmp_path: Path) -> None:
    work = planned_quickly(other, tmp_path / "work")
    with pytest.raises(ModelError, match="has no network of configuration '2d'"):
        run(work, init=model, configuration="2d")
    with pytest.raises(ModelError, match="no such model file"):
        run(work, init=tmp_path / "absent.safetensors")
    with pytest.raises(UsageError, match="Use --init"):
        run(work, overrides={"initial": "abc"})
