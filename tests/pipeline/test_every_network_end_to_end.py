"""Each network by name: planned, trained for a few steps, written into a model file, and used."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from volume_builders import write_volumes

from autoseg.model_file import read_header
from autoseg.networks.catalog import NETWORKS, find_network
from autoseg.pipeline.plan import plan
from autoseg.pipeline.predict import predict
from autoseg.pipeline.train import train
from autoseg.planning.overrides import parse_overrides
from autoseg.progress import SilentProgress
from autoseg.workspace import Workspace


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("volumes"), ["MR"], {"background": 0, "ball": 1})


#: One of ours and one of MONAI's; the others take seconds each.
QUICK = {("unetpp", "2d"), ("segresnet", "2d")}


@pytest.mark.parametrize(
    ("name", "configuration"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in product(NETWORKS, ("2d", "3d_fullres"))
    ],
)
def test_from_plan_to_masks(name: str, configuration: str, data: Path, tmp_path: Path) -> None:
    work, quiet = Workspace(tmp_path / "work"), SilentProgress()
    asked = parse_overrides({"network": name, "batch_size": "2"})
    report = plan(data, work, device="cpu", overrides=asked, probe=False, workers=0, progress=quiet)
    assert {entry.network for entry in report.plan.configurations.values()} == {name}
    warned = [problem.what for problem in report.problems if problem.kind == "transformer"]
    assert bool(warned) == find_network(name).transformer
    assert all("million weights" in words for words in warned)
    entry = report.plan.configurations[configuration]
    shortened = entry.model_copy(update={"steps_per_epoch": 4})
    work.plan("default").write_text(
        report.plan.model_copy(update={"configurations": {configuration: shortened}}).model_dump_json()
    )
    trained = train(
        work,
        configuration=configuration,
        epochs=3,
        overrides={"augmentation": "none"},
        device="cpu",
        workers=0,
        progress=quiet,
    )
    lines = (trained.run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [json.loads(line)["train_loss"] for line in lines]
    assert losses[-1] < losses[0]
    assert read_header(trained.run.model).members[0].configuration.network == name
    masks = predict(data / "imagesTs", tmp_path / "masks", models=(trained.run.model,), device="cpu", progress=quiet)
    assert not masks.failures
    mask = np.asarray(nib.load(tmp_path / "masks" / "case_05.nii.gz").dataobj)  # type: ignore[attr-defined]
    assert set(np.unique(mask)) <= {0, 1}
