"""Limits of containers and jobs. The trees under /proc and /sys are written as Linux, Docker and Slurm have them."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from autoseg import devices, machine
from autoseg.machine import available_cores, free_memory, own_memory, total_memory, under_quota, usable_memory

GB = 2**30
UNLIMITED_V1 = 9223372036854771712

V2_MOUNT = "29 23 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime shared:8 master:2 - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 GB, 50 of them free, with 32 cores."""

    class Memory:
        total, available = 64 * GB, 50 * GB

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)), raising=False)


def tree(root: Path, groups: str, mounts: str, files: dict[str, object]) -> Path:
    """A root folder with what a process is told there; `files` are those below /sys/fs/cgroup."""
    told = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts}
    told |= {f"sys/fs/cgroup/{name}": content for name, content in files.items()}
    for name, content in told.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="utf-8")
    return root


def group_v2(folder: str, limit: object, used: int, inactive: int = 0) -> dict[str, object]:
    return {
        f"{folder}memory.max": limit,
        f"{folder}memory.current": used,
        f"{folder}memory.stat": f"anon 1\nfile {inactive + 5}\nactive_file 5\ninactive_file {inactive}\nslab 2",
    }


def group_v1(folder: str, limit: int, used: int, inactive: int = 0) -> dict[str, object]:
    return {
        f"memory/{folder}memory.limit_in_bytes": limit,
        f"memory/{folder}memory.usage_in_bytes": used,
        f"memory/{folder}memory.stat": f"cache 9\ninactive_file 1\ntotal_cache 9\ntotal_inactive_file {inactive}",
    }


def test_without_groups_it_is_the_machine(tmp_path: Path) -> None:
    assert total_memory(tmp_path) == 64 * GB
    assert free_memory(tmp_path) == 50 * GB
    assert available_cores(tmp_path) == 32


def test_docker_with_version_2_shows_its_own_group_at_the_top(tmp_path: Path) -> None:
    files = group_v2("", 8 * GB, 7 * GB, inactive=5 * GB) | {"cpu.max": "200000 100000"}
    root = tree(tmp_path, "0::/", V2_MOUNT.format(top="/"), files)
    assert total_memory(root) == 8 * GB
    assert free_memory(root) == 6 * GB  # what was read from files and is not in use is given back
    assert available_cores(root) == 2


def test_a_job_is_bound_by_the_limits_of_all_its_parents(tmp_path: Path) -> None:
    """Slurm: the limit is the job's, and the process lies three groups below."""
    job = "system.slice/slurmstepd.scope/job_7/"
    files = (
        group_v2(job, 16 * GB, 12 * GB, inactive=GB)
        | group_v2(f"{job}step_0/", 20 * GB, 3 * GB)
        | group_v2(f"{job}step_0/user/task_0/", "max", 3 * GB)
        | {f"{job}cpu.max": "800000 100000", f"{job}step_0/cpu.max": "max 100000"}
        | group_v2("system.slice/slurmstepd.scope/job_8/", GB, 1)  # another's
    )
    root = tree(tmp_path, f"0::/{job}step_0/user/task_0", V2_MOUNT.format(top="/"), files)
    assert total_memory(root) == 16 * GB
    assert free_memory(root) == 5 * GB
    assert available_cores(root) == 8


def test_the_tightest_room_counts_not_the_smallest_limit(tmp_path: Path) -> None:
    files = group_v2("a/", 30 * GB, 29 * GB) | group_v2("a/b/", 8 * GB, 2 * GB)
    root = tree(tmp_path, "0::/a/b", V2_MOUNT.format(top="/"), files)
    assert total_memory(root) == 8 * GB
    assert free_memory(root) == GB


