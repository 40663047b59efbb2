"""Prediction within a budget: every mode gives the same mask, no process is left, and one that dies is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_builders import (
    FATAL_READER,
    expected_mask,
    make_configuration,
    make_header,
    phantom,
    readers_of,
    real_model,
    threshold_tensors,
)

from autoseg.dataset.readers import NIFTI, READERS
from autoseg.errors import PredictionError, WorkerDied
from autoseg.inference import memory, reading
from autoseg.inference.memory import MODES, Mode, budget, case_memory
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import LoadedModel, build_model
from autoseg.inference.reading import CaseReader, LoadedCase
from autoseg.inference.spill import SpillFolder
from autoseg.inference.volume import preparing_of
from autoseg.machine import own_memory
from autoseg.model_file import write_model
from autoseg.records import BEST_PREDICTION, Case, Geometry, PredictLimits, PredictSettings

WriteImage = Callable[..., Path]
EYE = tuple(tuple(float(value) for value in row) for row in np.eye(4))
QUICK = PredictSettings(mirror=False)
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture
def model() -> LoadedModel:
    header = make_header(make_configuration())
    return build_model(header, threshold_tensors(header), torch.device("cpu"), "float32")


def mask_in(mode: Mode, model: LoadedModel, case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    with monkeypatch.context() as patched:
        patched.setattr(memory, "MODES", (mode,))
        (outcome,) = predict_cases(model, [case], folder, limits=PredictLimits(max_ram_bytes=10**12, workers=0))
    return np.asarray(nibabel.load(outcome.unwrap()).dataobj)  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("shape", [(14, 20, 17), (40, 19, 33)])
def test_every_mode_gives_the_same_mask(
    mode: Mode, shape: tuple[int, int, int], write_image: WriteImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    case = Case(id="a", images=(write_image("a.nii.gz", image),))
    model = real_model()
    plain = mask_in(Mode(batch_size=1), model, case, tmp_path / "plain", monkeypatch)
    assert len(np.unique(plain)) >= 2
    np.testing.assert_array_equal(mask_in(mode, model, case, tmp_path / "lean", monkeypatch), plain)
    assert [path.name for path in (tmp_path / "lean").iterdir()] == ["a.nii.gz"]


def test_processes_give_the_same_masks(model: LoadedModel, write_image: WriteImage, tmp_path: Path) -> None:
    cases = [Case(id=f"c{index}", images=(write_image(f"c{index}.nii.gz"),)) for index in range(4)]
    cases[2].images[0].write_bytes(b"no image")
    for workers in (1, 2):
        masks = tmp_path / f"masks{workers}"
        outcomes = list(predict_cases(model, cases, masks, settings=QUICK, limits=PredictLimits(workers=workers)))
        assert [outcome.case.id for outcome in outcomes] == ["c0", "c1", "c2", "c3"]
        assert [outcome.error is None for outcome in outcomes] == [True, True, False, True]
        assert "c2" in str(outcomes[2].error)
        np.testing.assert_array_equal(
            np.asarray(nibabel.load(outcomes[3].unwrap()).dataobj),  # type: ignore[attr-defined]
            expected_mask(phantom()),
        )
        assert sorted(path.name for path in masks.iterdir()) == ["c0.nii.gz", "c1.nii.gz", "c3.nii.gz"]
        assert not readers_of(psutil.Process())


@pytest.mark.parametrize("threshold", [0, 1 << 40])
def test_images_come_through_files_and_pipes_alike(
    threshold: int, model: LoadedModel, write_image: WriteImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FILE_FROM_BYTES", threshold)
    spill = SpillFolder(tmp_path)
    reader = CaseReader(preparing_of(model), 1, spill, lambda words: None)
    loaded = reader.submit(Case(id="a", images=(write_image("a.nii.gz"),)), on_disk=False).result()
    assert isinstance(loaded, LoadedCase)
    np.testing.assert_array_equal(loaded.prepared[0].image[0], _cropped())
    assert isinstance(loaded.prepared[0].image, np.memmap) == (threshold == 0)
    reader.close()
    spill.close()
    assert not list(tmp_path.glob(".aside-*"))


def _cropped() -> np.ndarray:
    """The phantom cropped to what is not zero, in the order of arrays."""
    array = phantom()
    inside = np.argwhere(array != 0)
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    return array[low[0] : high[0], low[1] : high[1], low[2] : high[2]].T


@pytest.fixture
def fatal_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_image: WriteImage) -> Callable[[str], Path]:
    """Writes an image whose reader does to its process what the image's name says."""
    (tmp_path / "fatal_reader.py").write_text(FATAL_READER, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("autoseg.workers.process.imported_plugins", lambda: ("fatal_reader",))
    monkeypatch.setitem(READERS, ".fatal", NIFTI)  # this process only looks at headers; taken back after the test
    return lambda name: write_image(f"{name}.nii").rename(tmp_path / "images" / f"{name}.fatal")


@POSIX
@pytest.mark.parametrize("name", ["once", "always"])
def test_a_killed_reader_is_told_and_its_case_read_again_alone(
    name: str, model: LoadedModel, write_image: WriteImage, fatal_image: Callable[[str], Path], tmp_path: Path
) -> None:
    paths = [write_image("c0.nii.gz"), fatal_image(name), write_image("c2.nii.gz")]
    cases = [Case(id=path.name.split(".")[0], images=(path,)) for path in paths]
    told: list[str] = []
    limits = PredictLimits(workers=1)
    outcomes = list(predict_cases(model, cases, tmp_path / "m", settings=QUICK, limits=limits, tell=told.append))
    assert [outcome.error is None for outcome in outcomes] == [True, name == "once", True]
    assert len(told) == (1 if name == "once" else 2)
    assert told[0] == f"{name}: while it was read, its process was killed (by SIGKILL); it is read once more, alone"
    pids = (tmp_path / "images" / "readings").read_text().split()
    assert len(set(pids)) == 2
    assert str(os.getpid()) not in pids
    if name == "always":
        assert isinstance(outcomes[1].error, WorkerDied)
        assert str(outcomes[1].error).startswith("always: could not be read: its process was killed (by SIGKILL)")
    assert not readers_of(psutil.Process())


@POSIX
def test_stopping_ends_a_reader_that_hangs(
    model: LoadedModel, fatal_image: Callable[[str], Path], tmp_path: Path
) -> None:
    class Stopped(BaseException):
        pass

    def check() -> None:
        if (tmp_path / "images" / "readings").exists():
            raise Stopped

    began = time.monotonic()
    run = predict_cases(
        model,
        [Case(id="hangs", images=(fatal_image("hangs"),))],
        tmp_path / "masks",
        limits=PredictLimits(workers=1),
        check=check,
    )
    with pytest.raises(Stopped):
        list(run)
    assert time.monotonic() - began < 60
    assert not readers_of(psutil.Process())
    assert not list((tmp_path / "masks").glob("*"))


def test_where_no_process_can_be_started_this_one_reads(
    model: LoadedModel, write_image: WriteImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoseg.workers.process.imported_plugins", lambda: ("no_such_module",))
    told: list[str] = []
    case = Case(id="a", images=(write_image("a.nii.gz"),))
    limits = PredictLimits(workers=1)
    (outcome,) = predict_cases(model, [case], tmp_path / "m", settings=QUICK, limits=limits, tell=told.append)
    assert outcome.error is None
    assert "no process could be started for reading" in told[0]


@given(
    shape=st.tuples(*[st.integers(8, 200)] * 3),
    most=st.integers(10**8, 10**10),
    patch=st.sampled_from([(16, 16, 16), (32, 32, 32)]),
)
@settings(deadline=None, max_examples=40)
def test_the_quickest_mode_that_fits_is_taken(shape, most, patch) -> None:
    wide = real_model(patch)
    case = case_memory(wide, Geometry(shape=shape, affine=EYE), BEST_PREDICTION)
    own = budget(PredictLimits(max_ram_bytes=most), own=150_000_000, free=10**10, workers=1)
    fitting = [mode for mode in MODES if own.program + case.alone(mode) <= most]
    if fitting:
        assert own.mode(case) == fitting[0]
    else:
        with pytest.raises(PredictionError, match="of memory at least"):
            own.mode(case)
    sizes = [case.network(mode) for mode in MODES]
    assert sizes == sorted(sizes, reverse=True)


def test_a_case_that_fits_in_no_mode_fails_before_it_is_read(
    model: LoadedModel, write_image: WriteImage, tmp_path: Path
) -> None:
    small, large = write_image("small.nii.gz"), write_image("large.nii.gz", np.zeros((300, 300, 300), np.int16))
    large.write_bytes(large.read_bytes()[:2000])  # the header alone can be read
    cases = [Case(id="small", images=(small,)), Case(id="large", images=(large,))]
    least = own_memory() + memory.SLACK_BYTES + 60_000_000
    limits = PredictLimits(max_ram_bytes=least, workers=0)
    first, second = predict_cases(model, cases, tmp_path / "masks", settings=QUICK, limits=limits)
    assert first.error is None
    told = str(second.error)
    assert "300x300x300 voxels (27 million) of 1x1x1 mm" in told
    assert "--max-ram" in told


PEAK = """
import sys, threading, time
from pathlib import Path
import torch
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import load_models
from autoseg.records import Case, PredictLimits, PredictSettings

def private(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Anonymous:", "Shmem:"))) * 1024

def tree():
    import psutil
    me = psutil.Process()
    total = 0
    for process in (me, *me.children(recursive=True)):
        try:
            total += private(process.pid)
        except (OSError, psutil.Error):
            pass
    return total

def watch():
    while True:
        peak[0] = max(peak[0], tree())
        time.sleep(0.02)

folder, most, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if __name__ == "__main__":
    torch.set_num_threads(1)
    model = load_models([folder / "model.safetensors"], torch.device("cpu"), "float32")
    peak = [0]
    threading.Thread(target=watch, daemon=True).start()
    cases = [Case(id=path.name[:1], images=(path,)) for path in sorted(folder.glob("*.nii.gz"))]
    limits = PredictLimits(max_ram_bytes=most or None, workers=workers)
    for outcome in predict_cases(model, cases, folder / "masks", settings=PredictSettings(mirror=False), limits=limits):
        outcome.unwrap()
    print(peak[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="looks into /proc")
@pytest.mark.parametrize("workers", [0, 1])
def test_memory_stays_below_the_limit(workers: int, tmp_path: Path) -> None:
    """Anonymous and shared memory of all processes; without a limit more would be taken."""
    model = real_model((32, 32, 32), classes=20, features=16)
    (member,) = model.header.members
    write_model(tmp_path / "model.safetensors", model.header, {member.name: model.groups[0].networks[0].state_dict()})
    (tmp_path / "peak.py").write_text(PEAK, encoding="utf-8")
    size = (112, 112, 112)
    image = (
        np.random.default_rng(0).integers(0, 1000, size).astype(np.int16)
    )  # noise: labels have boundaries everywhere
    for name in "abc":
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / f"{name}.nii.gz")  # type: ignore[attr-defined]
    case = case_memory(model, Geometry(shape=size, affine=EYE), QUICK)
    most = 200_000_000 + memory.SLACK_BYTES + workers * memory.READER_BYTES + case.alone(MODES[-1])
    command = [sys.executable, str(tmp_path / "peak.py"), str(tmp_path), str(most), str(workers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    assert int(done.stdout) <= most
