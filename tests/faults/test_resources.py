"""Little memory, and processes that die."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from autoseg.records import Configuration, Labels

from .builders import Typed, a_ball, a_dataset, load, save, untrained
from .catalog import REPOSITORY, fault
from .children import Child, Limits

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forked processes and limits of POSIX")

#: A reader of NIfTI that the system kills while it reads a certain case, as it does where memory runs out.
DEADLY = """
import multiprocessing
import os
import signal
from dataclasses import replace

from autoseg.dataset.readers import READERS

sound = READERS[".nii.gz"]


def deadly(path):
    if "case_2" in path.name and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return sound.read_image(path)


READERS[".nii.gz"] = replace(sound, read_image=deadly)
"""


#: A program that types commands one after the other, and pays but once for what they load.
COMMANDS = """
import sys

from autoseg.cli import main

if __name__ == "__main__":
    for line in {lines}:
        if main(line.split()) != 0:
            sys.exit(f"failed: {{line}}")
"""


def many_labels(count: int) -> Labels:
    return Labels(names={"background": 0, **{f"organ {value}": value for value in range(1, count)}})


def small_patches(entry: Configuration) -> Configuration:
    """A small network, on voxels twice as large as those of the image."""
    preparation = entry.preparation.model_copy(update={"spacing": (2.0, 2.0, 2.0)})
    return entry.model_copy(
        update={"patch_size": (32, 40, 40), "features_per_stage": (4, 8, 16), "preparation": preparation}
    )


def a_large_image(path: Path) -> Path:
    waves = sum(np.sin(axis / (9.0 + number)) for number, axis in enumerate(np.indices((160, 160, 128))))
    return save(path, (100 + 20 * waves).astype(np.float32), np.eye(4))


@fault(
    41,
    "an image of many slices on a machine with little memory: 735x512x512 in 64 GB",
    "it ends within the limit (tested with a smaller image, whose scores alone would take three times as much); "
    "`--max-ram` says how much may be used",
)
def test_predictions_stay_within_a_limit(here: Path, typed: Typed, work: Path) -> None:
    labels = many_labels(117)
    model = untrained(work, here / "model.safetensors", labels=labels, change=small_patches)
    image = a_large_image(here / "large.nii.gz")
    scores = 117 * 160 * 160 * 128 * 4
    limit = 500_000_000
    assert scores > 3 * limit
    line = f"predict {image.name} masks --no-mirror --step 1 --device cpu --precision float32 --max-ram 900MB --model"
    child = Child(here, line, model, limits=Limits(further_bytes=limit))
    assert child.end() == 0, child.said
    assert load(here / "masks" / "large.nii.gz").shape == (160, 160, 128)


@fault(
    42,
    "117 classes",
    "as much memory as two, but for a buffer of 0.3 GB that grows neither with the image nor with the classes",
)
def test_memory_does_not_grow_with_the_classes(here: Path, work: Path) -> None:
    image = a_large_image(here / "large.nii.gz")
    peaks = {}
    for count in (2, 117):
        model = untrained(work, here / f"{count}.safetensors", labels=many_labels(count), change=small_patches)
        line = f"predict {image.name} masks{count} --no-mirror --step 1 --device cpu --precision float32 --model"
        child = Child(here, line, model)
        assert child.end() == 0, child.said
        peaks[count] = child.peak_bytes
    scores = (117 - 2) * 160 * 160 * 128 * 4
    assert peaks[117] - peaks[2] < 350_000_000 < scores / 4


@fault(
    43,
    "a process that reads is killed, as for lack of memory",
    "the case is read once more by itself; if that kills again it fails by name, and all others are done",
)
def test_killed_processes_cost_one_case(here: Path, typed: Typed, model: Path) -> None:
    a_dataset(here / "data")
    (here / "deadly.py").write_text(DEADLY)
    child = Child(here, "predict data/imagesTr masks --workers 1 --use deadly --model", model)
    assert child.end(patience=120) == 2, child.said
    failures = json.loads((here / "masks" / "failures.json").read_text())
    assert failures.keys() == {"case_2"}
    assert "could not be read" in failures["case_2"]
    assert "killed" in failures["case_2"] or "died" in failures["case_2"]
    assert sorted(path.name for path in here.glob("masks/case*")) == [f"case_{k}.nii.gz" for k in (0, 1, 3, 4)]

    child = Child(here, "plan data --no-probe --workers 2 --use deadly")
    assert child.end(patience=120) == 1, child.said
    assert "1 of 5 cases cannot be used" in child.said
    assert "case_2: the process working on it died twice" in child.said
    assert "use fewer --workers" in child.said or "--skip-bad" in child.said


def with_small_shared_memory(script: str) -> list[str]:
    """The command that runs a shell script with 64 kB of /dev/shm, or as it is where that cannot be had."""
    mount = "mount -t tmpfs -o size=64k none /dev/shm"
    space = ["unshare", "-rm", "sh", "-c"]
    possible = (
        shutil.which("unshare") is not None
        and subprocess.run([*space, mount], capture_output=True, check=False).returncode == 0
    )
    return [*space, f"{mount} && {script}"] if possible else ["sh", "-c", script]


@fault(44, "`/dev/shm` of 64 MB, as in a container", "no shared memory is used: it works with 64 kB")
def test_shared_memory_is_not_needed(here: Path, model: Path) -> None:
    a_dataset(here / "data", 4)
    lines = (
        "plan data --no-probe --workers 2",
        "prepare --configuration 3d_fullres --workers 2",
        f"predict data/imagesTr masks --no-mirror --workers 1 --model {model}",
    )
    (here / "commands.py").write_text(COMMANDS.format(lines=lines))
    script = f"{sys.executable} commands.py"
    place = Path("/dev/shm")
    before = psutil.disk_usage(str(place)).used if place.is_dir() else 0
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        with_small_shared_memory(script), cwd=here, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert len(list(here.glob("masks/case_*"))) == 4
    after = psutil.disk_usage(str(place)).used if place.is_dir() else 0
    assert after <= before


def test_the_image_is_as_large_as_it_is_said_to_be(here: Path) -> None:
    assert load(a_large_image(here / "large.nii.gz")).shape == (160, 160, 128)
    assert a_ball()[0].shape == (20, 22, 18)
