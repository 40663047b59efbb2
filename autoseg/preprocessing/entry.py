"""What an entry of the prepared store says of itself, on disk."""

from __future__ import annotations

from autoseg.files import text_hash
from autoseg.records import Placement, Record


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
