"""Faults of the machine: disks that are full or read-only, bytes that flip, little memory, one core, odd clocks."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoseg.cli import main
from autoseg.files import ASIDE_PREFIX, file_hash
from autoseg.machine import process_seconds

from .builders import Planned, Typed, a_ball, a_dataset, image_of, quicken, save, words
from .children import Child, Limits

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forked processes, mounts and limits of POSIX")

PLAN = "plan data --no-probe --workers 1"
TRAIN = "train --epochs 2 --seed 1 --workers 1 --device cpu"
RUN = Path("autoseg-work/runs/default/3d_fullres/fold_0")


def tree(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every file with its size, time and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns, file_hash(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ------------------------------------------------------------------------------------------------------ full disks


class SmallDisk:
    """A disk of a few MB, of which so much is free as is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"

    def leave(self, free: int) -> None:
        """Fill it up but for so many bytes."""
        self.filler.unlink(missing_ok=True)
        self.filler.write_bytes(bytes(max(0, shutil.disk_usage(self.folder).free - free)))

    def clear(self) -> None:
        """Give the room back."""
        self.filler.unlink(missing_ok=True)


@pytest.fixture
def disk(here: Path) -> Iterator[SmallDisk]:
    folder = here / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_in_each_stage(here: Path, disk: SmallDisk, model: Path) -> None:
    a_dataset(here / "data")
    for number in range(3):
        save(here / "images" / f"case_{number}.nii.gz", a_ball(number)[0])
    work, masks = disk.folder / "work", disk.folder / "masks"
    stages = {
        f"{PLAN} --work small/work": 4096,
        "prepare --workers 1 --work small/work": 24_000,
        f"{TRAIN} --work small/work": 60_000,
        f"predict images small/masks --device cpu --model {model}": 4096,
        "evaluate small/masks small/masks --output small/scores.json --workers 1": 0,
        f"check data --fix small/copy --workers 1 --work {here / 'elsewhere'}": 60_000,
    }
    for line, free in stages.items():
        disk.leave(free)
        full = Child(here, line)
        assert full.end() in (1, 2), full.said
        assert "no room to write it" in full.said, full.said
        assert "Traceback" not in full.said
        assert "Free some space and run the same command again" in full.said
        half = [path for path in disk.folder.rglob(f"{ASIDE_PREFIX}*") if path.parent != work]
        assert not half
        disk.clear()
        again = Child(here, line)
        assert again.end() == 0, again.said
        if line.startswith("plan"):
            quicken(work)
    assert len(list(masks.glob("case_*"))) == 3
    assert (disk.folder / "scores.json").exists()
    assert tree(disk.folder / "copy").keys() == tree(here / "data").keys()


# ------------------------------------------------------------------------------------------------ read-only folders


@pytest.fixture
def read_only(here: Path) -> Iterator[Path]:
    """A dataset in a folder in which nothing may be written (root may where it cannot be mounted so)."""
    data = a_dataset(here / "data", 4)
    bound = subprocess.run(["mount", "--bind", str(data), str(data)], capture_output=True, check=False).returncode == 0
    if bound:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(data)], check=True)
    for path in () if bound else (data, *data.iterdir()):
        if path.is_dir():
            path.chmod(0o555)
    yield data
    if bound:
        subprocess.run(["umount", "-l", str(data)], check=True)
    for path in () if bound else (data, *data.iterdir()):
        if path.is_dir():
            path.chmod(0o755)


def test_nothing_is_written_into_the_dataset(typed: Typed, planned: Planned, read_only: Path) -> None:
    before = tree(read_only)
    assert typed("check data --workers 1").code == 0
    assert planned().code == 0
    assert typed(TRAIN).code == 0
    assert typed("predict data/imagesTr masks").code == 0
    assert typed("evaluate masks data/labelsTr --workers 1").code == 0
    assert tree(read_only) == before


def test_a_folder_that_may_not_be_written_is_named(here: Path, typed: Typed, read_only: Path) -> None:
    save(here / "images" / "a.nii.gz", a_ball(1)[0])
    if os.access(read_only, os.W_OK):
        pytest.skip("root may write everywhere, and nothing can be mounted read-only here")
    said = typed("plan data --no-probe --workers 1 --work data/work")
    assert said.code == 1
    assert "Traceback" not in said.text
    assert str(read_only / "work") in said.text or "data/work" in said.text
    assert "name another folder" in said.text


# ---------------------------------------------------------------------------------------------------- flipped bytes


