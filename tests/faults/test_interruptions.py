"""Commands that are killed, stopped, started again or at the same time, and devices that are not there."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from autoseg.files import ASIDE_PREFIX, file_hash
from autoseg.records import Configuration
from autoseg.training.checkpoint import read_state, require_intact

from .builders import Planned, Typed, a_ball, a_dataset, image_of, load, save, untrained
from .catalog import fault
from .children import Child, Limits

PLAN = "plan data --no-probe --workers 1"
TRAIN = "train --workers 1 --device cpu --seed 1"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forked processes and signals of POSIX")


def run_folder(here: Path, fold: int = 0) -> Path:
    return here / "autoseg-work" / "runs" / "default" / "3d_fullres" / f"fold_{fold}"


def rates(here: Path) -> list[float]:
    lines = (run_folder(here) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["learning_rate"] for line in lines]


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(f"{ASIDE_PREFIX}*")]


@fault(
    45,
    "no room for a prepared case, a saved state or a mask",
    "no half file under its name; what was saved before is loadable; the message says what is needed and what is free, "
    "and the same command goes on later",
)
def test_nothing_is_half_written_where_there_is_no_room(
    here: Path, typed: Typed, planned: Planned, model: Path
) -> None:
    a_dataset(here / "data", 3)
    assert planned().code == 0
    full = Child(here, "prepare --workers 1", limits=Limits(file_bytes=4000))
    assert full.end() == 1
    assert "no room to write it" in full.said
    assert not list((here / "autoseg-work" / "prepared").rglob("case.json"))
    assert not leftovers(here)

    assert typed(f"{TRAIN} --epochs 1").code == 0
    full = Child(here, f"{TRAIN} --epochs 3", limits=Limits(file_bytes=60_000))
    assert full.end() == 1
    assert "MB are needed, and no file may be so large here" in full.said
    assert "Traceback" not in full.said
    assert read_state(run_folder(here) / "state.safetensors").step > 0
    assert not leftovers(run_folder(here))
    assert typed(f"{TRAIN} --epochs 3").code == 0

    full = Child(here, "predict data/imagesTr masks --model", model, limits=Limits(file_bytes=60))
    assert full.end() == 1
    assert not list(here.glob("masks/*.nii.gz"))
    assert not leftovers(here)
    assert typed("predict data/imagesTr masks --model", model).code == 0


@fault(
    46,
    "the power fails, or `kill -9`, while a state is being saved",
    "the state saved before is used by itself, and the run ends as an undisturbed one, bit for bit",
)
def test_a_kill_while_saving_loses_nothing(here: Path, typed: Typed, planned: Planned) -> None:
    a_dataset(here / "data", 3)
    assert planned().code == 0
    assert Child(here, f"{TRAIN} --epochs 3").end() == 0
    wanted, wanted_rates = file_hash(run_folder(here) / "model.safetensors"), rates(here)
    log = (run_folder(here) / "metrics.jsonl").read_text().splitlines()
    saved = {0, *(json.loads(line)["step"] for line in log)}  # a state is saved at first, and after each epoch
    run_folder(here).rename(here / "undisturbed")
    killed, state = 0, run_folder(here) / "state.safetensors"
    for _ in range(20):
        child = Child(here, f"{TRAIN} --epochs 3")
        if child.wait_for(lambda: state.exists() and any(state.parent.glob(f"{ASIDE_PREFIX}*-{state.name}"))):
            before = read_state(state).step
            child.kill()
            child.end()
            killed += 1
            require_intact(state)
            assert read_state(state).step >= before
            assert read_state(state).step in saved
        child.end()
        if killed == 2:
            break
    assert killed == 2
    assert Child(here, f"{TRAIN} --epochs 3").end() == 0
    assert file_hash(run_folder(here) / "model.safetensors") == wanted
    assert rates(here) == wanted_rates
    assert not leftovers(run_folder(here))


@fault(
    47,
    "a byte that flipped in a prepared case",
    "its checksum tells; that case alone is prepared anew, and training goes on",
)
def test_flipped_bytes_are_noticed(here: Path, typed: Typed, planned: Planned) -> None:
    a_dataset(here / "data")
    assert planned().code == 0
    assert typed("prepare --workers 1").code == 0
    (image,) = (here / "autoseg-work" / "prepared").glob("*/case_2/image.b2nd")
    others = {path: path.stat().st_mtime_ns for path in image.parents[1].glob("case_[0134]/image.b2nd")}
    sound, times = image.read_bytes(), image.stat().st_mtime_ns
    flipped = bytearray(sound)
    flipped[len(flipped) // 2] ^= 1
    image.write_bytes(flipped)
    os.utime(image, ns=(times, times))  # a failing disk leaves the time as it was
    said = typed(f"{TRAIN} --epochs 1")
    assert said.code == 0
    assert "case_2" in said.text
    assert "it is prepared anew" in said.text
    assert image.read_bytes() == sound
    assert {path: path.stat().st_mtime_ns for path in others} == others


@fault(
    48,
    "several folds started in the same second, with nothing prepared",
    "all of them end well; no case is read half-written",
)
def test_folds_may_start_together(here: Path, typed: Typed, planned: Planned) -> None:
    a_dataset(here / "data", 3)
    assert planned().code == 0
    children = [Child(here, f"{TRAIN} --epochs 1 --fold {number}") for number in range(3)]
    for number, child in enumerate(children):
        assert child.end() == 0, child.said
        assert (run_folder(here, number) / "summary.json").exists()
    assert len(list((here / "autoseg-work" / "prepared").glob("*/case_*/case.json"))) == 3
    assert not leftovers(here)


@fault(
    49,
    "a run that is started again: with no state, after its end, with another number of epochs; used before its end",
    "it begins anew; it says that all is done; it goes on and is made longer, never shorter; predicting says what to "
    "train first",
)
def test_every_way_to_start_again_is_defined(here: Path, typed: Typed, planned: Planned, trained: Path) -> None:
    a_dataset(here / "data", 3)
    assert planned().code == 0
    early = typed("predict data/imagesTr masks")
    assert early.code == 1
    assert "nothing was trained here yet" in early.text
    assert "autoseg train --fold 0" in early.text

    assert typed(f"{TRAIN} --epochs 2").code == 0
    for name in ("state.safetensors", "model.safetensors", "before_ending.safetensors", "summary.json"):
        (run_folder(here) / name).unlink(missing_ok=True)
    again = typed(f"{TRAIN} --epochs 2")
    assert again.code == 0
    assert len(rates(here)) == 2

    before = file_hash(run_folder(here) / "model.safetensors")
    done = typed(f"{TRAIN} --epochs 2")
    assert done.code == 0
    assert "is trained and scored" in done.text
    assert file_hash(run_folder(here) / "model.safetensors") == before
    shorter = typed(f"{TRAIN} --epochs 1")
    assert shorter.code == 1
    assert "it can be made longer, not shorter" in shorter.text
    assert file_hash(run_folder(here) / "model.safetensors") == before
    longer = typed(f"{TRAIN} --epochs 4")
    assert longer.code == 0
    assert "Made longer: going on from step" in longer.text
    assert len(rates(here)) == 4


@fault(
    50,
    "`predict` is killed while it writes, and started again",
    "only masks that are complete are left alone; half ones never had the name of a mask",
)
def test_a_killed_prediction_goes_on(here: Path, typed: Typed, model: Path) -> None:
    for number in range(8):
        save(here / "images" / f"case_{number}.nii.gz", a_ball(number, (24, 26, 22))[0])
    assert Child(here, "predict images wanted --no-mirror --model", model).end() == 0
    child = Child(here, "predict images masks --no-mirror --model", model)
    assert child.wait_for(lambda: len(list(here.glob("masks/case_*.nii.gz"))) >= 2)
    child.kill()
    assert child.end() == -signal.SIGKILL
    kept = {path.name: path.stat().st_mtime_ns for path in here.glob("masks/case_*.nii.gz")}
    assert 2 <= len(kept) < 8
    known = json.loads((here / "masks" / "predictions.json").read_text())["masks"]
    said = typed("predict images masks --no-mirror --model", model)
    assert said.code == 0
    assert f"{len(known)} were there already" in said.text
    for number in range(8):
        mask, wanted = (here / name / f"case_{number}.nii.gz" for name in ("masks", "wanted"))
        assert mask.read_bytes() == wanted.read_bytes()
    for name in known:
        assert (here / "masks" / f"{name}.nii.gz").stat().st_mtime_ns == kept[f"{name}.nii.gz"]


def epochs_made(here: Path) -> int:
    """Lines of the log of the run."""
    log = run_folder(here) / "metrics.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


@fault(
    51,
    "SIGTERM and Ctrl-C",
    "the state is saved and no process is left; the first Ctrl-C in a training brings it to a good end, a second one "
    "stops it",
)
def test_signals_end_commands_cleanly(here: Path, typed: Typed, planned: Planned) -> None:
    a_dataset(here / "data")
    assert planned().code == 0
    child = Child(here, f"{TRAIN} --epochs 400")
    assert child.wait_for(lambda: epochs_made(here) >= 2)
    child.kill(signal.SIGTERM)
    assert child.end() == 143
    step = read_state(run_folder(here) / "state.safetensors").step
    assert step >= 8
    assert not (run_folder(here) / "model.safetensors").exists()
    assert not (run_folder(here) / "running.lock").exists()

    before = epochs_made(here)
    child = Child(here, f"{TRAIN} --epochs 400")
    assert child.wait_for(lambda: "going on after epoch" in child.said and epochs_made(here) >= max(20, before + 2))
    child.kill(signal.SIGINT)
    assert child.wait_for(lambda: "Asked to end by Ctrl-C" in child.said)
    child.kill(signal.SIGINT)
    assert child.end() == 130
    assert read_state(run_folder(here) / "state.safetensors").step > step
    assert "Interrupted. The same command goes on from what is done." in child.said


def test_workers_end_with_the_command(here: Path) -> None:
    a_dataset(here / "data", 20)
    child = Child(here, "plan data --no-probe --workers 2")
    assert child.wait_for(lambda: len(child.descendants()) >= 2)
    workers = child.descendants()
    child.kill(signal.SIGTERM)
    assert child.end() == 143
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@fault(
    52,
    "scores that are not finite in half precision, or at all",
    "those tiles are computed again in full precision; where that does not help the case fails by name, and no other",
)
def test_scores_that_are_not_finite_are_computed_again(here: Path, typed: Typed, work: Path) -> None:
    images = here / "images"
    for number in range(2):
        save(images / f"case_{number}.nii.gz", a_ball(number)[0])

    def too_large(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        first = next(name for name, tensor in tensors.items() if tensor.ndim == 5)
        return {**tensors, first: tensors[first] * 1e6}

    loud = untrained(work, here / "loud.safetensors", weights=too_large)
    for precision in ("float32", "float16"):
        assert typed(f"predict images {precision} --no-mirror --precision {precision} --model", loud).code == 0
    for number in range(2):
        one, other = (load(here / name / f"case_{number}.nii.gz") for name in ("float32", "float16"))
        assert np.array_equal(one, other)

    def unscaled(entry: Configuration) -> Configuration:
        return entry.model_copy(
            update={"preparation": entry.preparation.model_copy(update={"normalization": ("NoNormalization",)})}
        )

    plain = untrained(work, here / "plain.safetensors", change=unscaled)
    save(images / "huge.nii.gz", np.where(a_ball(3)[1] > 0, 3e38, 1).astype(np.float32))
    said = typed("predict images masks --model", plain)
    assert said.code == 2
    assert json.loads((here / "masks" / "failures.json").read_text()).keys() == {"huge"}
    assert "the network's scores are not finite" in said.text
    assert len(list(here.glob("masks/case_*"))) == 2


@fault(
    53,
    "no GPU, although one is asked for or usual",
    "without `--device` the CPU is used, and the time that it will take is told; a device that was named and is not "
    "there is an error",
)
def test_without_a_gpu_the_cpu_is_used(here: Path, typed: Typed, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    save(here / "a.nii.gz", a_ball(1)[0])
    said = typed("predict a.nii.gz masks --model", model)
    assert said.code == 0
    assert "about" in said.text
    asked = typed("predict a.nii.gz others --device cuda --model", model)
    assert asked.code == 1
    assert "there is no device 'cuda' here" in asked.text
    assert "Leave --device out to use what there is" in asked.text


@fault(54, "`torch.compile` or Triton is missing", "they are not needed")
def test_nothing_is_compiled(
    here: Path, typed: Typed, planned: Planned, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_words: object, **_options: object) -> None:
        raise RuntimeError("Cannot find a working triton installation")

    monkeypatch.setattr(torch, "compile", missing)
    monkeypatch.setitem(sys.modules, "triton", None)
    data = a_dataset(here / "data", 3)
    assert planned().code == 0
    assert typed(f"{TRAIN} --epochs 1").code == 0
    assert typed("predict", image_of(data), "masks", "--model", model).code == 0
