"""Every stage killed at random moments, by SIGKILL, SIGTERM and SIGINT: the same command finishes with the same result.

After each kill no half file has a final name, and nothing that was there before is lost.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from autoseg.files import ASIDE_PREFIX, file_hash, read_record
from autoseg.model_file import read_model
from autoseg.preprocessing.store import read_case
from autoseg.records import Dataset, Fingerprint, Plan
from autoseg.training.checkpoint import read_state

from .builders import AFFINE, a_ball, a_dataset, labels_of, load, quicken, save, words
from .children import BEGUN, ENDED, Child

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forked processes and signals of POSIX")

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

#: Times that a command is disturbed before it is left to finish.
MOST_IN_A_ROW = 4

#: How a command may end after a signal; -15 and -2 are for signals that came before the program could listen.
ENDINGS = {
    signal.SIGKILL: {-9},
    signal.SIGTERM: {143, -15},
    signal.SIGINT: {130, -2},
}


@dataclass(frozen=True)
class Stage:
    """A command, what is there before it, and what it makes."""

    command: str
    made: Callable[[Path], dict[str, str]]  # name -> hash of what decides


def hashes(folder: Path, pattern: str) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.glob(pattern))}


def planned_files(here: Path) -> dict[str, str]:
    names = ("dataset.json", "fingerprint.json", "plan.json", "splits.json")
    return {name: file_hash(here / "autoseg-work" / name) for name in names}


def prepared_files(here: Path) -> dict[str, str]:
    return hashes(here / "autoseg-work" / "prepared", "*/case_*/*.b2nd")


def trained_files(here: Path) -> dict[str, str]:
    run = here / "autoseg-work" / "runs" / "default" / "3d_fullres" / "fold_0"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curves = [[line["epoch"], line["learning_rate"], line["train_loss"]] for line in lines if line["phase"] == "train"]
    return {"model": file_hash(run / "model.safetensors"), "curves": json.dumps(curves)}


def predicted_files(here: Path) -> dict[str, str]:
    return hashes(here / "masks", "case_*.nii.gz")


STAGES = {
    "plan": Stage("plan data --no-probe --workers 1", planned_files),
    "prepare": Stage("prepare --workers 1", prepared_files),
    "train": Stage("train --epochs 4 --seed 1 --workers 1 --device cpu", trained_files),
    "predict": Stage("predict images masks --device cpu --model model.safetensors", predicted_files),
}


def half_written(here: Path) -> Iterator[str]:
    """What has a final name and is not whole. Raises where a file cannot be read."""
    work = here / "autoseg-work"
    kinds = {"dataset.json": Dataset, "fingerprint.json": Fingerprint, "plan.json": Plan}
    for name, kind in kinds.items():
        if (work / name).exists():
            read_record(work / name, kind)
    for path in (*work.rglob("*.json"), *(here / "masks").glob("*.json")):
        if ASIDE_PREFIX not in str(path):
            json.loads(path.read_text())
    for entry in work.glob("prepared/*/case_*"):
        read_case(entry.parent, entry.name)
    for path in work.rglob("*.safetensors"):
        if not path.name.startswith(ASIDE_PREFIX):
            read_model(path) if path.name == "model.safetensors" else read_state(path)
    for mask in (here / "masks").glob("case_*.nii.gz"):
        if load(mask).shape != (24, 26, 22):
            yield str(mask)


def before(name: str, here: Path, ready: Path) -> None:
    """Put in place what a stage begins with."""
    for old in ("autoseg-work", "masks"):
        shutil.rmtree(here / old, ignore_errors=True)
    if name in ("prepare", "train"):
        shutil.copytree(ready, here / "autoseg-work")


def disturb(here: Path, stage: Stage, seconds: float, chance: random.Random) -> signal.Signals | None:
    """Run the command and kill it at some moment; the signal, or None where it ended before."""
    child, number = Child(here, stage.command), chance.choice(SIGNALS)
    child.wait_for(lambda: BEGUN in child.said)
    moment = time.monotonic() + chance.uniform(0, 1.1 * seconds)
    while time.monotonic() < moment and child.process.exitcode is None:
        time.sleep(0.002)
    ended = child.process.exitcode
    if ended is not None:
        assert ended == 0, child.said
        return None
    child.kill(number)
    code = child.end()
    if f"{ENDED} 0" in child.said:  # it was at its end, and only leaving
        return None
    if number == signal.SIGINT and code == 1:
        assert "KeyboardInterrupt" in child.said  # Python itself was about to begin or to leave
        return number
    assert code in ENDINGS[number] | {0}, f"{number.name}: {code}\n{child.said}"
    assert "This is a fault in autoseg" not in child.said
    return number if code != 0 else None


def trials(name: str, kills: int, here: Path, seed: int) -> Counter[str]:
    """Disturb a stage so many times, and check all that has to hold; how often by which signal."""
    stage, chance, ready = STAGES[name], random.Random(seed), here / "ready"
    before(name, here, ready)
    began = time.monotonic()
    assert Child(here, stage.command).end() == 0
    seconds, wanted = time.monotonic() - began, stage.made(here)
    done: Counter[str] = Counter()
    while done.total() < kills:
        before(name, here, ready)
        for _ in range(chance.randint(1, MOST_IN_A_ROW)):
            number = disturb(here, stage, seconds, chance)
            assert not list(half_written(here))
            if number is not None:
                done[number.name] += 1
        last = Child(here, stage.command)
        assert last.end() == 0, last.said
        assert stage.made(here) == wanted
        assert not list(half_written(here))
    return done


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """A folder with a dataset, images to segment and a model, and in `ready` a work folder with a plan."""
    folder = tmp_path_factory.mktemp("begun")
    a_dataset(folder / "data", 6)
    for number in range(4):
        save(folder / "images" / f"case_{number}.nii.gz", a_ball(number, (24, 26, 22))[0])
    assert Child(folder, STAGES["plan"].command).end() == 0
    quicken(folder / "autoseg-work")
    (folder / "autoseg-work").rename(folder / "ready")
    shutil.copy(trained / "work" / "runs" / "default" / "3d_fullres" / "fold_0" / "model.safetensors", folder)
    return folder


@pytest.mark.parametrize("name", STAGES)
def test_a_few_kills_change_nothing(name: str, begun: Path) -> None:
    assert trials(name, 2, begun, seed=1).total() >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_fifty_kills_change_nothing(name: str, begun: Path) -> None:
    done = trials(name, 52, begun, seed=2)
    assert done.total() >= 52
    assert min(done[number.name] for number in SIGNALS) > 5


def test_the_commands_are_those_that_users_type() -> None:
    assert [words(stage.command)[0] for stage in STAGES.values()] == ["plan", "prepare", "train", "predict"]


# A copy is whole or not there, and is not made twice: its trials end where it is there.


def copies_after_kills(kills: int, here: Path, seed: int) -> Counter[str]:
    """Disturb `check --fix` so many times: how often by which signal."""
    stage, chance = Stage("check faulty --fix copy --workers 1 --work checked", copied_files), random.Random(seed)
    data, copy = here / "faulty", here / "copy"
    if not data.exists():
        a_dataset(data, 6)
        save(labels_of(data, 1), load(labels_of(data, 1)), shifted(0.3))
    before, began = hashes(data, "**/*.nii.gz"), time.monotonic()
    assert Child(here, stage.command).end() == 0
    seconds, wanted, done = time.monotonic() - began, stage.made(here), Counter[str]()
    assert wanted != before
    while done.total() < kills:
        shutil.rmtree(copy, ignore_errors=True)
        number = disturb(here, stage, seconds, chance)
        done[number.name if number is not None else "none"] += number is not None
        if not copy.exists():
            last = Child(here, stage.command)
            assert last.end() == 0, last.said
        assert stage.made(here) == wanted
        assert hashes(data, "**/*.nii.gz") == before
        assert not list(here.glob(f"{ASIDE_PREFIX}*"))
    return done


def shifted(millimetres: float) -> NDArray[np.float64]:
    """The affine of our images, off along the first axis."""
    affine = AFFINE.copy()
    affine[0, 3] += millimetres
    return affine


def copied_files(here: Path) -> dict[str, str]:
    return hashes(here / "copy", "**/*.nii.gz")


def test_a_few_kills_leave_no_half_copy(begun: Path) -> None:
    assert copies_after_kills(3, begun, seed=1).total() >= 3


@pytest.mark.slow
def test_fifty_kills_leave_no_half_copy(begun: Path) -> None:
    assert copies_after_kills(50, begun, seed=2).total() >= 50
