"""Preparing again: only what is new, stale or damaged, and whatever a kill left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoseg.dataset.layouts import open_dataset
from autoseg.files import ASIDE_PREFIX, read_record, write_record
from autoseg.pipeline.prepare import prepare
from autoseg.pipeline.reports import PrepareReport
from autoseg.preprocessing.store import is_current, read_case
from autoseg.progress import SilentProgress
from autoseg.records import Dataset, IntensityStatistics, Plan
from autoseg.workspace import Workspace, preparation_hash


def run(work: Workspace, workers: int = 0) -> PrepareReport:
    return prepare(work, configurations=("3d_fullres",), workers=workers, progress=SilentProgress())


def store(work: Workspace) -> Path:
    return work.prepared_folder(read_record(work.plan(), Plan).configuration("3d_fullres").preparation)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.iterdir())}


def test_a_new_case_is_prepared_alone(planned: Workspace, dataset: Path) -> None:
    assert run(planned).prepared == 6
    before = times(store(planned))
    for path in dataset.glob("*Tr/case_00*"):
        shutil.copy(path, path.with_name(path.name.replace("case_00", "case_99")))
    write_record(planned.dataset, open_dataset(dataset))
    report = run(planned)
    assert (report.prepared, report.reused) == (1, 6)
    after = times(store(planned))
    assert set(after) - set(before) == {"case_99"}
    assert {name: after[name] for name in before} == before


def test_statistics_that_nothing_is_normalized_by_do_not_name_the_folder(planned: Workspace) -> None:
    preparation = read_record(planned.plan(), Plan).configuration("3d_fullres").preparation
    other = IntensityStatistics(mean=7, median=7, std=7, min=7, max=7, percentile_00_5=7, percentile_99_5=7)
    moved = preparation.model_copy(update={"intensities": (other,)})
    assert preparation_hash(moved) == preparation_hash(preparation)
    ct = preparation.model_copy(update={"normalization": ("CTNormalization",)})
    assert preparation_hash(ct) != preparation_hash(preparation)
    assert preparation_hash(ct.model_copy(update={"intensities": (other,)})) != preparation_hash(ct)


def test_another_spacing_prepares_all_elsewhere(planned: Workspace) -> None:
    run(planned)
    first, before = store(planned), times(store(planned))
    plan = read_record(planned.plan(), Plan)
    entry = plan.configuration("3d_fullres")
    preparation = entry.preparation.model_copy(update={"spacing": (2.0, 2.0, 2.0)})
    changed = entry.model_copy(update={"preparation": preparation, "spacing": (2.0, 2.0, 2.0)})
    edited = plan.model_copy(update={"configurations": {**plan.configurations, entry.name: changed}})
    write_record(planned.plan(), edited)
    report = run(planned)
    assert (report.prepared, report.reused) == (6, 0)
    assert store(planned) != first
    assert times(first) == before


@pytest.mark.parametrize("name", ["image.b2nd", "labels.b2nd", "locations.b2nd", "case.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_entry_is_rebuilt_alone(planned: Workspace, name: str, damage: str) -> None:
    run(planned)
    folder = store(planned)
    before = times(folder)
    whole = read_case(folder, "case_03")
    path = folder / "case_03" / name
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        place = content.find(b'"sha256":"') + 12 if name == "case.json" else len(content) // 2
        content[place] = ord("0") + (content[place] + 1 - ord("0")) % 10
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: -1 if damage == "cut" else None])
    report = run(planned)
    assert (report.prepared, report.reused) == (1, 5)
    after = times(folder)
    assert after.pop("case_03") != before.pop("case_03")
    assert after == before
    assert (read_case(folder, "case_03").image == whole.image).all()


def test_copied_entries_are_read_once_and_kept(planned: Workspace) -> None:
    run(planned)
    path = store(planned) / "case_03" / "image.b2nd"
    written = path.stat().st_mtime_ns
    os.utime(path, ns=(0, 0))
    report = run(planned)
    assert (report.prepared, report.reused) == (0, 6)
    assert path.stat().st_mtime_ns == written


def test_what_a_kill_left_half_written_goes_after_a_while(planned: Workspace) -> None:
    run(planned)
    folder = store(planned)
    young, old = folder / f"{ASIDE_PREFIX}0123-case_01", folder / f"{ASIDE_PREFIX}4567-case_02"
    for path in (young, old):
        path.mkdir()
        (path / "image.b2nd").write_bytes(b"half")
    os.utime(old, (time.time() - 10_000,) * 2)
    run(planned)
    assert young.exists()  # another process may be writing it
    assert not old.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("workers", [1, 2])
def test_the_next_call_goes_on_after_a_kill(planned: Workspace, workers: int) -> None:
    folder = store(planned)
    command = [sys.executable, "-m", "autoseg", "prepare", "--work", str(planned.root), "--workers", str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(folder.glob("case_*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cases = read_record(planned.dataset, Dataset).cases
    done = [case.id for case in cases if (folder / case.id).exists()]
    assert done
    assert all(is_current(folder, case) for case in cases if case.id in done)  # nothing half done under its name
    report = run(planned)
    assert report.failures == {}
    assert report.prepared + report.reused == len(cases)
    assert report.reused >= len(done)
    assert all(read_case(folder, case.id).case == case.id for case in cases)
