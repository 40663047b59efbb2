"""An entry of the prepared store: its folder, what it says of itself there, and whether its files are as it says."""

from __future__ import annotations

from pathlib import Path

from autoseg.dataset.readers import files_of
from autoseg.errors import AutosegError, RecordError
from autoseg.files import file_hash, read_record, text_hash
from autoseg.records import Case, Placement, Record

RECORD_NAME = "case.json"


class StoreError(AutosegError):
    """A prepared entry that is missing or damaged."""


class StoredFile(Record):
    """One array file of an entry."""

    bytes: int
    modified_ns: int
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
    checksum: str = ""  # of all other fields

    def signed(self) -> StoredEntry:
        """The record with its checksum."""
        return self.model_copy(update={"checksum": self._own_checksum()})

    @property
    def is_intact(self) -> bool:
        """Whether the checksum is that of the other fields."""
        return self.checksum == self._own_checksum()

    def _own_checksum(self) -> str:
        return text_hash(self.model_copy(update={"checksum": ""}).model_dump_json(), length=16)


def entry_folder(folder: Path, case_id: str) -> Path:
    """The folder of a case; StoreError for an id that would lead outside the store."""
    if not case_id or case_id in (".", "..") or any(mark in case_id for mark in "/\\:\0"):
        raise StoreError(
            f"the case id {case_id!r} cannot be the name of a folder", remedy="Rename the files of the case."
        )
    return folder / case_id


def read_entry(folder: Path, case_id: str, *, check: bool) -> StoredEntry:
    """What an entry says of itself.

    Raises StoreError if a file is missing or cut short; with `check` also if a checksum does not fit, which means
    reading every file once.
    """
    entry = entry_folder(folder, case_id)
    try:
        record = read_record(entry / RECORD_NAME, StoredEntry)
        if not record.is_intact:
            raise damaged(entry / RECORD_NAME, "its checksum does not fit")
        for name, file in record.files.items():
            path = entry / name
            if path.stat().st_size != file.bytes:
                raise damaged(path, f"it has {path.stat().st_size} bytes instead of {file.bytes}")
            if check and file_hash(path) != file.sha256:
                raise damaged(path, "its checksum does not fit")
    except RecordError as error:
        raise damaged(entry / RECORD_NAME, error.what) from error
    except FileNotFoundError as error:
        raise damaged(Path(error.filename or entry), "it does not exist") from error
    return record


def sources_of(case: Case) -> tuple[SourceFile, ...]:
    """Name, size and time of the case's files. Raises FileNotFoundError if one is gone."""
    images = [file for path in case.images for file in files_of(path)]
    found = []
    for path in (*images, *case.label_paths):
        status = path.stat()
        found.append(SourceFile(name=path.name, bytes=status.st_size, modified_ns=status.st_mtime_ns))
    return tuple(found)


def damaged(path: Path, why: str) -> StoreError:
    """The error of a file of an entry."""
    return StoreError(
        f"the prepared file is damaged: {why}",
        where=path,
        remedy="Delete the folder it lies in and run the command again: it is made anew.",
    )
