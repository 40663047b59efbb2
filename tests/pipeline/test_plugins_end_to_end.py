from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from volume_builders import Told, write_volumes

from autoseg.arrays.normalize import NORMALIZATIONS
from autoseg.dataset.readers import READERS
from autoseg.errors import ModelError, TrainingError
from autoseg.model_file import read_header
from autoseg.networks.catalog import NETWORKS
from autoseg.pipeline.plan import plan
from autoseg.pipeline.plans import read_plan
from autoseg.pipeline.predict import predict
from autoseg.pipeline.train import train
from autoseg.planning.overrides import parse_overrides
from autoseg.planning.presets import PRESETS
from autoseg.progress import SilentProgress
from autoseg.training.augmentation import AUGMENTATIONS
from autoseg.training.losses import LOSSES
from autoseg.workspace import Workspace

MODULE = """
from dataclasses import replace

import numpy as np
from torch import nn

from autoseg.arrays.normalize import NORMALIZATIONS, z_score
from autoseg.dataset.readers import NIFTI, READERS
from autoseg.networks.catalog import NETWORKS
from autoseg.planning.presets import PRESETS
from autoseg.training.augmentation import AUGMENTATIONS, Augmentation
from autoseg.training.losses import LOSSES, dice_ce


class Tiny(nn.Module):
    def __init__(self, spec):
        super().__init__()
        convolution = nn.Conv3d if spec.dimensions == 3 else nn.Conv2d
        first, second = convolution(spec.channels, 4, 3, padding=1), convolution(4, spec.heads, 1)
        self.layers = nn.Sequential(first, nn.LeakyReLU(), second)
        self.deep_supervision = spec.deep_supervision

    def forward(self, image):
        scores = self.layers(image)
        return [scores] if self.deep_supervision else scores


def halved(labels, batch_dice):
    whole = dice_ce(labels, batch_dice)
    return lambda scores, reference, drawn=None: 0.5 * whole(scores, reference, drawn)


NETWORKS["tiny"] = Tiny
LOSSES["halved"] = halved
AUGMENTATIONS["mirrors"] = Augmentation(mirrors=True)
NORMALIZATIONS["DoubledNormalization"] = lambda channel, statistics, inside=None: 2 * z_score(channel)
READERS[".odd"] = NIFTI
PRESETS["mine"] = replace(PRESETS["auto"], name="mine")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that adds to every table; afterwards all is as it was."""
    tables = (NETWORKS, LOSSES, AUGMENTATIONS, NORMALIZATIONS, READERS, PRESETS)
    before, path, known = [dict(table) for table in tables], list(sys.path), set(sys.modules)
    (tmp_path / "outside_parts.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("autoseg.plugins._imported", [])
    yield "outside_parts"
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if name == "outside_parts":
            del sys.modules[name]
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)  # type: ignore[arg-type]


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process: the module was never imported."""
    monkeypatch.setattr("autoseg.plugins._imported", [])
    sys.modules.pop("outside_parts", None)
    for table, name in (
        (NETWORKS, "tiny"),
        (LOSSES, "halved"),
        (AUGMENTATIONS, "mirrors"),
        (NORMALIZATIONS, "DoubledNormalization"),
    ):
        table.pop(name, None)  # type: ignore[attr-defined]


def test_a_module_adds_to_every_table_from_plan_to_masks(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_volumes(tmp_path / "data", ["DoubledNormalization"], {"background": 0, "ball": 1})
    work, quiet = Workspace(tmp_path / "work"), SilentProgress()
    asked = parse_overrides({"network": "tiny", "loss": "halved", "augmentation": "mirrors"})
    made = plan(
        data, work, preset="mine", device="cpu", overrides=asked, probe=False, use=(module,), workers=0, progress=quiet
    ).plan
    assert made.plugins == (module,)
    entry = made.configurations["3d_fullres"]
    assert (entry.network, entry.preparation.normalization) == ("tiny", ("DoubledNormalization",))

    forget(monkeypatch)
    options = {"device": "cpu", "workers": 0, "progress": quiet}
    trained = train(work, epochs=1, **options)  # type: ignore[arg-type]
    assert trained.summary is not None
    assert read_header(trained.run.model).plugins == (module,)

    forget(monkeypatch)
    told = Told()
    masks = predict(data / "imagesTs", tmp_path / "masks", work=work, device="cpu", progress=told)
    assert list(masks.written) == ["case_05"]
    assert f"Imported for model.safetensors: {module}" in told.text

    forget(monkeypatch)
    elsewhere = shutil.copy(trained.run.model, tmp_path / "given.safetensors")
    with pytest.raises(ModelError, match=f"--use {module}"):
        predict(data / "imagesTs", tmp_path / "more", models=(elsewhere,), work=work, device="cpu", progress=quiet)
    assert module not in sys.modules
    report = predict(
        data / "imagesTs", tmp_path / "more", models=(elsewhere,), use=(module,), device="cpu", progress=quiet
    )
    assert not report.failures


def test_a_run_remembers_the_modules_of_its_own(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_volumes(tmp_path / "data", ["MR"], {"background": 0, "ball": 1})
    work, quiet = Workspace(tmp_path / "work"), SilentProgress()
    plan(data, work, device="cpu", probe=False, workers=0, progress=quiet)
    options = {"device": "cpu", "workers": 0, "progress": quiet, "configuration": "2d"}
    with pytest.raises(TrainingError, match="unknown loss 'halved'"):
        train(work, epochs=1, overrides={"loss": "halved"}, **options)  # type: ignore[arg-type]
    trained = train(work, epochs=1, overrides={"loss": "halved"}, use=(module,), **options)  # type: ignore[arg-type]
    assert read_plan(work).plugins == ()
    forget(monkeypatch)
    again = train(work, **options)  # type: ignore[arg-type]  # its loss is found by what the run remembers
    assert again.run == trained.run
    forget(monkeypatch)
    # the network is the program's own: nobody has to have the loss to use it
    predict(data / "imagesTs", tmp_path / "masks", models=(trained.run.model,), device="cpu", progress=quiet)
    assert module not in sys.modules
