"""Saved states: a full disk, a kill while writing, what is left behind."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_builders import tiny_training

from autoseg.errors import DiskFullError, TrainingError
from autoseg.files import ASIDE_PREFIX, remove_leftovers
from autoseg.training.checkpoint import packed_state, read_state
from autoseg.training.loop import Training
from autoseg.training.patches import make_batch

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def trained(tmp_path: Path) -> Training:
    training = tiny_training(tmp_path, epochs=1)
    list(training.epochs())
    return training


def full_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**9, 10**9 - 1234, 1234))


def full_while_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def half(self: Path, content: bytes) -> int:
        write(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)


def full_while_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_path: Path) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("autoseg.files._flush", fails)


@pytest.mark.parametrize("fault", [full_before, full_while_writing, full_while_flushing])
def test_a_full_disk_is_told_with_sizes_and_spares_the_state(
    trained: Training, monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None]
) -> None:
    before = trained.state_path.read_bytes()
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises(DiskFullError, match=r"[\d.]+ MB are needed, [\d.]+ MB are free") as raised:
            trained.save()
    assert "state.safetensors" in str(raised.value)
    assert trained.state_path.read_bytes() == before
    assert {path.name for path in trained.state_path.parent.iterdir()} == {"kept.safetensors", "state.safetensors"}
    trained.save()
    assert read_state(trained.state_path).step == 5


def scaling(training: Training) -> torch.amp.GradScaler:
    """Have the loss scaled as in float16; the scale doubles after every seven steps."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=7)
    training.learner.scaler = scaler
    training.learner._backward = replace(training.learner._backward, scale=scaler.scale)
    return scaler


def test_the_scale_of_float16_goes_on_and_so_does_the_training(tmp_path: Path) -> None:
    first = tiny_training(tmp_path, epochs=2)
    kept = scaling(first)
    list(first.epochs())
    assert (kept.get_scale(), kept.state_dict()["_growth_tracker"]) == (8.0, 3)
    resumed, follower = (tiny_training(tmp_path / name, epochs=2) for name in ("resumed", "follower"))
    scalers = [scaling(resumed), scaling(follower)]
    resumed.learner.load(first.state_path)
    follower.learner.take_over(packed_state(resumed.learner.network, resumed.learner.optimizer, scalers[0]))
    for training, scaler in zip((resumed, follower), scalers, strict=True):
        assert scaler.state_dict() == kept.state_dict()
        batch = make_batch(training.setup.train_cases, training.learner.batches.sampling, 10)
        assert training.learner.step(batch, 10, 1e-3) is not None
        assert scaler.state_dict()["_growth_tracker"] == 4


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{ASIDE_PREFIX}0123-state.safetensors").write_bytes(b"half")
    (tmp_path / f"{ASIDE_PREFIX}4567-folder").mkdir()
    (tmp_path / "state.safetensors").write_bytes(b"whole")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_damaged_state_is_our_error(trained: Training) -> None:
    trained.state_path.write_bytes(trained.state_path.read_bytes()[:100])
    with pytest.raises(TrainingError, match="cannot be read"):
        read_state(trained.state_path)


def test_a_flipped_byte_is_noticed(trained: Training) -> None:
    content = bytearray(trained.state_path.read_bytes())
    content[-200] ^= 1
    trained.state_path.write_bytes(content)
    assert read_state(trained.state_path).step == 5  # counters alone are not compared: they are looked at often
    with pytest.raises(TrainingError, match="the saved state is damaged: its checksum is"):
        trained.learner.load(trained.state_path)
