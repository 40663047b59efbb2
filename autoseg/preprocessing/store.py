"""The prepared store: one folder per case, compressed in chunks, written as a whole and checked when read.

    <store>/<case>/image.b2nd      float32 (C, Z, Y, X)
                   labels.b2nd     int16 (Z, Y, X); absent without labels
                   locations.b2nd  int32 (N, 3): the voxels of all names, one after the other
                   case.json       StoredEntry

An entry is written aside as a folder and renamed, so a folder under a case's name is complete. It remembers size and
time of the files that it was made from: `is_current` compares them, which costs no reading of arrays.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from autoseg.errors import AutosegError, RecordError
from autoseg.files import aside_name, disk_full, file_hash, read_record, written_aside
from autoseg.preprocessing.chunks import chunks_and_blocks
from autoseg.records import Case, Placement, PreparedCase, Record, Shape

RECORD_NAME = "case.json"
_IMAGE, _LABELS, _LOCATIONS = "image.b2nd", "labels.b2nd", "locations.b2nd"

#: Fast to unpack, for training reads much more often than preparing writes; the shuffled bytes of floats pack better.
_COMPRESSION = {"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}


class StoreError(AutosegError):
    """A prepared entry that is missing or damaged."""


class StoredFile(Record):
    """One array file of an entry."""

    bytes: int
    sha256: str


class SourceFile(Record):
    """What a file looked like when the entry was made from it."""

    name: str
    bytes: int
    modified_ns: int


class StoredEntry(Record):
    """What an entry says of itself."""

    format: int = 1
    case: str
    placement: Placement
    channels: int
    locations: dict[str, int]  # name -> number of voxels, in the order in which they are stored
    files: dict[str, StoredFile]
    sources: tuple[SourceFile, ...]


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
            raise _damaged(Path(self._image.urlpath), str(error)) from error


# --------------------------------------------------------------------------------------------------------- writing


def write_case(folder: Path, prepared: PreparedCase, source: Case, patch_hint: Shape) -> None:
    """Write the entry of a prepared case; `patch_hint` (Z, Y, X) sets the size of the chunks.

    An entry that is current already is left alone: another process was faster. To replace a damaged one, call
    `remove_case` first. Raises DiskFullError where there is no room.
    """
    entry = entry_folder(folder, prepared.case)
    if is_current(folder, source):
        return
    sources = _stamp(source)
    remove_case(folder, prepared.case)
    try:
        with written_aside(entry) as aside:
            aside.mkdir()
            _fill(aside, prepared, sources, patch_hint)
    except RuntimeError as error:  # how blosc2 reports that a file could not be written
        if shutil.disk_usage(folder).free < prepared.image.nbytes:
            raise disk_full(entry) from error
        raise
    except OSError as error:
        # two processes prepared the same case and the other one was first to rename
        taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EPERM)
        if not (taken and is_current(folder, source)):
            raise


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
        files={
            path.name: StoredFile(bytes=path.stat().st_size, sha256=file_hash(path)) for path in sorted(aside.iterdir())
        },
        sources=sources,
    )
    (aside / RECORD_NAME).write_text(record.model_dump_json(), encoding="utf-8")


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


# --------------------------------------------------------------------------------------------------------- reading


def is_current(folder: Path, case: Case) -> bool:
    """Whether there is a complete entry made from the case's files as they are now. Reads no array."""
    entry = entry_folder(folder, case.id)
    try:
        record = read_record(entry / RECORD_NAME, StoredEntry)
        sizes_fit = all((entry / name).stat().st_size == file.bytes for name, file in record.files.items())
        return sizes_fit and record.sources == _stamp(case)
    except (RecordError, FileNotFoundError):
        return False


def read_case(folder: Path, case_id: str) -> PreparedCase:
    """The whole prepared case in memory, every file checked against its checksum; StoreError if one is damaged."""
    record = _read_entry(folder, case_id, check=True)
    entry = entry_folder(folder, case_id)
    image = _open_array(entry / _IMAGE)[...]
    labels = _open_array(entry / _LABELS)[...] if _LABELS in record.files else None
    return PreparedCase(case_id, image, labels, _read_locations(entry, record), record.placement)


def open_case(folder: Path, case_id: str, *, check: bool = False) -> StoredCase:
    """The prepared case for reading patches; arrays stay on disk.

    Raises StoreError if a file is missing or cut short; with `check` also if a checksum does not fit, which means
    reading every file once.
    """
    record = _read_entry(folder, case_id, check=check)
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


def entry_folder(folder: Path, case_id: str) -> Path:
    """The folder of a case; StoreError for an id that would lead outside the store."""
    if not case_id or case_id in (".", "..") or any(mark in case_id for mark in "/\\:\0"):
        raise StoreError(
            f"the case id {case_id!r} cannot be the name of a folder", remedy="Rename the files of the case."
        )
    return folder / case_id


def _read_entry(folder: Path, case_id: str, check: bool) -> StoredEntry:
    entry = entry_folder(folder, case_id)
    try:
        record = read_record(entry / RECORD_NAME, StoredEntry)
        for name, file in record.files.items():
            path = entry / name
            if path.stat().st_size != file.bytes:
                raise _damaged(path, f"it has {path.stat().st_size} bytes instead of {file.bytes}")
            if check and file_hash(path) != file.sha256:
                raise _damaged(path, "its checksum does not fit")
    except RecordError as error:
        raise _damaged(entry / RECORD_NAME, error.what) from error
    except FileNotFoundError as error:
        raise _damaged(Path(error.filename or entry), "it does not exist") from error
    return record


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
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(
        f"the prepared file is damaged: {why}",
        where=path,
        remedy="Delete the folder it lies in and run the command again: it is made anew.",
    )


def _stamp(case: Case) -> tuple[SourceFile, ...]:
    """Name, size and time of the case's files. Raises FileNotFoundError if one is gone."""
    paths = case.images if case.labels is None else (*case.images, case.labels)
    found = []
    for path in paths:
        status = path.stat()
        found.append(SourceFile(name=path.name, bytes=status.st_size, modified_ns=status.st_mtime_ns))
    return tuple(found)
