"""The prepared store: one folder per case, compressed in chunks, written as a whole and checked when read.

    <store>/<case>/image.b2nd      float32 (C, Z, Y, X)
                   labels.b2nd     int16 (Z, Y, X); absent without labels
                   locations.b2nd  int32 (N, 3): the voxels of all names, one after the other
                   case.json       StoredEntry

An entry is written aside as a folder and renamed, so a folder under a case's name is complete. Its record carries its
own checksum, and size, time and checksum of every file beside it. `is_current` compares sizes and times, and reads a
file only where its time has changed; `read_case` reads and checks everything.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from autoseg.files import (
    ASIDE_PREFIX,
    aside_name,
    disk_full,
    file_hash,
    is_disk_full,
    why_not_written,
    written_aside,
)
from autoseg.preprocessing.chunks import chunks_and_blocks
from autoseg.preprocessing.entry import (
    RECORD_NAME,
    SourceFile,
    StoredEntry,
    StoredFile,
    StoreError,
    damaged,
    entry_folder,
    read_entry,
    sources_of,
)
from autoseg.records import Case, Placement, PreparedCase, Shape

_IMAGE, _LABELS, _LOCATIONS = "image.b2nd", "labels.b2nd", "locations.b2nd"

#: Fast to unpack, for training reads much more often than preparing writes; the shuffled bytes of floats pack better.
_COMPRESSION = {"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}

#: Seconds after which a half-written entry has been given up by whoever began it.
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True, eq=False)
class StoredCase:
    """A prepared case on disk of which patches are read; only the chunks that a patch touches are unpacked."""

    case: str
    channels: int
    placement: Placement
    locations: Mapping[str, NDArray[np.int32]]  # foreground name -> (N, 3)
    _image: Any  # blosc2.NDArray
    _labels: Any | None
    # the library unpacks through one buffer per open array: threads that read the same case take turns
    _lock: Lock = field(default_factory=Lock, repr=False)

    @property
    def shape(self) -> Shape:
        """Prepared shape (Z, Y, X)."""
        return self.placement.prepared_shape

    def read_patch(self, box: tuple[slice, slice, slice]) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        """Image (C, z, y, x) and labels (z, y, x) of a box that lies within the volume.

        Raises StoreError if a chunk cannot be unpacked or the case has no labels.
        """
        if self._labels is None:
            raise StoreError("was prepared without labels", where=f"prepared case {self.case}")
        try:
            with self._lock:
                return self._image[(slice(None), *box)], self._labels[box]
        except (RuntimeError, OSError, ValueError) as error:
            raise damaged(Path(self._image.urlpath), str(error)) from error

    def read_labels(self) -> NDArray[np.int16]:
        """All labels (Z, Y, X). Raises StoreError as `read_patch`."""
        if self._labels is None:
            raise StoreError("was prepared without labels", where=f"prepared case {self.case}")
        try:
            with self._lock:
                labels: NDArray[np.int16] = self._labels[...]
        except (RuntimeError, OSError, ValueError) as error:
            raise damaged(Path(self._labels.urlpath), str(error)) from error
        return labels


# --------------------------------------------------------------------------------------------------------- writing


def write_case(folder: Path, prepared: PreparedCase, source: Case, patch_hint: Shape) -> None:
    """Write the entry of a prepared case; `patch_hint` (Z, Y, X) sets the size of the chunks.

    An entry that is current already is left alone: another process was faster. To replace a damaged one, call
    `remove_case` first. Raises DiskFullError where there is no room.
    """
    entry = entry_folder(folder, prepared.case)
    if is_current(folder, source):
        return
    sources = sources_of(source)
    remove_case(folder, prepared.case)
    try:
        _write_entry(entry, prepared, sources, patch_hint)
    except FileNotFoundError:
        # somebody took it for abandoned: a clock that was set makes files look old (`remove_abandoned`)
        _write_entry(entry, prepared, sources, patch_hint)
    except RuntimeError as error:  # how blosc2 reports that a file could not be written
        cause = why_not_written(folder, prepared.image.nbytes)
        if cause is not None and is_disk_full(cause):
            raise disk_full(entry, cause=cause) from error
        raise
    except OSError as error:
        # two processes prepared the same case and the other one was first to rename
        taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EPERM)
        if not (taken and is_current(folder, source)):
            raise


def _write_entry(entry: Path, prepared: PreparedCase, sources: tuple[SourceFile, ...], patch_hint: Shape) -> None:
    with written_aside(entry) as aside:
        aside.mkdir()
        _fill(aside, prepared, sources, patch_hint)


def _fill(aside: Path, prepared: PreparedCase, sources: tuple[SourceFile, ...], patch_hint: Shape) -> None:
    """Write the files of an entry into its temporary folder."""
    _write_array(aside / _IMAGE, prepared.image, patch_hint)
    if prepared.labels is not None:
        _write_array(aside / _LABELS, prepared.labels, patch_hint)
    voxels = [np.asarray(found, dtype=np.int32).reshape(-1, 3) for found in prepared.locations.values()]
    if sum(len(found) for found in voxels):
        _write_array(aside / _LOCATIONS, np.concatenate(voxels), None)
    record = StoredEntry(
        case=prepared.case,
        placement=prepared.placement,
        channels=prepared.image.shape[0],
        locations={name: len(found) for name, found in zip(prepared.locations, voxels, strict=True)},
        files={path.name: _stored_file(path) for path in sorted(aside.iterdir())},
        sources=sources,
    )
    (aside / RECORD_NAME).write_text(record.signed().model_dump_json(), encoding="utf-8")


def _stored_file(path: Path) -> StoredFile:
    status = path.stat()
    return StoredFile(bytes=status.st_size, modified_ns=status.st_mtime_ns, sha256=file_hash(path))


def _write_array(path: Path, array: NDArray[Any], patch_hint: Shape | None) -> None:
    contiguous = np.ascontiguousarray(array)
    layout = {} if patch_hint is None else chunks_and_blocks(array.shape, patch_hint, array.itemsize)
    blosc2.asarray(contiguous, urlpath=str(path), mode="w", cparams=_COMPRESSION, **layout)


def remove_case(folder: Path, case_id: str) -> None:
    """Remove an entry, if there is one: out of sight at once, then deleted."""
    entry = entry_folder(folder, case_id)
    aside = aside_name(entry)
    try:
        os.replace(entry, aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed left half written."""
    limit = time.time() - _ABANDONED_SECONDS
    with suppress(FileNotFoundError):
        for path in folder.glob(f"{ASIDE_PREFIX}*"):
            with suppress(OSError):
                if path.stat().st_mtime < limit:
                    shutil.rmtree(path, ignore_errors=True)


