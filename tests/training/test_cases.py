from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from autoseg.preprocessing.store import StoredCase, open_case, write_case
from autoseg.records import Case, Geometry, Placement, PreparedCase
from autoseg.training import cases
from autoseg.training.cases import (
    MEMORY_SHARE,
    CaseInMemory,
    CaseOnDevice,
    hold_on_device,
    load_cases,
    room_on_device,
)
from autoseg.training.patches import Sampling, make_batch

CPU = torch.device("cpu")


def prepared(name: str, seed: int) -> PreparedCase:
    rng = np.random.default_rng(seed)
    shape = (11, 9, 10)
    labels = rng.integers(-1, 3, shape).astype(np.int16)
    placement = Placement(
        geometry=Geometry(shape=shape, affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))),
        orientation_axes=(0, 1, 2),
        orientation_flips=(False, False, False),
        axis_order=(0, 1, 2),
        transposed_shape=shape,
        transposed_spacing=(1, 1, 1),
        box=((0, 11), (0, 9), (0, 10)),
        prepared_shape=shape,
        prepared_spacing=(1, 1, 1),
    )
    locations = {"organ": np.argwhere(labels == 1).astype(np.int32)}
    return PreparedCase(name, rng.standard_normal((2, *shape), dtype=np.float32), labels, locations, placement)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "image.nii"
    source.write_bytes(b"x")
    for seed, name in enumerate("abc"):
        write_case(tmp_path / "store", prepared(name, seed), Case(id=name, images=(source,)), (8, 8, 8))
    return tmp_path / "store"


@pytest.mark.parametrize("patch", [(6, 6, 6), (14, 12, 12), (1, 8, 8)])
def test_batches_are_the_same_wherever_the_cases_are_held(folder: Path, patch: tuple[int, int, int]) -> None:
    entry = Sampling(patch, patch, batch_size=4, foreground_share=0.5, has_ignore=False, seed=3)
    in_memory = load_cases(folder, ["a", "b", "c"])
    on_disk = [open_case(folder, name) for name in "abc"]
    held = hold_on_device(in_memory, CPU, room_bytes=10**9)
    assert all(isinstance(case, CaseInMemory) for case in in_memory)
    assert all(isinstance(case, CaseOnDevice) for case in held)
    for step in range(5):
        memory, disk, device = (make_batch(place, entry, step) for place in (in_memory, on_disk, held))
        assert isinstance(device.images, Tensor)
        assert isinstance(device.labels, Tensor)
        for images, labels in ((disk.images, disk.labels), (device.images.numpy(), device.labels.numpy())):
            assert np.array_equal(memory.images, images)
            assert np.array_equal(memory.labels, labels)
        assert device.labels.dtype == torch.int16
    for one, two, three in zip(in_memory, on_disk, held, strict=True):
        assert np.array_equal(one.read_labels(), two.read_labels())
        assert np.array_equal(one.read_labels(), three.read_labels())


ONE = (2 * 4 + 2) * 11 * 9 * 10


def test_as_many_cases_as_fit_are_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = load_cases(folder, ["a", "b"])
    assert hold_on_device(in_memory, CPU, room_bytes=ONE - 1) == in_memory
    some = hold_on_device(in_memory, CPU, room_bytes=2 * ONE - 1)
    assert isinstance(some[0], CaseOnDevice)
    assert some[1] is in_memory[1]
    assert all(isinstance(case, CaseOnDevice) for case in hold_on_device(in_memory, CPU, room_bytes=2 * ONE))
    monkeypatch.setattr(cases, "free_memory", lambda: (2 * ONE) / MEMORY_SHARE + 1)
    kinds = [type(case) for case in load_cases(folder, ["a", "b", "c"])]
    assert kinds == [CaseInMemory, CaseInMemory, StoredCase]
    assert [type(case) for case in load_cases(folder, ["a", "b", "c"], processes=2)][1:] == [StoredCase] * 2
    mixed = hold_on_device(load_cases(folder, ["a", "b", "c"]), CPU, room_bytes=ONE)
    assert [type(case) for case in mixed] == [CaseOnDevice, CaseInMemory, StoredCase]
    entry = Sampling((6, 6, 6), (6, 6, 6), batch_size=6, foreground_share=0.5, has_ignore=False, seed=3)
    on_disk = [open_case(folder, name) for name in "abc"]
    for step in range(3):
        both, disk = make_batch(mixed, entry, step), make_batch(on_disk, entry, step)
        assert len(set(both.cases)) > 1
        assert np.array_equal(torch.as_tensor(both.images).numpy(), disk.images)
        assert np.array_equal(torch.as_tensor(both.labels).numpy(), disk.labels)


def test_cases_on_disk_stay_there(folder: Path) -> None:
    on_disk = [open_case(folder, "a")]
    assert hold_on_device(on_disk, CPU, room_bytes=10**9) == on_disk


def test_a_step_comes_first() -> None:
    assert room_on_device(1000, None) == 100
    assert room_on_device(1000, 400) == 350
    assert room_on_device(1000, 900) == 0