@pytest.fixture(scope="module")
def all_written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all that we write was written once."""
    folder = tmp_path_factory.mktemp("all")
    a_dataset(folder / "data", 4)
    save(folder / "images" / "a.nii.gz", a_ball(9)[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(words(PLAN)) == 0
        quicken(folder / "autoseg-work")
        for line in (TRAIN, "predict images masks", "evaluate masks masks --workers 1"):
            assert main(words(line)) == 0
    return folder


@pytest.fixture
def everything(all_written: Path, here: Path) -> Path:
    """A copy of it, in which commands are typed."""
    return shutil.copytree(all_written, here, dirs_exist_ok=True)


#: File -> the command that reads it, and what has to be noticed: "damage" is an error that names the file; "mended" is
#: made anew; "any" may pass where the flip only makes another valid text of it, as a person may.
READ_BY = {
    "autoseg-work/dataset.json": ("prepare --workers 1", "any"),
    "autoseg-work/fingerprint.json": ("prepare --workers 1", "any"),
    "autoseg-work/plan.json": ("prepare --workers 1", "any"),
    "autoseg-work/splits.json": (TRAIN, "any"),
    f"{RUN}/settings.json": (TRAIN, "any"),
    f"{RUN}/summary.json": (TRAIN, "any"),
    f"{RUN}/metrics.jsonl": (f"{TRAIN} --epochs 3", "any"),
    f"{RUN}/receipt.json": ("status", "any"),
    f"{RUN}/state.safetensors": (TRAIN, "damage"),
    f"{RUN}/before_ending.safetensors": (f"{TRAIN} --epochs 3", "damage"),
    f"{RUN}/model.safetensors": ("predict images others", "damage"),
    "masks/predictions.json": ("predict images masks", "any"),
    "masks/a.nii.gz": ("predict images masks", "damage"),
    "masks/summary.json": ("evaluate masks masks --workers 1", "any"),
}


@pytest.mark.parametrize("name", READ_BY)
def test_a_flipped_byte_is_noticed_or_does_no_harm(name: str, everything: Path, typed: Typed) -> None:
    line, wanted = READ_BY[name]
    path, chance = everything / name, random.Random(name)
    if not path.exists():
        assert "before_ending" in name  # only where there was a final decay
        return
    kept = shutil.copytree(everything / "autoseg-work", everything / "kept")
    sound, times = path.read_bytes(), path.stat().st_mtime_ns
    for _ in range(3):
        flipped = bytearray(sound)
        # of tensors and compressed voxels any byte counts; the first ones tell what kind of file it is
        flipped[chance.randrange(len(sound) // 2, len(sound))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        os.utime(path, ns=(times, times))  # a failing disk leaves the time as it was
        said = typed(line)
        assert "Traceback" not in said.text
        if wanted == "damage" or said.code == 1:
            assert said.code == 1, said.text
            assert path.name in said.text or str(path.parent) in said.text, said.text
        shutil.rmtree(everything / "autoseg-work")
        shutil.copytree(kept, everything / "autoseg-work")
        shutil.rmtree(everything / "others", ignore_errors=True)
        path.write_bytes(sound)


# ------------------------------------------------------------------------------------------------- memory and cores


def test_training_keeps_within_a_limit_of_address_space(here: Path, planned: Planned) -> None:
    a_dataset(here / "data", 4)
    assert planned().code == 0
    child = Child(here, TRAIN, limits=Limits(further_bytes=700_000_000))
    assert child.end() == 0, child.said


def test_memory_that_runs_out_is_told_in_a_line(here: Path, planned: Planned, model: Path) -> None:
    a_dataset(here / "data", 4)
    assert planned().code == 0
    save(here / "images" / "large.nii.gz", a_ball(1, (200, 200, 100))[0])
    limits = Limits(further_bytes=60_000_000)
    child = Child(here, f"predict images masks --device cpu --model {model}", limits=limits)
    assert child.end() in (1, 2), child.said
    assert "memory" in child.said
    assert "This is a fault in autoseg" not in child.said
    assert not list(here.glob("masks/large*"))


def test_one_core_is_enough(here: Path, typed: Typed) -> None:
    a_dataset(here / "data", 4)
    limits = Limits(cores=1)
    planning = Child(here, "plan data --no-probe", limits=limits)
    assert planning.end() == 0, planning.said
    quicken(here / "autoseg-work")
    training = Child(here, "train --epochs 2 --seed 1 --device cpu", limits=limits)
    assert training.end() == 0, training.said


# ---------------------------------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("jump", [365 * 86400.0, -365 * 86400.0], ids=["ahead", "back"])
def test_a_clock_that_is_set_changes_nothing(
    here: Path, typed: Typed, planned: Planned, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    data = a_dataset(here / "data", 4)
    assert planned().code == 0
    assert typed(TRAIN).code == 0
    assert typed("predict data/imagesTr masks").code == 0
    model = file_hash(here / RUN / "model.safetensors")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    again = typed("prepare --configuration 3d_fullres --workers 1")
    assert again.code == 0
    assert "0 prepared" in again.text
    assert "is trained and scored" in typed(TRAIN).text
    assert file_hash(here / RUN / "model.safetensors") == model
    assert "4 were there already" in typed("predict data/imagesTr masks").text
    assert typed(f"{TRAIN} --fold 1").code == 0
    later = time.time() + 3600
    os.utime(image_of(data), (later, later))  # a file from the future is another file, and prepared anew
    assert "1 prepared" in typed("prepare --configuration 3d_fullres --workers 1").text


def test_the_time_since_the_start_does_not_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86400.0)
    assert 0 <= process_seconds() < 3600
    monkeypatch.setattr(time, "time", lambda: real() - 86400.0)
    assert process_seconds() == 0
