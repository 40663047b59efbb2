"""What this process may use of the machine: memory and cores, within the limits of a container or a scheduler's job.

Linux keeps such limits in control groups (https://docs.kernel.org/admin-guide/cgroup-v2.html, and `cgroup-v1/`).
Groups form a tree, and the limits of all parents hold too. /proc/self/cgroup tells the groups of a process,
/proc/self/mountinfo where their files are; in a container the mounted part may begin below the top of the tree.

The `root` of every function is the folder in which /proc and the like are found.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

#: Share of the free memory that one training step may take: training keeps its cases in the rest (training.cases).
STEP_SHARE = 0.6

#: Seconds that Python takes at most until it comes here.
LONGEST_START = 30.0

_LOADED = time.monotonic()

_ROOT = Path("/")

#: Files of a group with its limit and use of memory, and the line of memory.stat with the pages of files that were read
#: and are not in use: they count as used, and are given back as soon as somebody asks for memory.
_MEMORY_FILES = {
    "cgroup2": ("memory.max", "memory.current", "inactive_file"),
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def total_memory(root: Path = _ROOT) -> int:
    """Bytes of main memory that processes here may take, used or not."""
    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _group_memory(root))])


def free_memory(root: Path = _ROOT) -> int:
    """Bytes of main memory that may still be taken, as the machine and the groups of this process stand."""
    rooms = [limit - used for limit, used in _group_memory(root)]
    return max(0, min([int(psutil.virtual_memory().available), *rooms]))


def usable_memory() -> int:
    """Bytes of main memory that a training step may take at this moment."""
    return int(STEP_SHARE * free_memory())


def own_memory() -> int:
    """Bytes of memory that belong to this process alone: files that it maps, such as libraries, do not count."""
    taken = psutil.Process().memory_info()
    return int(taken.rss - getattr(taken, "shared", 0))


def process_seconds() -> float:
    """Wall time since this process was started; a clock that was set since counts for LONGEST_START at most."""
    told = time.time() - float(psutil.Process().create_time())
    return min(max(0.0, told), time.monotonic() - _LOADED + LONGEST_START)


def available_cores(root: Path = _ROOT) -> int:
    """Cores this process may use: what it is bound to, and no more than pay under a quota of processor time."""
    return max(1, min([_bound_cores(), *map(math.ceil, _group_cores(root))]))


def under_quota(root: Path = _ROOT) -> bool:
    """Whether a quota of processor time pays for fewer cores than this process is bound to."""
    return available_cores(root) < _bound_cores()


def _bound_cores() -> int:
    with suppress(AttributeError, OSError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _group_memory(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and bytes in use of each group of this process that has a limit."""
    for version, folder in _groups("memory", root):
        limit_file, used_file, reclaimable = _MEMORY_FILES[version]
        with suppress(OSError, ValueError):  # a limit of "max" is none
            limit, used = (int((folder / name).read_text()) for name in (limit_file, used_file))
            yield limit, max(0, used - _statistic(folder / "memory.stat", reclaimable))


def _statistic(path: Path, wanted: str) -> int:
    for line in _lines(path):
        name, _, count = line.partition(" ")
        if name == wanted:
            return int(count)
    return 0


def _group_cores(root: Path) -> Iterator[float]:
    """Quota of processor time of each group of this process that has one, in cores."""
    for version, folder in _groups("cpu", root):
        with suppress(OSError, ValueError):  # a quota of "max" is none
            if version == "cgroup2":
                quota, period = map(int, (folder / "cpu.max").read_text().split())
            else:
                quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            if quota > 0 and period > 0:  # version 1 tells of none as -1
                yield quota / period


def _groups(controller: str, root: Path) -> Iterator[tuple[str, Path]]:
    """Version and folder of the group of this process, and of its parents as far as they are to be seen."""
    own = _own_groups(_lines(root / "proc/self/cgroup"))
    for version, controllers, top, place in _mounts(_lines(root / "proc/self/mountinfo")):
        path = own.get("" if version == "cgroup2" else controller)
        if path is None or (version == "cgroup" and controller not in controllers):
            continue
        folder, below = root / place.lstrip("/"), _below(path, top)
        for depth in range(len(below), -1, -1):
            yield version, folder.joinpath(*below[:depth])


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return []


def _own_groups(listing: list[str]) -> dict[str, str]:
    """Controller to path, of lines "4:cpu,cpuacct:/path"; version 2 names no controller, and stands under ""."""
    found: dict[str, str] = {}
    for line in listing:
        parts = line.split(":", 2)
        if len(parts) == 3:
            found |= dict.fromkeys(parts[1].split(","), parts[2])
    return found


def _mounts(listing: list[str]) -> Iterator[tuple[str, list[str], str, str]]:
    """Version, controllers, the group at the top, and the place of each mounted tree (man 5 proc: mountinfo)."""
    for line in listing:
        mounted, _, source = line.partition(" - ")
        version, options = source.split(" ")[0], source.split(" ")[-1]
        if version in _MEMORY_FILES:
            top, place = mounted.split(" ")[3:5]
            yield version, options.split(","), top, place.replace("\\040", " ")


def _below(path: str, top: str) -> tuple[str, ...]:
    """The folders from the top of what is mounted down to a group; none where the group is not to be seen."""
    with suppress(ValueError):
        below = PurePosixPath(path).relative_to(top).parts
        if ".." not in below:
            return below
    return ()