def test_version_1_beside_an_empty_version_2(tmp_path: Path) -> None:
    files = (
        group_v1("", UNLIMITED_V1, 40 * GB)
        | group_v1("slurm/", UNLIMITED_V1, 40 * GB)
        | group_v1("slurm/job_7/", 10 * GB, 9 * GB, inactive=2 * GB)
        | {"cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": 150000, "cpu,cpuacct/slurm/job_7/cpu.cfs_period_us": 100000}
        | {"cpu,cpuacct/cpu.cfs_quota_us": -1, "cpu,cpuacct/cpu.cfs_period_us": 100000}
    )
    groups = "9:memory:/slurm/job_7\n4:cpu,cpuacct:/slurm/job_7\n1:name=systemd:/\n0::/user.slice"
    root = tree(tmp_path, groups, V1_MOUNTS.format(top="/"), files)
    assert total_memory(root) == 10 * GB
    assert free_memory(root) == 3 * GB
    assert available_cores(root) == 2  # one and a half


def test_docker_with_version_1_names_a_path_that_begins_below_the_mount(tmp_path: Path) -> None:
    files = group_v1("", 4 * GB, GB)
    root = tree(tmp_path, "9:memory:/docker/abc\n0::/", V1_MOUNTS.format(top="/docker/abc"), files)
    assert total_memory(root) == 4 * GB
    assert free_memory(root) == 3 * GB


@pytest.mark.parametrize("path", ["/../elsewhere", "/docker/abc"])
def test_a_group_that_is_not_to_be_seen_leaves_what_is(path: str, tmp_path: Path) -> None:
    root = tree(tmp_path, f"0::{path}", V2_MOUNT.format(top="/other"), group_v2("", 4 * GB, GB))
    assert total_memory(root) == 4 * GB


def test_more_in_use_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/", V2_MOUNT.format(top="/"), group_v2("", GB, 2 * GB))
    assert free_memory(root) == 0


@pytest.mark.parametrize("groups", ["", "nonsense", "0::/\n\n:"])
@pytest.mark.parametrize("mounts", ["", "nonsense - \n", V2_MOUNT.format(top="/")])
def test_what_cannot_be_understood_limits_nothing(groups: str, mounts: str, tmp_path: Path) -> None:
    root = tree(tmp_path, groups, mounts, {"memory.max": "?", "memory.current": 5, "cpu.max": "100000"})
    assert total_memory(root) == 64 * GB
    assert free_memory(root) == 50 * GB
    assert available_cores(root) == 32


def test_a_small_quota_leaves_a_core_and_a_large_one_adds_none(tmp_path: Path) -> None:
    for quota, cores in (("5000 100000", 1), ("6400000 100000", 32)):
        root = tree(tmp_path, "0::/", V2_MOUNT.format(top="/"), {"cpu.max": quota})
        assert available_cores(root) == cores
        assert under_quota(root) == (cores < 32)


def test_everything_that_asks_for_memory_asks_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Budget of the planner, workers, and the CPU as a device."""
    from autoseg.hardware import device_budget
    from autoseg.workers.pool import POOL_SHARE, default_workers

    monkeypatch.setattr(machine, "_group_memory", lambda _root: iter([(8 * GB, 3 * GB)]))
    monkeypatch.setattr(machine, "_group_cores", lambda _root: iter([6.0]))
    cpu = devices.choose_device("cpu")
    assert device_budget("cpu").memory_gb == devices.memory_gb(cpu) == 8
    assert device_budget("cpu").cores == 6
    assert devices.free_memory(cpu) == 5 * GB
    assert devices.memory_limit(cpu) == usable_memory() == int(machine.STEP_SHARE * 5 * GB)
    assert default_workers(100, POOL_SHARE * 5 * GB / 2.5) == 2
    assert default_workers(100) == 6


def test_threads_follow_a_quota_but_not_beyond_what_the_library_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(devices.torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(devices.torch, "set_num_threads", asked.append)
    for quota, count in (([2.0], None), ([16.0], None), ([], None), ([2.0], 5)):
        monkeypatch.setattr(machine, "_group_cores", lambda _root, quota=quota: iter(quota))
        devices.use_threads(count)
    assert asked == [2, 8, 5]


def test_own_memory_is_what_was_taken() -> None:
    before = own_memory()
    block = bytearray(200 << 20)
    assert own_memory() - before > 190 << 20
    del block
