"""A training in several processes: the same model as from one, and an end for all when one of them dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file
from volume_builders import quicken

from autoseg.errors import UsageError
from autoseg.files import read_record
from autoseg.pipeline.company import company, device_of
from autoseg.pipeline.train import train
from autoseg.progress import SilentProgress
from autoseg.records import TrainSettings
from autoseg.torchrun import Place, launched_place
from autoseg.training.ranks import ALONE, Ranks
from autoseg.workspace import Run, Workspace

SETTINGS = ("--set", "optimizer=sgd", "--precision", "float32", "--device", "cpu")


def autoseg(work: Workspace, *words: str, torchrun: bool = False) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"] if torchrun else []
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "autoseg", "train", "--work", str(work.root), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    words, _ = process.communicate(timeout=240)
    assert process.returncode == 0, words
    return words


def by_itself(work: Workspace) -> None:
    """Train an epoch with SETTINGS in this process."""
    settings = {"overrides": {"optimizer": "sgd"}, "precision": "float32", "device": "cpu"}
    train(work, epochs=1, workers=0, progress=SilentProgress(), **settings)


def weights_differ_by(one: Run, other: Run) -> float:
    ours, theirs = load_file(one.model), load_file(other.model)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_torchrun_gives_the_model_of_one_process_which_goes_on_from_there(planned: Workspace) -> None:
    quicken(planned, 4)
    alone = Workspace(planned.root.with_name("alone"))
    shutil.copytree(planned.root, alone.root)
    together = autoseg(planned, "--epochs", "1", *SETTINGS, torchrun=True)
    by_itself(alone)
    words = finished(together)
    assert "2 processes with 1 of 2 samples each" in words
    assert words.count("Model: ") == 1  # one process prints
    runs = [work.run("default", "3d_fullres", "0") for work in (planned, alone)]
    assert weights_differ_by(*runs) < 1e-5
    assert runs[0].metrics.read_text().count("\n") == 1
    for work in (planned, alone):  # a state of two processes is one of one process
        train(work, epochs=2, device="cpu", precision="float32", workers=0, progress=SilentProgress())
    assert weights_differ_by(*runs) < 1e-4
    assert read_record(runs[0].settings, TrainSettings).epochs == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_one_process_that_dies_ends_all_with_its_name(planned: Workspace) -> None:
    quicken(planned, 4)
    by_itself(planned)
    process = autoseg(planned, "--epochs", "5000", "--gpus", "2", *SETTINGS)  # goes on from a state of one process
    metrics = planned.run("default", "3d_fullres", "0").metrics
    deadline = time.monotonic() + 120
    while len(metrics.read_text().splitlines()) < 3:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    other = next(child for child in children if "resource_tracker" not in " ".join(child.cmdline()))
    os.kill(other.pid, signal.SIGKILL)
    words, _ = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "process 1 of 2 has ended" in words
    assert "Traceback" not in words
    assert not psutil.wait_procs(children, timeout=5)[1]


def test_what_does_not_go_together_is_refused(planned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with company(None, "cpu") as (ranks, device):
        assert (ranks, device) == (ALONE, "cpu")
    with pytest.raises(UsageError, match=r"cannot share --device cuda:1|there is no device"):
        device_of(Place(0, 2, 0, 2), "cuda:1")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="--gpus needs GPUs"), company(2, "auto"):
            pass
    with pytest.raises(UsageError, match=r"has 2 samples, too few for 3 processes.*batch_size=3"):
        train(planned, ranks=Ranks(Place(0, 3, 0, 3)), device="cpu", progress=SilentProgress())
    assert launched_place() is None
    for name, value in {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert launched_place() == Place(1, 4, 1, 2)
    with pytest.raises(UsageError, match="exclude each other"), company(2, "cpu"):
        pass
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    with pytest.raises(UsageError, match="LOCAL_WORLD_SIZE"):
        launched_place()
