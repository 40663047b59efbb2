"""What `status` tells of runs that are under way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoseg.files import write_record
from autoseg.model_file import write_model
from autoseg.pipeline.epoch_log import add_epoch
from autoseg.pipeline.plans import read_plan
from autoseg.pipeline.status import status
from autoseg.records import EpochRecord, ModelHeader
from autoseg.training.checkpoint import RunState, save_state
from autoseg.workspace import Run, Workspace


def begun(work: Workspace, fold: str = "0", epochs: int = 2) -> Run:
    run = work.run("default", "3d_fullres", fold)
    run.folder.mkdir(parents=True)
    write_record(run.settings, read_plan(work).training)
    records: list[EpochRecord] = []
    for epoch in range(epochs):
        add_epoch(run.metrics, records, EpochRecord(epoch, epoch + 1, 1.0, 0.01, 0.1, 1.0, 0.5))
    return run


def told(work: Workspace, run: Run) -> str:
    return dict(status(work).lines)[f"run {run.plan}/{run.configuration}/fold_{run.fold}"]


def appended(path: Path, text: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def test_epochs_are_counted_without_a_torn_line(planned: Workspace) -> None:
    run = begun(planned)
    assert told(planned, run) == "under way: 2 epochs"
    appended(run.metrics, '{"epoch": 2, "ste')
    assert told(planned, run) == "under way: 2 epochs"
    run.metrics.unlink()
    assert told(planned, run) == "under way: 0 epochs"


def test_a_broken_log_is_named_and_the_rest_is_told(planned: Workspace) -> None:
    run = begun(planned)
    appended(run.metrics, "not JSON\nnor this\n")
    assert told(planned, run).startswith("under way: metrics.jsonl: line 3 is not valid JSON")
    assert status(planned).next_command.startswith("autoseg train --fold 0 --configuration 3d_fullres")


def test_a_finished_run_that_is_made_longer_is_told(planned: Workspace) -> None:
    run = begun(planned)
    header = ModelHeader(channels=("MR",), labels=read_plan(planned).labels, members=())
    write_model(run.model, header, {})
    run.summary.write_text("{}", encoding="utf-8")
    network = torch.nn.Linear(1, 1)

    def saved(state: RunState) -> str:
        save_state(run.state_tensors, state, network, torch.optim.SGD(network.parameters(), 0.1), {})
        return told(planned, run)

    asked = read_plan(planned).training.epochs
    assert saved(RunState(epoch=2, finished_by="schedule")) == "trained and scored"
    assert saved(RunState(epoch=2)) == f"trained and scored, and is made longer: 2 of {asked} epochs"
    write_model(run.model, header.model_copy(update={"ended_early": "ended by Ctrl-C"}), {})
    assert saved(RunState(epoch=2)) == "trained and scored, ended by Ctrl-C"


@pytest.mark.parametrize("fold", ["1", "all"])
def test_a_run_under_way_is_the_next_command(planned: Workspace, fold: str) -> None:
    begun(planned, fold)
    assert status(planned).next_command.startswith(f"autoseg train --fold {fold} --configuration 3d_fullres")
