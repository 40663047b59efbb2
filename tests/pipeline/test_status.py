"""What `status` tells of runs that are under way."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.files import write_record
from autoseg.pipeline.epoch_log import add_epoch
from autoseg.pipeline.plans import read_plan
from autoseg.pipeline.status import status
from autoseg.records import EpochRecord
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


@pytest.mark.parametrize("fold", ["1", "all"])
def test_a_run_under_way_is_the_next_command(planned: Workspace, fold: str) -> None:
    begun(planned, fold)
    assert status(planned).next_command.startswith(f"autoseg train --fold {fold} --configuration 3d_fullres")
