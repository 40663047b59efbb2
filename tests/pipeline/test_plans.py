"""Reading plans that a person may have edited, and explaining them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoseg.cli import main
from autoseg.errors import PlanError, UsageError
from autoseg.files import read_record
from autoseg.pipeline.plan import plan
from autoseg.pipeline.plans import explain, read_plan
from autoseg.pipeline.runs import run_settings
from autoseg.pipeline.status import status
from autoseg.progress import SilentProgress
from autoseg.records import Probe
from autoseg.workspace import Workspace

Edit = Callable[[dict[str, Any]], None]


def edit(work: Workspace, change: Edit) -> None:
    content = json.loads(work.plan().read_text(encoding="utf-8"))
    change(content)
    work.plan().write_text(json.dumps(content), encoding="utf-8")


def newer(content: dict[str, Any]) -> None:
    content["format"] = 99


def unknown_field(content: dict[str, Any]) -> None:
    content["configurations"]["2d"]["patchsize"] = [8, 8]


def odd_patch(content: dict[str, Any]) -> None:
    content["configurations"]["3d_fullres"]["patch_size"] = [20, 21, 16]


def odd_normalization(content: dict[str, Any]) -> None:
    content["configurations"]["2d"]["preparation"]["normalization"] = ["Normal"]


@pytest.mark.parametrize(
    ("change", "field"),
    [(newer, "field format"), (unknown_field, "patchsize"), (odd_patch, "patch_size"), (odd_normalization, "'Normal'")],
)
def test_every_command_names_file_and_field(
    planned: Workspace, capsys: pytest.CaptureFixture[str], change: Edit, field: str
) -> None:
    edit(planned, change)
    with pytest.raises(PlanError) as caught:
        read_plan(planned)
    assert str(planned.plan()) in str(caught.value)
    assert field in str(caught.value)
    with pytest.raises(PlanError):
        status(planned)
    for command in (["prepare"], ["train", "--fold", "0"]):
        assert main([*command, "--work", str(planned.root)]) == 1
        assert field in capsys.readouterr().err
    assert not planned.prepared.exists()


def test_explanations_by_field_and_by_configuration(planned: Workspace) -> None:
    patches = explain(planned, "default", "patch_size")
    assert [reason.field for reason in patches] == ["2d.patch_size", "3d_fullres.patch_size"]
    assert explain(planned, "default", "3d_fullres.patch_size") == (patches[1],)
    assert explain(planned, "default", "patch size") == patches
    with pytest.raises(UsageError, match="batch_size, network, strides"):
        explain(planned, "default", "size")


def test_explain_prints_rule_and_alternative(planned: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--explain", "3d_fullres.epochs", "--work", str(planned.root), "--plan", "default"]) == 0
    shown = capsys.readouterr().out
    (reason,) = explain(planned, "default", "3d_fullres.epochs")
    assert f"Because: {reason.because}" in shown
    assert f"Instead: {reason.instead}" in shown
    assert main(["plan", "--explain", "epochs", "--work", str(planned.root), "--name", "other"]) == 1


def test_what_was_measured_stands_beside_its_plan(planned: Workspace, dataset: Path) -> None:
    report = plan(dataset, planned, name="second", device="cpu", workers=0, progress=SilentProgress())
    probe = read_record(planned.root / "probe-second.json", Probe)
    assert report.probe == probe
    assert probe.plan == "second"
    assert {step.configuration for step in probe.steps} == set(report.plan.configurations)
    assert all(step.fits and step.seconds_per_step for step in probe.steps)
    assert {cost.configuration for cost in report.costs} == set(report.plan.configurations)
    assert all(cost.hours and cost.disk_bytes and cost.peak_bytes for cost in report.costs)
    assert planned.probe() == planned.root / "probe.json"
    # nothing of the moment is part of a plan: that without a probe is the same
    first, second = (
        read_plan(planned, name).model_copy(update={"name": "", "digest": ""}) for name in planned.plan_names()
    )
    assert first == second


def test_another_optimizer_for_one_run(planned: Workspace) -> None:
    made = read_plan(planned)
    run = planned.run("default", "3d_fullres", 0)
    settings = run_settings(run, made.training, optimizer="sgd", overrides={"weight_decay": "0.001"})
    assert (settings.optimizer, settings.learning_rate, settings.momentum) == ("sgd", 0.01, 0.99)
    assert (settings.weight_decay, settings.warmup_steps) == (0.001, 0)
    assert run_settings(run, made.training, optimizer=made.training.optimizer) == made.training
    with pytest.raises(UsageError, match="sgd, adamw"):
        run_settings(run, made.training, optimizer="lion")


def test_a_run_takes_the_epochs_of_its_configuration(planned: Workspace) -> None:
    from autoseg.pipeline.train import train

    def shorter(content: dict[str, Any]) -> None:
        for entry in content["configurations"].values():
            entry["steps_per_epoch"], entry["epochs"] = 1, 1
        content["configurations"]["2d"]["epochs"] = 2
        content["training"]["epochs"] = 50

    edit(planned, shorter)
    report = train(planned, configuration="2d", device="cpu", workers=0, progress=SilentProgress())
    assert report.epochs == 2
