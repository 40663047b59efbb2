"""The whole command when something goes wrong around it: a bad case among good ones, dead readers, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
from inference_builders import FATAL_READER, readers_of, real_model

from autoseg.model_file import write_model
from autoseg.pipeline.mask_folder import held

REPOSITORY = Path(__file__).resolve().parents[2]

WriteImage = Callable[..., Path]


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    model = real_model((8, 8, 8))
    (member,) = model.header.members
    path = tmp_path / "model.safetensors"
    write_model(path, model.header, {member.name: model.groups[0].networks[0].state_dict()})
    return path


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "autoseg",
            "predict",
            str(folder / "images"),
            str(folder / "masks"),
            "--no-mirror",
            *words,
        ],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def test_one_corrupt_case_among_ten(model_file: Path, write_image: WriteImage, tmp_path: Path) -> None:
    paths = [write_image(f"case{index}.nii.gz") for index in range(10)]
    paths[4].write_bytes(paths[4].read_bytes()[:150])
    run = started(tmp_path, "--model", str(model_file), "--workers", "0")
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 2, output
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.nii.gz")) == [
        f"case{index}.nii.gz" for index in range(10) if index != 4
    ]
    (failed,) = json.loads((tmp_path / "masks" / "failures.json").read_text()).items()
    assert failed[0] == "case4"
    assert "case4.nii.gz" in failed[1]


def test_a_huge_case_is_refused_by_name_and_the_others_are_made(
    model_file: Path, write_image: WriteImage, tmp_path: Path
) -> None:
    write_image("case0.nii.gz")
    write_image("case1.nii.gz", affine=np.diag([60.0, 60.0, 60.0, 1.0]))  # 840x1200x1020 voxels of 1 mm
    run = started(tmp_path, "--model", str(model_file), "--max-ram", "1GB")
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 2, output
    failures = json.loads((tmp_path / "masks" / "failures.json").read_text())
    assert list(failures) == ["case1"]
    assert "the image of 17x20x14 voxels (0.00476 million) of 60x60x60 mm" in failures["case1"]
    assert "in the network's grid 1020x1200x840 voxels" in failures["case1"]
    assert "--max-ram allows 1.00 GB" in failures["case1"]
    assert (tmp_path / "masks" / "case0.nii.gz").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_reader_that_is_killed_harms_no_other_case(model_file: Path, write_image: WriteImage, tmp_path: Path) -> None:
    (tmp_path / "fatal_reader.py").write_text(FATAL_READER, encoding="utf-8")
    write_image("a.nii.gz")
    write_image("always.nii").rename(tmp_path / "images" / "always.fatal")
    write_image("broken.nii.gz").write_bytes(b"no image")
    write_image("z.nii.gz")
    run = started(tmp_path, "--model", str(model_file), "--workers", "1", "--use", "fatal_reader")
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 2, output
    assert "always: while it was read, its process was killed (by SIGKILL); it is read once more, alone" in output
    assert sorted(json.loads((tmp_path / "masks" / "failures.json").read_text())) == ["always", "broken"]
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.nii.gz")) == ["a.nii.gz", "z.nii.gz"]
    assert "network " in output  # seconds of each stage are told


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("busy", ["reading", "network"])
def test_sigterm_leaves_no_child_and_no_half_mask(
    busy: str, model_file: Path, write_image: WriteImage, tmp_path: Path
) -> None:
    words = ["--model", str(model_file), "--workers", "1"]
    if busy == "reading":
        (tmp_path / "fatal_reader.py").write_text(FATAL_READER, encoding="utf-8")
        write_image("hangs.nii").rename(tmp_path / "images" / "hangs.fatal")
        words += ["--use", "fatal_reader"]
    else:
        image = np.random.default_rng(0).normal(size=(160, 160, 160)).astype(np.float32)  # 59319 tiles
        write_image("large.nii.gz", image)
        words += ["--max-ram", "100GB"]
    run = started(tmp_path, *words)
    process = psutil.Process(run.pid)
    deadline = time.monotonic() + 100
    readers: list[psutil.Process] = []
    while not (readers and _is_busy(busy, tmp_path, readers)):
        assert time.monotonic() < deadline
        assert run.poll() is None, run.communicate()[0]
        readers = readers_of(process)
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 143, output
    _, alive = psutil.wait_procs(readers, timeout=10)
    assert not alive
    assert [path.name for path in (tmp_path / "masks").glob("*")] == [], output


def _is_busy(what: str, folder: Path, readers: list[psutil.Process]) -> bool:
    if what == "reading":
        return (folder / "images" / "readings").exists()
    # the reader has handed its image over and waits
    used = sum(sum(reader.cpu_times()[:2]) for reader in readers)
    time.sleep(1)
    return used > 0.1 and sum(sum(reader.cpu_times()[:2]) for reader in readers) == used


def test_two_commands_do_not_write_into_one_folder(model_file: Path, write_image: WriteImage, tmp_path: Path) -> None:
    write_image("case.nii.gz")
    with held(tmp_path / "masks"):
        run = started(tmp_path, "--model", str(model_file), "--workers", "0")
        output, _ = run.communicate(timeout=120)
    assert run.returncode == 1, output
    assert "is writing masks here" in output
    assert not list((tmp_path / "masks").glob("*.nii.gz"))


#: What a notebook's kernel is to a program: a main module without a file, and a loop of events that runs already.
NOTEBOOK = """
import asyncio
from pathlib import Path

from autoseg import Predictor
from autoseg.pipeline.predict import predict
from autoseg.progress import SilentProgress
from autoseg.records import PredictLimits

model = Path("model.safetensors")

async def cell():
    limits = PredictLimits(workers=1)
    report = predict(Path("images"), Path("masks"), models=(model,), limits=limits, progress=SilentProgress())
    assert list(report.written) == ["case"], report.failures
    Predictor(model).predict_file("images/case.nii.gz", "again.nii.gz")

asyncio.run(cell())
"""


def test_it_works_from_a_notebook(model_file: Path, write_image: WriteImage, tmp_path: Path) -> None:
    write_image("case.nii.gz")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_WAIT_POLICY": "passive"}
    run = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    one, other = (sitk.ReadImage(str(tmp_path / name)) for name in ("masks/case.nii.gz", "again.nii.gz"))
    assert (sitk.GetArrayFromImage(one) == sitk.GetArrayFromImage(other)).all()