# --------------------------------------------------------------------------------------------------------- reading


def is_current(folder: Path, case: Case) -> bool:
    """Whether there is an undamaged entry made from the case's files as they are now.

    Reads the record, and of the arrays only those whose time is not the one at which they were written: they may have
    been damaged since, or merely copied.
    """
    entry = entry_folder(folder, case.id)
    try:
        record = read_entry(folder, case.id, check=False)
        return record.sources == sources_of(case) and all(
            _is_untouched(entry / name, file) for name, file in record.files.items()
        )
    except (StoreError, FileNotFoundError):
        return False


def _is_untouched(path: Path, file: StoredFile) -> bool:
    if path.stat().st_mtime_ns == file.modified_ns:
        return True
    if file_hash(path) != file.sha256:
        return False
    with suppress(OSError):  # a folder that may only be read is checked again the next time
        os.utime(path, ns=(file.modified_ns, file.modified_ns))
    return True


def read_case(folder: Path, case_id: str) -> PreparedCase:
    """The whole prepared case in memory, every file checked against its checksum; StoreError if one is damaged."""
    record = read_entry(folder, case_id, check=True)
    entry = entry_folder(folder, case_id)
    image = _open_array(entry / _IMAGE)[...]
    labels = _open_array(entry / _LABELS)[...] if _LABELS in record.files else None
    return PreparedCase(case_id, image, labels, _read_locations(entry, record), record.placement)


def open_case(folder: Path, case_id: str, *, check: bool = False) -> StoredCase:
    """The prepared case for reading patches; arrays stay on disk.

    Raises StoreError if a file is missing or cut short; with `check` also if a checksum does not fit, which means
    reading every file once.
    """
    record = read_entry(folder, case_id, check=check)
    entry = entry_folder(folder, case_id)
    labels = _open_array(entry / _LABELS) if _LABELS in record.files else None
    return StoredCase(
        case_id,
        record.channels,
        record.placement,
        _read_locations(entry, record),
        _open_array(entry / _IMAGE),
        labels,
    )


def stored_hashes(folder: Path, case_id: str) -> dict[str, str]:
    """Checksum of each array of an entry, by file name, as its record tells it. Raises StoreError as `open_case`."""
    record = read_entry(folder, case_id, check=False)
    return {name: file.sha256 for name, file in record.files.items()}


def _read_locations(entry: Path, record: StoredEntry) -> dict[str, NDArray[np.int32]]:
    ends = np.cumsum(list(record.locations.values()), dtype=np.int64)
    voxels = np.zeros((0, 3), dtype=np.int32)
    if _LOCATIONS in record.files:
        voxels = _open_array(entry / _LOCATIONS)[...]
    parts: Sequence[NDArray[np.int32]] = np.split(voxels, ends[:-1]) if len(ends) else []
    return dict(zip(record.locations, parts, strict=True))


def _open_array(path: Path) -> Any:
    try:
        return blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
    except (RuntimeError, OSError, ValueError) as error:
        raise damaged(path, str(error)) from error
